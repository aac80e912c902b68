"""What is wrong with a models.toml: each thing with its line, key, message and fix, and exit 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from folders import PUBLISHED_MODELS, REFERENCE, ROOT
from hypothesis import given
from hypothesis import strategies as st
from models_texts import VALID

from bench import config
from bench.errors import ConfigError
from bench.modelsfile import problems
from bench.modelsfile.problems import Problem
from bench.records import store

# Lines 1 to 19; a case changes it or adds lines from 20 on, inside the table of variant "B".
BUNDLED = VALID.replace('repo = "a/b"', 'bundled = "smollm2-135m-bf16"')
ON_CPU = '[[hardware]]\nid = "cpu"\nname = "CPU"\nengine = "cpu"\nrunner = ["x"]\n' + VALID
SHAPE = VALID.replace('repo = "a/b"', 'bundled = "qwen3-8b-shape"')
NAME = "start with a letter or digit; then letters, digits, spaces and . , _ + ( ) - only"
NAME_PATTERN = "string should match pattern '^[A-Za-z0-9][A-Za-z0-9 .,_+()-]*$'"
VARIANT_KEYS = (
    "use one of: bundled, family, file, hardware, name, note, on, quality, repo, reproduces, "
    "revision, serve, speed, stages, tokenizer, tokenizer_revision"
)
GPUS = "lower tensor_parallel_size × pipeline_parallel_size, or correct the hardware's gpus"


def plus(*lines: str) -> str:
    return VALID + "\n".join(lines) + "\n"


def named(name: str) -> str:
    return VALID.replace('"B"', name)


def bad_name(name: str) -> tuple[str, list[tuple[int, str, str, str]]]:
    return named(name), [(17, "variant[1].name", NAME_PATTERN, NAME)]


CASES: dict[str, tuple[str, list[tuple[int, str, str, str]]]] = {
    "unknown key": (plus("zzz = 1"), [(20, "variant[1].zzz", "unknown key", VARIANT_KEYS)]),
    "unknown key, nearly right": (
        plus("[variant.on.l40]", "spede = {}"),
        [(21, "variant[1].on.l40.spede", "unknown key", "did you mean 'speed'?")],
    ),
    "unknown table": (
        "variants = 1\n" + VALID,
        [(1, "variants", "unknown key", "did you mean 'variant'?")],
    ),
    "unknown key that steers a terminal": (
        '"\\u001b[31m\\n" = 1\n' + VALID,
        [
            (
                1,
                '"\\u001b[31m\\n"',
                "unknown key",
                "use one of: decision, family, hardware, quality, serve, service_level, speed, "
                "variant",
            )
        ],
    ),
    "server option outside the schema": (
        plus("[variant.serve]", "trust_remote_code = true", 'quantisation = "awq"'),
        [
            (
                21,
                "variant[1].serve.trust_remote_code",
                "unknown key",
                "use one of: " + ", ".join(sorted(config.ServeOptions.model_fields)),
            ),
            (22, "variant[1].serve.quantisation", "unknown key", "did you mean 'quantization'?"),
        ],
    ),
    "word the engine does not know": (
        plus('serve.linear_backend = "marlim"'),
        [
            (
                20,
                "variant[1].serve.linear_backend",
                "vLLM 0.32.0 (cuda) does not know 'marlim'",
                "did you mean 'marlin'?",
            )
        ],
    ),
    "wrong types": (
        plus("speed.prompts = 1.5", 'stages = "speed"', "on = 1", "note = 2026-01-01"),
        [
            (
                20,
                "variant[1].speed.prompts",
                "input should be a valid integer",
                "write a whole number, without quotes",
            ),
            (
                21,
                "variant[1].stages",
                "input should be a valid array",
                'write a list, in [ ]; write one or both of "speed" and "quality"',
            ),
            (22, "variant[1].on", "input should be an object", "write a table, in { }"),
            (23, "variant[1].note", "input should be a valid string", "write it in double quotes"),
        ],
    ),
    "quotes around what is no text": (
        plus('serve.max_model_len = "1024"', 'serve.enforce_eager = "true"')
        + 'serve.cpu_offload_gb = "4"\nquality.documents = "7"\nhardware = "l40"\n',
        [
            (
                20,
                "variant[1].serve.max_model_len",
                "input should be a valid integer",
                "write a whole number, without quotes",
            ),
            (
                21,
                "variant[1].serve.enforce_eager",
                "input should be a valid boolean",
                "write true or false, without quotes",
            ),
            (
                22,
                "variant[1].serve.cpu_offload_gb",
                "input should be a valid number",
                "write a number, without quotes",
            ),
            (
                23,
                "variant[1].quality.documents",
                "input should be a valid integer",
                'write a whole number, or "all"',
            ),
            (24, "variant[1].hardware", "input should be a valid array", "write a list, in [ ]"),
        ],
    ),
    "no word of a short list": (
        plus('stages = ["sped"]', 'serve.load_format = "pt"'),
        [
            (
                20,
                "variant[1].stages[0]",
                "input should be 'speed' or 'quality'",
                'write one or both of "speed" and "quality"',
            ),
            (
                21,
                "variant[1].serve.load_format",
                "input should be 'auto', 'safetensors', 'gguf' or 'dummy'",
                "write one of these words, in double quotes",
            ),
        ],
    ),
    "a file of another kind": (
        plus('file = "weights.bin"'),
        [
            (
                20,
                "variant[1].file",
                "string should match pattern '^[A-Za-z0-9][A-Za-z0-9._/-]*\\.gguf$'",
                "name one .gguf file inside the repository, without '..'",
            ),
        ],
    ),
    "one table twice": (
        plus("[variant.serve]", 'dtype = "half"', "[variant.speed]", "[variant.serve]"),
        [
            (
                23,
                "variant[1].serve",
                "is given twice, first on line 20",
                "keep one of the two, with the keys of both",
            )
        ],
    ),
    "two tables that should be a list": (
        VALID.replace("[[family]]", "[family]") + '[family]\nname = "L"\nbaseline = "B"\n',
        [(20, "family", "is given twice, first on line 8", "write [[family]] above each")],
    ),
    "a table after a list of tables": (
        plus("[variant]", 'name = "C"'),
        [(20, "variant", "is one table here, and a list of tables above", "write [[variant]]")],
    ),
    "a table after a list of one": (
        plus("[hardware]", 'id = "l4"'),
        [(20, "hardware", "is one table here, and a list of tables above", "write [[hardware]]")],
    ),
    "a task's table after a list of them": (
        plus(*["[[variant.quality.task]]"] * 2, "[variant.quality.task]"),
        [
            (
                22,
                "variant[1].quality.task",
                "is one table here, and a list of tables above",
                "write [[variant.quality.task]]",
            )
        ],
    ),
    "several in one line": (
        plus('serve = { enforce_eager = 1, max_model_len = "1", dtype = "a b", x = 1 }'),
        [
            (
                20,
                "variant[1].serve.dtype",
                "string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$'",
                "start with a letter or digit; then letters, digits, . _ and - only",
            ),
            (
                20,
                "variant[1].serve.enforce_eager",
                "input should be a valid boolean",
                "write true or false, without quotes",
            ),
            (
                20,
                "variant[1].serve.max_model_len",
                "input should be a valid integer",
                "write a whole number, without quotes",
            ),
            (
                20,
                "variant[1].serve.x",
                "unknown key",
                "use one of: " + ", ".join(sorted(config.ServeOptions.model_fields)),
            ),
        ],
    ),
    "one bracket for two": (
        VALID.replace("[[family]]", "[family]"),
        [(8, "family", "is one table, not a list of tables", "write [[family]] above each")],
    ),
    "named twice": (
        plus('stages = ["speed", "speed"]'),
        [
            (
                20,
                "variant[1].stages",
                "must not name anything twice",
                'write one or both of "speed" and "quality"',
            )
        ],
    ),
    "duplicate name": (
        named('"Qwen3-8B BF16"'),
        [
            (
                17,
                "variant[1].name",
                "'Qwen3-8B BF16' is the same as 'Qwen3-8B BF16' (both become 'qwen3-8b-bf16')",
                "give each a name of its own",
            )
        ],
    ),
    "duplicate by slug": (
        named('"qwen3 8B (BF16)"'),
        [
            (
                17,
                "variant[1].name",
                "'qwen3 8B (BF16)' is the same as 'Qwen3-8B BF16' (both become 'qwen3-8b-bf16')",
                "give each a name of its own",
            )
        ],
    ),
    "two baselines, two tables": (
        plus("[[family]]", 'name = "Qwen3-8B"', 'baseline = "B"'),
        [
            (
                21,
                "family[1].name",
                "'Qwen3-8B' is the same as 'Qwen3-8B' (both become 'qwen3-8b')",
                "give each a name of its own",
            )
        ],
    ),
    "two baselines, two keys": (
        VALID.replace("baseline =", 'baseline = "B"\nbaseline ='),
        [(11, "family[0].baseline", "is given twice, first on line 10", "keep one of the two")],
    ),
    "two baselines, one list": (
        VALID.replace('baseline = "Qwen3-8B BF16"', 'baseline = ["Qwen3-8B BF16", "B"]'),
        [
            (
                10,
                "family[0].baseline",
                "input should be a valid string",
                "write it in double quotes; use the name of a [[variant]]",
            )
        ],
    ),
    "unknown family": (
        VALID.replace('family = "Qwen3-8B"\nrepo = "a/b"', 'family = "Qwen3-8b"\nrepo = "a/b"'),
        [(18, "variant[1].family", "unknown family 'Qwen3-8b'", "did you mean 'Qwen3-8B'?")],
    ),
    "baseline of another family": (
        plus("[[family]]", 'name = "L"', 'baseline = "B"', "[[variant]]", 'name = "C"')
        + 'family = "L"\nrepo = "c/d"\n',
        [(22, "family[1].baseline", "'B' is not a variant of this family", 'use one of: "C"')],
    ),
    "baseline of another family, which has names with commas": (
        plus("[[family]]", 'name = "L"', 'baseline = "B"', "[[variant]]", 'name = "L, BF16"')
        + 'family = "L"\nrepo = "c/d"\n[[variant]]\nname = "L, FP8"\nfamily = "L"\nrepo = "c/e"\n',
        [
            (
                22,
                "family[1].baseline",
                "'B' is not a variant of this family",
                'use one of: "L, BF16", "L, FP8"',
            )
        ],
    ),
    "baseline, nearly right": (
        VALID.replace('baseline = "Qwen3-8B BF16"', 'baseline = "Qwen3-8B F16"'),
        [
            (
                10,
                "family[0].baseline",
                "'Qwen3-8B F16' is not a variant of this family",
                "did you mean 'Qwen3-8B BF16'?",
            )
        ],
    ),
    "baseline of a family without variants": (
        plus("[[family]]", 'name = "L"', 'baseline = "B"'),
        [
            (
                22,
                "family[1].baseline",
                "'B' is not a variant of this family",
                'add a [[variant]] with family = "L", and name it here',
            )
        ],
    ),
    "baseline without a stage of its variants": (
        VALID.replace('repo = "Qwen/Qwen3-8B"', 'repo = "Qwen/Qwen3-8B"\nstages = ["speed"]'),
        [
            (
                15,
                "variant[0].stages",
                "is without quality, which 'B' is to be compared by",
                'add "quality": this is their baseline',
            )
        ],
    ),
    "baseline on other hardware than a variant": (
        ON_CPU.replace('repo = "Qwen/Qwen3-8B"', 'repo = "Qwen/Qwen3-8B"\nhardware = ["l40"]')
        + 'hardware = ["cpu"]\n',
        [
            (
                26,
                "variant[1].hardware",
                "its baseline, 'Qwen3-8B BF16', is measured on none of these",
                "measure both on one of them, or give the variant a [[family]] of its own",
            )
        ],
    ),
    "unknown hardware": (
        plus('hardware = ["l40", "l4"]', 'on.a100.serve.dtype = "half"'),
        [
            (20, "variant[1].hardware[1]", "unknown hardware 'l4'", "use one of: l40"),
            (21, "variant[1].on.a100", "unknown hardware 'a100'", "use one of: l40"),
        ],
    ),
    "name: path": bad_name('"../../etc/passwd"'),
    "name: shell": bad_name('"$(touch x); `id`"'),
    "name: HTML": bad_name('"<script>alert(1)</script>"'),
    "name: newline": bad_name('"a\\nb"'),
    "name: newline at the end": bad_name('"a\\n"'),
    "name: letters beyond ASCII": bad_name('"Qwén"'),
    "name: bidi": bad_name('"a\\u202eb"'),
    "name: empty": bad_name('""'),
    "name: long": (
        named(f'"{"a" * 81}"'),
        [(17, "variant[1].name", "string should have at most 80 characters", NAME)],
    ),
    "name: device": (
        named('"NUL"'),
        [(17, "variant[1].name", "'NUL' is a device name on Windows", "choose another name")],
    ),
    "NaN and infinity": (
        plus("[variant.serve]", "gpu_memory_utilization = nan", "cpu_offload_gb = inf")
        + "[variant.speed]\nrequest_rates = [\n  nan,\n  -inf,\n  inf,\n]\n",
        [
            (
                21,
                "variant[1].serve.gpu_memory_utilization",
                "input should be less than or equal to 1",
                "write a smaller number",
            ),
            (
                22,
                "variant[1].serve.cpu_offload_gb",
                "input should be a finite number",
                "write a number that is not infinite",
            ),
            *(
                (
                    line,
                    f"variant[1].speed.request_rates[{n}]",
                    "input should be greater than 0",
                    "write positive numbers of requests per second; inf for no limit",
                )
                for n, line in enumerate((25, 26))
            ),
        ],
    ),
    "empty": (
        "",
        [
            (1, key, "missing", f"add {key}; see `bench schema models`")
            for key in ("family", "hardware", "variant")
        ],
    ),
    "not TOML": (
        plus("x = ["),
        [(21, "syntax", "invalid value", "write a value after the =, and ] after a list")],
    ),
    "not TOML: a key like a message's end": (
        plus('["x (at line 1, column 1)"]', '["x (at line 1, column 1)"]'),
        [
            (
                21,
                '"x (at line 1, column 1)"',
                "is given twice, first on line 20",
                "keep one of the two, with the keys of both",
            )
        ],
    ),
    "nested arrays": (
        plus("note = " + "[" * 5000 + "]" * 5000),
        [(20, "file", "is nested too deeply", "write only what `bench schema models` knows")],
    ),
    "nested tables": (
        plus("[" + "a." * 5000 + "a]"),
        [(20, "file", "is nested too deeply", "write only what `bench schema models` knows")],
    ),
    "a number of 5,000 digits": (
        plus("note = " + "1" * 5000),
        [
            (
                20,
                "file",
                "has a word of 5,000 characters",
                "write only what `bench schema models` knows",
            )
        ],
    ),
    "no source": (
        VALID.replace('repo = "a/b"\n', ""),
        [
            (
                16,
                "variant[1].repo",
                "has neither repo nor bundled",
                'name one source, such as repo = "Qwen/Qwen3-8B"',
            )
        ],
    ),
    "two sources": (
        plus('bundled = "smollm2-135m-bf16"'),
        [
            (
                19,
                "variant[1].repo",
                "has both repo and bundled",
                'name one source, such as repo = "Qwen/Qwen3-8B"',
            )
        ],
    ),
    "revision of nothing": (
        BUNDLED + 'revision = "main"\n',
        [(20, "variant[1].revision", "needs a repo", "add repo, or remove this key")],
    ),
    "GGUF without a tokenizer": (
        plus('file = "a.gguf"'),
        [
            (
                20,
                "variant[1].file",
                "needs a tokenizer: a GGUF file brings none to read",
                'add tokenizer, the repository of the base model, such as "Qwen/Qwen3-8B"',
            )
        ],
    ),
    "GGUF on a CPU": (
        ON_CPU.replace('repo = "a/b"', 'bundled = "smollm2-135m-gguf-q4-1"\nhardware = ["cpu"]'),
        [
            (
                24,
                "variant[1].bundled",
                "cpu runs on the CPU engine, which cannot serve GGUF",
                'restrict the variant to GPUs: hardware = ["l40"]',
            )
        ],
    ),
    "GGUF on a CPU, and on one GPU of two": (
        ON_CPU.replace(
            'repo = "a/b"', 'bundled = "smollm2-135m-gguf-q4-1"\nhardware = ["cpu", "h100"]'
        )
        + '[[hardware]]\nid = "h100"\nname = "H"\nengine = "cuda"\nrunner = ["x"]\n'
        + "gpu_memory_gib = 79.6\n",
        [
            (
                24,
                "variant[1].bundled",
                "cpu runs on the CPU engine, which cannot serve GGUF",
                'restrict the variant to GPUs: hardware = ["h100"]',
            )
        ],
    ),
    "GGUF without a GPU": (
        BUNDLED.replace('engine = "cuda"', 'engine = "cpu"').replace("bf16", "gguf-q4-1"),
        [
            (
                19,
                "variant[1].bundled",
                "l40 runs on the CPU engine, which cannot serve GGUF",
                'remove the variant, or add a [[hardware]] with engine = "cuda"',
            )
        ],
    ),
    "GGUF repository without a file": (
        VALID.replace("a/b", "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF") + 'tokenizer = "a/b"\n',
        [
            (
                19,
                "variant[1].repo",
                "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF is a repository of GGUF files, and none "
                "is named",
                'add the one to serve: file = "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf"',
            )
        ],
    ),
    "tokenizer without a GGUF file": (
        plus('tokenizer = "a/b"'),
        [
            (
                20,
                "variant[1].tokenizer",
                "is for a GGUF file, and none is named",
                "add file, the GGUF file in repo, or remove this key: safetensors come with their "
                "own",
            )
        ],
    ),
    "revision of no tokenizer": (
        plus('tokenizer_revision = "main"'),
        [
            (
                20,
                "variant[1].tokenizer_revision",
                "needs a tokenizer",
                "add tokenizer, or remove this key",
            )
        ],
    ),
    "a GPU of unknown memory": (
        VALID.replace("gpu_memory_gib = 44.5\n", "\n"),
        [
            (
                1,
                "hardware[0].gpu_memory_gib",
                'missing, and engine = "cuda" needs it',
                "add gpu_memory_gib, one GPU's memory, such as 44.5 (nvidia-smi's MiB / 1024)",
            )
        ],
    ),
    "repo with dots": (
        VALID.replace("a/b", "a/b..c"),
        [
            (
                19,
                "variant[1].repo",
                "must not contain '..'",
                "write it as the Hub does: owner/name",
            )
        ],
    ),
    "bundled data for another task": (
        '[quality]\ndata = "bundled"\n' + plus('quality.tasks = ["gsm8k"]'),
        [
            (
                22,
                "variant[1].quality.tasks",
                'quality.data = "bundled" has no documents of gsm8k',
                "ask hellaswag, arc_easy, arc_challenge, piqa, boolq, winogrande, sciq, openbookqa,"
                " social_iqa, commonsense_qa, copa, triviaqa, nq_open, mmlu or parts of it; or set"
                ' data = "hub"',
            )
        ],
    ),
    "family asked what lm-eval does not know": (
        VALID.replace("[[variant]]", '[[family.quality.task]]\nname = "ifevel"\n[[variant]]', 1),
        [
            (
                12,
                "family[0].quality.task[0].name",
                "lm-eval has no task 'ifevel'",
                "did you mean 'ifeval'?",
            )
        ],
    ),
    "family's bundled data for another task": (
        VALID.replace(
            "[[variant]]", '[family.quality]\ndata = "bundled"\ntasks = ["gsm8k"]\n[[variant]]', 1
        ),
        [
            (
                12,
                "family[0].quality.data",
                'quality.data = "bundled" has no documents of gsm8k',
                "ask hellaswag, arc_easy, arc_challenge, piqa, boolq, winogrande, sciq, openbookqa,"
                " social_iqa, commonsense_qa, copa, triviaqa, nq_open, mmlu or parts of it; or set"
                ' data = "hub"',
            )
        ],
    ),
    "family's task in single brackets": (
        VALID.replace("[[variant]]", '[family.quality.task]\nname = "ifeval"\n[[variant]]', 1),
        [
            (
                11,
                "family[0].quality.task",
                "is one table, not a list of tables",
                "write [[family.quality.task]] above each",
            )
        ],
    ),
    "family's task in single brackets, twice": (
        VALID.replace("[[variant]]", "[family.quality.task]\n" * 2 + "[[variant]]", 1),
        [
            (
                12,
                "family[0].quality.task",
                "is given twice, first on line 11",
                "write [[family.quality.task]] above each",
            )
        ],
    ),
    "option of a family's server": (
        VALID.replace("[[variant]]", "[family.serve]\n[[variant]]", 1),
        [(11, "family[0].serve", "unknown key", "use one of: baseline, name, quality")],
    ),
    "bundled data for few-shot": (
        "[quality]\nnum_fewshot = 5\n" + plus('on.l40.quality.data = "bundled"'),
        [
            (
                22,
                "variant[1].on.l40.quality.data",
                'quality.data = "bundled" has nothing to take examples for hellaswag from',
                'set num_fewshot = 0, or data = "hub"',
            )
        ],
    ),
    "random weights with quality": (
        plus('serve.load_format = "dummy"'),
        [
            (
                20,
                "variant[1].serve.load_format",
                "random weights have no quality to measure",
                'set stages = ["speed"], or remove load_format',
            )
        ],
    ),
    "random weights by default": (
        '[serve]\nload_format = "dummy"\n' + VALID,
        [
            (
                2,
                "serve.load_format",
                "random weights are a variant's own choice",
                "write it in the serve table of each variant that is to have them",
            ),
            (
                2,
                "serve.load_format",
                "random weights have no quality to measure",
                'set stages = ["speed"], or remove load_format',
            ),
        ],
    ),
    "random weights without shapes": (
        BUNDLED + 'stages = ["speed"]\nserve.load_format = "dummy"\n',
        [
            (
                21,
                "variant[1].serve.load_format",
                "random weights need a repo for their shapes",
                "add repo, or bundled, one of: qwen3-8b-shape, qwen3-8b-shape-awq",
            )
        ],
    ),
    "shape with weights": (
        SHAPE,
        [
            (
                19,
                "variant[1].bundled",
                "is a shape without weights",
                'add load_format = "dummy" to its serve table',
            )
        ],
    ),
    "shape with quality": (
        SHAPE + 'serve.load_format = "dummy"\n',
        [
            (
                20,
                "variant[1].serve.load_format",
                "random weights have no quality to measure",
                'set stages = ["speed"], or remove load_format',
            )
        ],
    ),
    "tokens that do not fit": (
        "[serve]\nmax_model_len = 600\n[speed]\ninput_tokens = 500\noutput_tokens = 100\n"
        + plus("speed.input_tokens = 501"),
        [
            (
                25,
                "variant[1].speed.input_tokens",
                "'B' on l40: 501 + 100 tokens do not fit in max_model_len = 600",
                "set max_model_len to 601 or more, or ask for fewer tokens",
            )
        ],
    ),
    "tokens that do not fit on one hardware": (
        plus("speed.input_tokens = 600", "on.l40.serve.max_model_len = 700"),
        [
            (
                21,
                "variant[1].on.l40.serve.max_model_len",
                "'B' on l40: 600 + 128 tokens do not fit in max_model_len = 700",
                "set max_model_len to 728 or more, or ask for fewer tokens",
            )
        ],
    ),
    "tokens that do not fit: said where the fewest are concerned": (
        plus("serve.max_model_len = 700", "on.l40.speed.input_tokens = 600"),
        [
            (
                21,
                "variant[1].on.l40.speed.input_tokens",
                "'B' on l40: 600 + 128 tokens do not fit in max_model_len = 700",
                "set max_model_len to 728 or more, or ask for fewer tokens",
            )
        ],
    ),
    "no load, where quality has a word of the same name": (
        VALID.replace("[[variant]]", "[family.quality]\nconcurrency = 4\n[[variant]]", 1)
        + "[speed]\nrequest_rates = []\n",
        [(23, "speed.request_rates", "speed has no load", "name a request rate or a concurrency")],
    ),
    "more requests than a record takes, where quality has a word of the same name": (
        VALID.replace("[[variant]]", "[family.quality]\nconcurrency = 4\n[[variant]]", 1)
        + "[speed]\nprompts = 100000\nrepeats = 64\n",
        [
            (
                23,
                "speed.prompts",
                "'Qwen3-8B BF16' on l40: 12,800,000 requests in one record",
                f"ask for {store.MAX_REQUESTS:,} or fewer: more are not taken from a runner",
            )
        ],
    ),
    "more GPUs than there are": (
        plus("serve.tensor_parallel_size = 2", "serve.pipeline_parallel_size = 2"),
        [(20, "variant[1].serve.tensor_parallel_size", "'B' needs 4 GPU(s), l40 has 1", GPUS)],
    ),
    "CUDA without a GPU": (
        VALID.replace("runner", "gpus = 0\nrunner"),
        [(5, "hardware[0].gpus", "'Qwen3-8B BF16' needs 1 GPU(s), l40 has 0", GPUS)],
    ),
}


SYNTAX = {
    "name = Qwen3-8B BF16": "write text in double quotes",
    "note = 8B": "write text in double quotes",
    "name = TrueModel": "write text in double quotes",
    "name = [speed]": "write text in double quotes",
    "serve = { enforce_eager = True }": "write true or false, in lower case",
    "flag = FALSE": "write true or false, in lower case",
    "note = null": "leave the key out: TOML has no null",
    "note = None": "leave the key out: TOML has no null",
    "note = “text”": "write straight quotes",
    "note = ‘text’": "write straight quotes",
    "“note” = 1": "write straight quotes",
    'note = "text”': "close the text on its line, with a straight quote",
    "note =": "write a value after the =, and ] after a list",
    "note = # nothing": "write a value after the =, and ] after a list",
    "share = .5": "write a digit in front of the point",
    "name: 1": "write key = value",
    'note = "x" c = 1': "write one key = value on a line",
    "[variant": "write ] at its end",
    "[speed": "write [name] above a table, [[name]] above each of a list",
    'file = "C:\\x"': "write \\\\ for each \\, or put the text in single quotes",
    "stages = [1 2]": "write commas between the values, and ] after the last",
    "serve = { a = 1": "write commas between the keys, and } after the last",
    "// a remark": "write valid TOML 1.0 here",
}


@pytest.mark.parametrize("written", SYNTAX)
def test_what_is_usually_written_for_toml_has_a_fix_of_its_own(written: str) -> None:
    ((line, key, message, fix),) = rows(plus("a = 1", written, "b = 1"))
    assert (line, key, fix) == (21, "syntax", SYNTAX[written])
    assert message


def rows(text: str) -> list[tuple[int, str, str, str]]:
    return [(p.line, p.key, p.message, p.fix) for p in problems.find_problems(text)]


def test_the_file_the_cases_change_is_valid() -> None:
    assert rows(VALID) == rows(BUNDLED) == []


@pytest.mark.parametrize(
    ("option", "typo", "meant"),
    [
        ("attention_backend", "FLASH_ATN", "FLASH_ATTN"),
        ("linear_backend", "marlim", "marlin"),
        ("moe_backend", "tritn", "triton"),
        ("kv_cache_dtype", "fp8_e4m4", "fp8_e4m3"),
        ("quantization", "compressed_tensors", "compressed-tensors"),
        ("dtype", "bflaot16", "bfloat16"),
    ],
)
def test_a_typo_in_a_word_of_the_engines_is_found_and_the_word_named(
    option: str, typo: str, meant: str
) -> None:
    ((line, key, message, fix),) = rows(plus(f'serve.{option} = "{typo}"'))
    assert (line, key) == (20, f"variant[1].serve.{option}")
    assert message == f"vLLM 0.32.0 (cuda) does not know {typo!r}"
    assert fix == f"did you mean {meant!r}?"
    assert rows(plus(f'serve.{option} = "{meant}"')) == []


def test_a_row_that_nobody_published_is_found_where_the_published_ones_are_known() -> None:
    ids = problems.published_ids(REFERENCE)
    assert "l40-2025-qwen3-8b-bf16" in ids
    text = plus('reproduces = "l40-2025-qwen3-8b-bf61"')
    told = "no published row 'l40-2025-qwen3-8b-bf61'"
    experiment, found = problems.check(text, REFERENCE)
    assert experiment is not None
    fix = "did you mean 'l40-2025-qwen3-8b-bf16'?"
    assert found == [Problem(20, "variant[1].reproduces", told, fix)]
    assert problems.check(text)[1] == []  # to a run it is a label
    assert problems.check(PUBLISHED_MODELS.read_text(), REFERENCE)[1] == []


def test_validate_asks_for_the_published_rows(tmp_path: Path, bench: Any) -> None:
    path = tmp_path / "models.toml"
    path.write_text(plus('reproduces = "nothing-like-it"'))
    ran = bench("validate", path)
    assert ran.code == 2
    assert "no published row 'nothing-like-it'\n    fix: remove this key" in ran.err


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [1]}'])
def test_a_file_of_published_rows_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.json").write_text(text)
    with pytest.raises(ConfigError, match=r"theirs\.json has no rows with ids"):
        problems.published_ids(tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_every_problem_has_its_line_key_message_fix_and_exit_code(
    name: str, tmp_path: Path, bench: Any
) -> None:
    text, expected = CASES[name]
    path = tmp_path / "models.toml"
    path.write_text(text)
    ran = bench("validate", path, "--json")
    found = json.loads(ran.out)
    assert {row.pop("file") for row in found} == {str(path)}
    assert [tuple(row.values()) for row in found] == expected
    assert (ran.code, ran.err) == (2, "")


PUBLISHED = PUBLISHED_MODELS.read_text().splitlines(keepends=True)
NEEDED = ("id", "name", "engine", "runner", "gpu_memory_gib", "baseline", "family", "repo", "file")


@pytest.mark.parametrize(
    "at",
    [n for n, row in enumerate(PUBLISHED) if row.split(" = ")[0] in (*NEEDED, "tokenizer")],
    ids=lambda n: f"{n + 1}: {PUBLISHED[n].split(' = ')[0]}",
)
def test_removing_a_key_that_the_experiment_needs_is_a_problem_with_its_fix(at: int) -> None:
    """What has a default, such as stages, can be left out."""
    found = problems.find_problems("".join(PUBLISHED[:at] + PUBLISHED[at + 1 :]))
    assert found
    assert all(problem.line and problem.fix for problem in found)


def test_all_problems_of_a_round_at_once_by_line_in_words(tmp_path: Path) -> None:
    """What the schema refuses first; where tables disagree when that is mended."""
    path = tmp_path / "models.toml"
    text = (
        plus("prize = 1", 'serve = { linear_backend = "marlim" }').replace('"B"', '"a/b"')
        + '[[variant]]\nname = "C"\nfamily = "Qwen3"\nrepo = "a"\nserve.dtype = 1\n'
    )
    path.write_text(text)
    command = [sys.executable, "-m", "bench", "validate", str(path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.splitlines() == [
        f"{path}:17: variant[1].name: {NAME_PATTERN}",
        f"    fix: {NAME}",
        f"{path}:20: variant[1].prize: unknown key",
        f"    fix: {VARIANT_KEYS}",
        f"{path}:25: variant[2].repo: string should match pattern "
        "'^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$'",
        "    fix: write it as the Hub does: owner/name",
        f"{path}:26: variant[2].serve.dtype: input should be a valid string",
        "    fix: write it in double quotes",
        f"4 problem(s) in {path}",
    ]
    for mended in (
        ('name = "a/b"', 'name = "B"'),
        ("prize = 1\n", "\n"),
        ('"a"', '"a/c"'),
        ("dtype = 1", 'dtype = "half"'),
    ):
        text = text.replace(*mended)
    assert rows(text) == [
        (
            21,
            "variant[1].serve.linear_backend",
            "vLLM 0.32.0 (cuda) does not know 'marlim'",
            "did you mean 'marlin'?",
        ),
        (24, "variant[2].family", "unknown family 'Qwen3'", "did you mean 'Qwen3-8B'?"),
    ]


@pytest.mark.parametrize(
    ("data", "line", "message", "fix"),
    [
        (b"a = 1\nb = '\xe9'\n", 2, "is not UTF-8 text", "save the file as UTF-8"),
        (VALID.encode("utf-16"), 1, "is not UTF-8 text", "save the file as UTF-8"),
        (
            VALID.encode("utf-8-sig"),
            1,
            "begins with a byte-order mark",
            "save the file as UTF-8 without one",
        ),
        (b"#" * 10 * 2**20, 1, "is 10,485,760 bytes long", "keep it under 128 KiB"),
    ],
)
def test_what_is_no_text_of_a_sane_size_is_not_parsed(
    data: bytes, line: int, message: str, fix: str, tmp_path: Path, bench: Any
) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(data)
    ran = bench("validate", path)
    assert ran.code == 2
    assert ran.err == f"{path}:{line}: file: {message}\n    fix: {fix}\n1 problem(s) in {path}\n"


def test_a_name_that_leads_to_no_file_is_a_problem_too(tmp_path: Path, bench: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, message in (
        (tmp_path, "is not a file"),
        (tmp_path / "pipe", "is not a file"),
        (Path("/dev/zero"), "is not a file"),
        (tmp_path / "missing", "no such file or directory"),
        (tmp_path / "dangling", "no such file or directory"),
        (tmp_path / "loop", "too many levels of symbolic links"),
    ):
        expected = [Problem(1, "file", message, "name an existing models.toml")]
        assert problems.read_text(path) == ("", expected)
        ran = bench("validate", path)
        assert ran.code == 2
        assert f"{path}:1: file: {message}" in ran.err


def test_a_link_is_followed_and_line_ends_may_be_windows(tmp_path: Path, bench: Any) -> None:
    (tmp_path / "real.toml").write_bytes(VALID.replace("\n", "\r\n").encode())
    (tmp_path / "models.toml").symlink_to("real.toml")
    ran = bench("validate", tmp_path / "models.toml")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{tmp_path / 'models.toml'}: valid, 2 variants\n"
    ran = bench("validate", tmp_path / "models.toml", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, [])


def test_of_very_many_problems_the_first_are_told() -> None:
    found = problems.find_problems("".join(f"a{n} = 1\n" for n in range(5000)) + VALID)
    assert len(found) == 101
    assert [problem.line for problem in found] == list(range(1, 102))
    assert found[-1] == Problem(101, "file", "has further problems", "mend those above first")


def test_too_many_pairs_are_one_problem_and_not_checked_one_by_one() -> None:
    variants = "".join(
        f'[[variant]]\nname = "v{n}"\nfamily = "Qwen3-8B"\nrepo = "a/b"\n' for n in range(1999)
    )
    (found,) = problems.find_problems(VALID + variants)
    assert found == Problem(
        11,
        "variant",
        "2001 variants on 1 kinds of hardware are too many",
        "keep to 2,000 pairs; use a second file",
    )


def test_many_variants_each_on_a_machine_of_its_own_are_as_many_pairs() -> None:
    own = "".join(
        f'[[hardware]]\nid = "h{n}"\nname = "H"\nengine = "cpu"\nrunner = ["x"]\n'
        f'[[variant]]\nname = "v{n}"\nfamily = "Qwen3-8B"\nrepo = "a/b"\nhardware = ["h{n}"]\n'
        for n in range(600)
    )
    assert problems.find_problems(VALID.replace('"l40"', '"h900"') + own) == []


VALUES = st.recursive(
    st.one_of(
        st.none().map(lambda _: "2026-01-01"),
        st.sampled_from(("nan", "-inf", "0", "1", "2.5", "true", '"a"', '"l40"', '"dummy"', "''")),
        st.integers(-(10**30), 10**30).map(str),
        st.text(max_size=5).map(lambda text: json.dumps(text).replace("\x7f", "")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(
            st.sampled_from(("name", "id", "l40", "serve", "load_format", "gpus", "x")),
            inner,
            max_size=3,
        ).map(lambda items: "{" + ", ".join(f"{k} = {v}" for k, v in items.items()) + "}"),
    ),
    max_leaves=6,
)
TABLES: dict[str, type[config.Model]] = {
    "": config.Experiment,
    "[[variant]]": config.Variant,
    "[[family]]": config.Family,
    "[family.quality]": config.QualityOptions,
    "[[hardware]]": config.Hardware,
    "[variant.on.l40]": config.Overrides,
    "[quality]": config.QualityOptions,
    "[speed]": config.SpeedOptions,
    "[serve]": config.ServeOptions,
}


@given(st.data())
def test_any_value_anywhere_is_a_located_problem_or_valid_but_no_traceback(
    data: st.DataObject,
) -> None:
    header = data.draw(st.sampled_from(tuple(TABLES)))
    keys = data.draw(st.lists(st.sampled_from(tuple(TABLES[header].model_fields)), unique=True))
    body = "".join(f"{key} = {data.draw(VALUES)}\n" for key in keys)
    text = body + VALID if not header else f"{VALID}{header}\n{body}"
    found = problems.find_problems(text)
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in found)
    assert all(problem.message and problem.fix for problem in found)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("unknown key")])
def test_editors_refuse_unknown_keys_too(name: str) -> None:
    schema = config.schema()
    jsonschema.validate(tomllib.loads(VALID), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(CASES[name][0]), schema)
