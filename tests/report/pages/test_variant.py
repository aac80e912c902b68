"""What a variant's page says of a GGUF file."""

from __future__ import annotations

import synthetic

from bench.records.record import ModelFacts
from report.pages import variant

MODEL = ModelFacts(
    source="hub",
    repo="a/x-GGUF",
    file="x-Q4_K_M.gguf",
    parameters=135,
    quantization_config={"quant_method": "gguf", "tensors": {"Q4_K": 27, "F32": 9}},
)
ENGINE = {"vllm-gguf-plugin": "0.0.5", "quantbench-gguf": "1"}


def test_a_gguf_file_is_named_with_its_tensors_and_what_loaded_it() -> None:
    record, _ = synthetic.speed_record(synthetic.BF16, prompts=2)
    assert record.engine
    argv = ("vllm", "serve", "a/x-GGUF/x-Q4_K_M.gguf")
    gguf = record.model_copy(
        update={
            "model": MODEL,
            "spec": {**record.spec, "engine": {"gguf": ENGINE}},
            "engine": record.engine.model_copy(update={"argv": argv}),
        }
    )
    assert "9 F32, 27 Q4_K" in str(variant.served(gguf))
    assert "quantbench-gguf 1, vllm-gguf-plugin 0.0.5" in str(variant.engine(gguf))
    assert "vllm serve a/x-GGUF/x-Q4_K_M.gguf" in str(variant.commands(gguf))
    assert "Loaded by" not in str(variant.engine(record))
    assert "Tensors" not in str(variant.served(record))
