"""How a checkpoint's numbers are stored: read in one place, from what vLLM reads it from.

A checkpoint says how it was quantized under one of three keys of config.json or in a file beside
it, in the words of whichever of a dozen programs made it. Whoever wants to know asks here: what
`bench add` says, whether the engine has the method, what the KV cache takes, what a record keeps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.weights.headers import Gguf, Tensor

# Files beside config.json that say how a checkpoint was quantized, in the order of preference.
MODELOPT_FILE = "hf_quant_config.json"
SIDECARS = (MODELOPT_FILE, "quantize_config.json", "quant_config.json")
_LARGEST_KEPT_BYTES = 64 << 10  # of a configuration in a record; an expert's layers can take 7 MB
_LARGEST_PART_BYTES = 4 << 10  # of a longer one, what is kept of each key
_MOST_KEYS = 100
_MOST_NAMED = 3  # kinds of layers that a name tells apart
_MOST_TEXT = 40  # of a word that a checkpoint brings

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Scheme:
    """How one group of layers is stored and computed.

    Attributes:
        weights: the kind of number, such as FP8, INT4, NVFP4 or Q4_K_M.
        activations: likewise; None where they stay in 16 bits.
        is_dynamic: whether the activations' scales are found while serving, and not stated in the
            checkpoint; None where nothing says.
        group_size: weights of a row that share a scale; None for a whole row or tensor.
        block: rows and columns that share a scale, where it is blocks.
    """

    weights: str
    activations: str | None = None
    is_dynamic: bool | None = None
    group_size: int | None = None
    block: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """In the words of people: "FP8 dynamic", "INT4 weight-only, groups of 128"."""
        words = [self.weights]
        if self.activations is None:
            words.append("weight-only")
        elif self.activations != self.weights:
            words.append(f"with {self.activations} activations")
        # Both 4-bit floats scale their activations by block while serving, whatever they state.
        if self.is_dynamic is not None and self.activations and self.weights not in _BLOCK_FLOATS:
            words.append("dynamic" if self.is_dynamic else "static")
        text = " ".join(words)
        if self.block:
            return f"{text}, blocks of {self.block[0]} x {self.block[1]}"
        if self.group_size and self.weights not in _BLOCK_FLOATS:
            return f"{text}, groups of {self.group_size}"
        return text


_BLOCK_FLOATS = ("NVFP4", "MXFP4", "MXFP6", "MXFP8")  # the group is part of the type


@dataclass(frozen=True)
class Format:
    """How a checkpoint is stored.

    Attributes:
        method: what it calls its method; ModelOpt's with its algorithm, "modelopt NVFP4". None for
            plain floats.
        schemes: one for each group of layers that differ; none where nothing says.
        kv_cache: the type of the KV cache that it brings scales for; None for that of the model.
        place: the file and key that say so.
        doubt: why it cannot be what it says, or None.
    """

    method: str | None
    schemes: tuple[Scheme, ...]
    kv_cache: str | None = None
    place: str = "config.json"
    doubt: str | None = None

    @property
    def name(self) -> str:
        """In the words of people, all its groups of layers."""
        names = list(dict.fromkeys(scheme.name for scheme in self.schemes))
        if self.method == "gguf":
            return " ".join(["GGUF", *(scheme.weights for scheme in self.schemes[:1])])
        if not names:
            return self.method or "unknown"
        if self.method is None:
            return self.schemes[0].weights
        if len(names) == 1:
            return names[0]
        more = len(names) - _MOST_NAMED
        return "mixed: " + " + ".join(names[:_MOST_NAMED]) + (f" + {more} more" * (more > 0))

    def describe(self) -> str:
        """For a person: its name, the KV cache that it asks for, and who says so."""
        cache = f"; KV cache {self.kv_cache.upper()}" if self.kv_cache else ""
        said = f" ({self.method}, by {self.place})" if self.method not in (None, "gguf") else ""
        return f"{self.name}{cache}{said}"

    @property
    def weight_bits(self) -> frozenset[int]:
        """The sizes of its quantized weights, as far as their names tell."""
        found = (re.search(r"\d+", scheme.weights) for scheme in self.schemes)
        return frozenset(int(bits[0]) for bits in found if bits)


def read(
    config: Config, sidecars: Mapping[str, Config], tensors: Mapping[str, Tensor] | None = None
) -> Format:
    """The format of a safetensors checkpoint.

    Args:
        config: its config.json.
        sidecars: those of `SIDECARS` that are there, by name.
        tensors: its headers, to hold against what it says; not asked where None.
    """
    stated, place = find(config, sidecars)
    if stated is None:
        doubt = _contradiction(tensors or {})
        dtype = _float_type(config, tensors or {})
        plain = () if doubt else (Scheme(dtype),)
        return Format(None, plain, place=place, doubt=doubt)
    method = _method(stated, config)
    schemes = dict.fromkeys(_schemes(method, stated))
    return Format(method, tuple(schemes), _kv_cache(stated), place)


def find(config: Config, sidecars: Mapping[str, Config]) -> tuple[dict[str, Any] | None, str]:
    """What a checkpoint says of its quantization, and where it says so.

    In vLLM's order (`get_config` and `get_quant_config`): what comes first is what counts.
    """
    text = config.get("text_config")
    places = (
        (config.get("quantization_config"), "config.json: quantization_config"),
        (sidecars.get(MODELOPT_FILE), MODELOPT_FILE),
        (config.get("compression_config"), "config.json: compression_config"),
        (
            text.get("quantization_config") if isinstance(text, dict) else None,
            "config.json: text_config.quantization_config",
        ),
        *((sidecars.get(name), name) for name in SIDECARS[1:]),
        (config.get("quantization"), "config.json: quantization"),  # MLX
    )
    for value, place in places:
        if isinstance(value, dict) and value:
            return value, place
    return None, "config.json"


def is_read_unasked(place: str) -> bool:
    """Whether vLLM looks there by itself; the older sidecars it reads only for a method asked."""
    return place not in SIDECARS[1:]


def kept(stated: Config | None) -> dict[str, Any] | None:
    """What a record keeps of a configuration: all of it, or of a very long one what it says.

    A mixture of experts can name the layers of each expert, megabytes of them.
    """
    if stated is None:
        return None
    text = json.dumps(stated, sort_keys=True)
    if len(text) <= _LARGEST_KEPT_BYTES:
        return dict(stated)
    parts = {key: value for key, value in stated.items() if _bytes(value) <= _LARGEST_PART_BYTES}
    names = Counter(scheme.name for scheme in _schemes(_method(stated, {}), stated))
    left_out = {
        "keys": [_word(key) for key in stated if key not in parts][:_MOST_KEYS],
        "schemes": [name for name, _ in names.most_common(_MOST_KEYS)],
        "size_bytes": len(text),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    return dict(list(parts.items())[:_MOST_KEYS]) | {"left_out": left_out}


def _bytes(value: Any) -> int:
    return len(json.dumps(value))


def of_gguf(header: Gguf) -> Format:
    """The format of a GGUF file: what it states, else what most of its numbers are."""
    number = header.values.get("general.file_type")
    name = _FILE_TYPES.get(number & ~_GUESSED) if isinstance(number, int) else None
    # Norms and biases stay in F32 whatever the rest is in.
    kinds = sorted(header.types, key=lambda kind: (kind == "F32", -header.types[kind]))
    name = name or next(iter(kinds), None)
    by_importance = " (imatrix)" if "quantize.imatrix.file" in header.values else ""
    first = [Scheme(name + by_importance)] if name else []
    schemes = [*first, *(Scheme(kind) for kind in kinds if kind != name)]
    return Format("gguf", tuple(schemes), place="the file's header")


_GUESSED = 1024  # llama.cpp's mark for a type that was guessed
# general.file_type, as llama.cpp's llama_ftype has it.
_FILE_TYPES = dict(enumerate(("F32", "F16", "Q4_0", "Q4_1")))
_FILE_TYPES |= dict(enumerate(("Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L"), 7))
_FILE_TYPES |= dict(enumerate(("Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"), 14))
_FILE_TYPES |= dict(enumerate(("IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS"), 19))
_FILE_TYPES |= dict(enumerate(("IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M"), 24))
_FILE_TYPES |= {30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0"}
_FILE_TYPES |= {38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0"}


# -- what the headers say ------------------------------------------------------------------------

_FLOATS = {"F64", "F32", "F16", "BF16"}
# Numbers that are no weights: masks, positions and counts, which some checkpoints hold.
_NO_WEIGHT = re.compile(r"bias$|mask|position|index|_ids$|inv_freq|num_batches")


def _contradiction(tensors: Mapping[str, Tensor]) -> str | None:
    """Why this cannot be a checkpoint of plain floats, or None."""
    packed = Counter(
        tensor.dtype
        for name, tensor in tensors.items()
        if len(tensor.shape) > 1 and tensor.dtype not in _FLOATS and not _NO_WEIGHT.search(name)
    )
    packed.pop("I64", None)
    packed.pop("BOOL", None)
    if not packed:
        return None
    kinds = ", ".join(f"{count} in {dtype}" for dtype, count in packed.most_common())
    return f"it says nothing of quantization, and holds quantized weights ({kinds})"


def _float_type(config: Config, tensors: Mapping[str, Tensor]) -> str:
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in _FLOATS:
            sizes[tensor.dtype] += tensor.size_bytes
    if sizes:
        return sizes.most_common(1)[0][0]
    text = config.get("text_config")
    stated = config.get("torch_dtype") or config.get("dtype")
    if stated is None and isinstance(text, dict):
        stated = text.get("torch_dtype") or text.get("dtype")
    names = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
    return names.get(str(stated), "16 bits")


# -- what each program writes --------------------------------------------------------------------


def _method(stated: Config, config: Config) -> str:
    """What vLLM takes the method for, before it looks whether it has it."""
    method = stated.get("quant_method")
    inner = stated.get("quantization")
    producer = stated.get("producer")
    is_modelopt = isinstance(producer, dict) and producer.get("name") == "modelopt"
    if is_modelopt or (method is None and isinstance(inner, dict) and "quant_algo" in inner):
        method = "modelopt"
    if not isinstance(method, str) or not method:
        if {"w_bit", "q_group_size"} & stated.keys() or stated.get("version") in _AWQ_VERSIONS:
            return "awq"
        if "desc_act" in stated:
            return "gptq"
        return "mlx" if {"bits", "group_size"} <= stated.keys() else "unknown"
    method = _word(method).lower().replace("compressed_tensors", "compressed-tensors")
    if method.startswith("modelopt"):
        algorithm = _of(stated, "quant_algo")
        return f"modelopt {_word(algorithm).upper()}" if algorithm else method
    if method == "mxfp4" and config.get("model_type") == "gpt_oss":
        return "gpt_oss_mxfp4"
    return method


_AWQ_VERSIONS = ("gemm", "gemv", "GEMM", "GEMV")


def _of(stated: Config, key: str) -> Any:
    """A key of ModelOpt's, which its sidecar has one table deeper."""
    inner = stated.get("quantization")
    return inner.get(key) if isinstance(inner, dict) else stated.get(key)


