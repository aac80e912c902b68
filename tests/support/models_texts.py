"""Small models.toml texts that several tests change."""

VALID = """\
[[hardware]]
id = "l40"
name = "NVIDIA L40"
engine = "cuda"
runner = ["self-hosted", "gpu-l40"]
gpu_memory_gib = 44.5

[[family]]
name = "Qwen3-8B"
baseline = "Qwen3-8B BF16"
[[variant]]
name = "Qwen3-8B BF16"
family = "Qwen3-8B"
repo = "Qwen/Qwen3-8B"

[[variant]]
name = "B"
family = "Qwen3-8B"
repo = "a/b"
"""

LAYERS = """
[serve]
dtype = "half"
max_model_len = 1024
block_size = 16
[speed]
prompts = 50
sessions = 1
repeats = 4
[quality]
documents = 10
[[hardware]]
id = "a"
name = "A"
engine = "cpu"
runner = ["x"]
serve = { max_model_len = 2048, max_num_seqs = 1 }
[[hardware]]
id = "b"
name = "B"
engine = "cpu"
runner = ["x"]
[[family]]
name = "F"
baseline = "V"
quality = { concurrency = 4, data = "bundled" }
[[variant]]
name = "V"
family = "F"
repo = "x/y"
serve = { max_num_seqs = 2, dtype = "auto" }
speed = { prompts = 60 }
quality.data = "hub"
[variant.on.a]
serve.dtype = "bfloat16"
speed.repeats = 5
quality.documents = "all"
[[variant]]
name = "Only B"
family = "F"
repo = "x/z"
hardware = ["b"]
"""