def _schemes(method: str, stated: Config) -> Iterator[Scheme]:
    readers = {
        "compressed-tensors": _compressed_tensors,
        "modelopt": _modelopt,
        "fp8": _fp8,
        "fbgemm_fp8": _fp8,
        "deepseek_v4_fp8": _fp8,
        "gptq": _integers,
        "awq": _integers,
        "mlx": _integers,
        "auto-round": _auto_round,
        "inc": _auto_round,
        "mxfp4": _mxfp4,
        "gpt_oss_mxfp4": _mxfp4,
        "torchao": _torchao,
        "quark": _quark,
        "bitsandbytes": _bitsandbytes,
        "hqq": _hqq,
    }
    reader = readers.get(method.partition(" ")[0], _integers)
    yield from reader(stated)


def _compressed_tensors(stated: Config) -> Iterator[Scheme]:
    groups = stated.get("config_groups")
    for name, group in groups.items() if isinstance(groups, dict) else ():
        if isinstance(group, list):  # a preset's name, and the layers it is for
            yield from _preset(str(name))
        elif isinstance(group, dict):
            form = str(group.get("format") or stated.get("format") or "")
            if scheme := _group(group, form):
                yield scheme


def _group(group: Config, form: str = "") -> Scheme | None:
    """One of config_groups, as compressed-tensors and ModelOpt write it."""
    weights, inputs = group.get("weights"), group.get("input_activations")
    if not isinstance(weights, dict):
        return None
    activations = _numbers(inputs, form) if isinstance(inputs, dict) else None
    dynamic = inputs.get("dynamic") if isinstance(inputs, dict) else None
    block = weights.get("block_structure")
    return Scheme(
        _numbers(weights, form),
        activations,
        bool(dynamic) if activations and dynamic is not None else None,
        _size(weights.get("group_size")),
        _block(block) if weights.get("strategy") in ("block", None) else None,
    )


def _numbers(arguments: Config, form: str) -> str:
    """The kind of number that compressed-tensors' arguments describe."""
    bits, group = _size(arguments.get("num_bits")), _size(arguments.get("group_size"))
    if arguments.get("type") != "float":
        return f"INT{bits}" if bits else "unknown"
    if bits == _FOUR:
        micro = "mxfp4" in form or (group == _MX_GROUP and "nvfp4" not in form)
        return "MXFP4" if micro else "NVFP4"
    micro = "mxfp8" in form or (bits == _EIGHT and group == _MX_GROUP)
    return f"MXFP{bits}" if micro else f"FP{bits}"


_FOUR, _EIGHT, _SIXTEEN = 4, 8, 16
_MX_GROUP = 32  # of the microscaling formats (OCP MX); NVFP4 has 16


def _preset(name: str) -> Iterator[Scheme]:
    """A scheme by the name that compressed-tensors has for it."""
    upper = name.upper()
    if found := re.fullmatch(r"W(\d+)A(\d+)(_ASYM)?", upper):
        weights, inputs = int(found[1]), int(found[2])
        kind = f"INT{inputs}" if inputs < _SIXTEEN else None
        group = 128 if kind is None else None
        yield Scheme(f"INT{weights}", kind, True if kind else None, group)
    elif found := re.fullmatch(r"(NVFP4|MXFP4|MXFP8)(A16)?", upper):
        yield Scheme(found[1], None if found[2] else found[1])
    elif upper.startswith("FP8"):
        block = (128, 128) if "BLOCK" in upper else None
        yield Scheme("FP8", "FP8", upper != "FP8", block=block)
    else:
        yield Scheme(_word(name))


def _modelopt(stated: Config) -> Iterator[Scheme]:
    algorithm = str(_of(stated, "quant_algo")).upper()
    layers = _of(stated, "quantized_layers")
    if algorithm == "MIXED_PRECISION" and isinstance(layers, dict):
        for layer in layers.values():
            if isinstance(layer, dict):
                yield _algorithm(str(layer.get("quant_algo")).upper(), layer)
        return
    groups = stated.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, dict) else []
    found = _algorithm(algorithm, stated)
    weight_only = bool(groups) and all(
        isinstance(group, dict) and group.get("input_activations") is None for group in groups
    )
    yield Scheme(found.weights, None, None, found.group_size) if weight_only else found


def _algorithm(name: str, stated: Config) -> Scheme:
    """One of ModelOpt's algorithms by name."""
    group = _size(_of(stated, "group_size"))
    if "NVFP4" in name or "FP4" in name or "MXFP8" in name:
        kind = "MXFP8" if "MXFP8" in name else "MXFP4" if "MXFP4" in name else "NVFP4"
        usual = _MX_GROUP if kind.startswith("MX") else 16
        return Scheme(kind, None if "A16" in name else kind, None, group or usual)
    if name in ("FP8_PB_WO", "FP8_BLOCK_SCALES"):
        return Scheme("FP8", "FP8", is_dynamic=True, block=(128, 128))
    if name.startswith("FP8"):
        return Scheme("FP8", "FP8", is_dynamic=name != "FP8")
    if found := re.search(r"W(\d+)A(\d+)|INT(\d)", name):
        bits, inputs = found[1] or found[3], found[2] or "16"
        kind = "FP8" if (found[1], inputs) == ("4", "8") else f"INT{inputs}"
        return Scheme(f"INT{bits}", None if inputs == "16" else kind, None, group)
    return Scheme(_word(name))


def _fp8(stated: Config) -> Iterator[Scheme]:
    activation = stated.get("activation_scheme", "dynamic")
    yield Scheme(
        "FP8", "FP8", activation != "static", block=_block(stated.get("weight_block_size"))
    )


def _integers(stated: Config) -> Iterator[Scheme]:
    """GPTQ, AWQ, and whatever else says how many bits."""
    bits = stated.get("bits", stated.get("w_bit"))
    group = _size(stated.get("group_size", stated.get("q_group_size")))
    if isinstance(bits, int | float) and 1 <= bits <= _SIXTEEN:
        yield Scheme(f"INT{bits:g}", None, None, group)
    overrides = stated.get("dynamic")  # GPTQModel: other bits for some layers
    for layer in overrides.values() if isinstance(overrides, dict) else ():
        if isinstance(layer, dict) and (own := _size(layer.get("bits"))):
            yield Scheme(f"INT{own}", None, None, _size(layer.get("group_size")) or group)


def _auto_round(stated: Config) -> Iterator[Scheme]:
    extra = stated.get("extra_config")
    layers = extra.values() if isinstance(extra, dict) else ()
    for layer in ({}, *layers):
        if not isinstance(layer, dict):
            continue
        both = {**stated, **layer}
        bits, inputs = _size(both.get("bits")), _size(both.get("act_bits")) or _SIXTEEN
        kind = str(both.get("data_type") or "int")
        weights = _auto_round_kind(kind, bits)
        if weights is None or (bits or _SIXTEEN) >= _SIXTEEN:  # a layer left as it was
            continue
        own = str(both.get("act_data_type") or kind)
        activations = _auto_round_kind(own, inputs) if inputs < _SIXTEEN else None
        dynamic = bool(both.get("act_dynamic", True)) if activations else None
        yield Scheme(weights, activations, dynamic, _size(both.get("group_size")))


def _auto_round_kind(word: str, bits: int | None) -> str | None:
    if bits is None:
        return None
    family = {"mx": f"MXFP{bits}", "nv": f"NVFP{bits}", "fp": f"FP{bits}"}
    return family.get(word[:2], f"INT{bits}")


def _mxfp4(_: Config) -> Iterator[Scheme]:
    yield Scheme("MXFP4", None, None, _MX_GROUP)


def _torchao(stated: Config) -> Iterator[Scheme]:
    """Whatever words name a scheme: torchao writes its classes' names."""
    text = json.dumps(stated.get("quant_type"))
    kinds = {"int4": "INT4", "int8": "INT8", "float8": "FP8", "nvfp4": "NVFP4", "mx": "MXFP8"}
    group = re.search(r'"group_size": (\d+)', text)
    for word in dict.fromkeys(re.findall(r"\w*[wW]eight\w*|\w*NVFP4\w*|\w*MXF\w*", text)):
        flat = word.replace("_", "").lower()
        weights = re.search(r"(int4|int8|float8|nvfp4|mx)(?:weight|dynamicactivation)", flat)
        whole = re.search(r"(int4|int8|float8|nvfp4|mx)(?:weight)", flat) or weights
        if not whole:
            continue
        inputs = re.search(r"(int8|float8)(?:dynamic|static)?activation", flat)
        activations = kinds[inputs[1]] if inputs else None
        yield Scheme(
            kinds[whole[1]],
            activations,
            "static" not in flat if activations else None,
            int(group[1]) if group else None,
        )


def _quark(stated: Config) -> Iterator[Scheme]:
    layers = stated.get("layer_quant_config")
    for part in (stated.get("global_quant_config"), *_values(layers)):
        if not isinstance(part, dict):
            continue
        weights, inputs = _quark_part(part.get("weight")), _quark_part(part.get("input_tensors"))
        if weights is None:
            continue
        group = _size(weights.get("group_size"))
        dynamic = inputs.get("is_dynamic") if inputs else None
        yield Scheme(
            _quark_kind(weights),
            _quark_kind(inputs) if inputs else None,
            bool(dynamic) if dynamic is not None else None,
            group,
        )


def _quark_part(value: Any) -> dict[str, Any] | None:
    if isinstance(value, list):  # one scale on the other: the first is the numbers' own
        value = value[0] if value else None
    return value if isinstance(value, dict) else None


def _quark_kind(part: Config) -> str:
    word = str(part.get("dtype")).lower()
    if word == "fp4":
        return "MXFP4" if _size(part.get("group_size")) == _MX_GROUP else "NVFP4"
    found = re.match(r"(u?int|fp)(\d+)", word)
    return f"{found[1].upper().removeprefix('U')}{found[2]}" if found else _word(word)


def _bitsandbytes(stated: Config) -> Iterator[Scheme]:
    if stated.get("load_in_4bit"):
        yield Scheme(_word(stated.get("bnb_4bit_quant_type") or "fp4").upper())
    elif stated.get("load_in_8bit"):
        yield Scheme("INT8")


def _hqq(stated: Config) -> Iterator[Scheme]:
    inner = stated.get("quant_config")
    found = inner.get("weight_quant_params") if isinstance(inner, dict) else None
    if isinstance(found, dict) and (bits := _size(found.get("nbits"))):
        yield Scheme(f"INT{bits}", None, None, _size(found.get("group_size")))


def _kv_cache(stated: Config) -> str | None:
    """The type that a checkpoint wants its KV cache in."""
    scheme = stated.get("kv_cache_scheme")
    if isinstance(scheme, dict) and (bits := _size(scheme.get("num_bits"))):
        return f"{'fp' if scheme.get('type') == 'float' else 'int'}{bits}"
    algorithm = _of(stated, "kv_cache_quant_algo")
    return _word(algorithm).lower() if isinstance(algorithm, str) else None


def _word(value: Any) -> str:
    """A checkpoint's own word, with nothing in it that could steer a terminal or fill a page."""
    return re.sub(r"[^\w.-]", "", str(value), flags=re.ASCII)[:_MOST_TEXT] or "unknown"


def _values(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else ()


def _size(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**20 else None


def _block(value: Any) -> tuple[int, int] | None:
    if isinstance(value, list) and len(value) == 2 and all(_size(side) for side in value):
        return value[0], value[1]
    return None
