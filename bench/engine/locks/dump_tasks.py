"""Writes which tasks, groups and tags this lm-eval knows, and what each wants.

Run by the engine environment's Python, not by the tool's:

    cd bench/engine/locks; <engine>/bin/python dump_tasks.py lm-eval-tasks.json

A task's Python files are read, not run: what they import and this environment does not have is what
the task lacks here.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    """Writes the table: one line for each name, so that a new version shows as a readable diff."""
    from lm_eval.tasks import TaskManager

    index = TaskManager().task_index
    names = {name: describe(entry) for name, entry in sorted(index.items())}
    lines = [f"  {json.dumps(name)}: {json.dumps(said)}" for name, said in names.items()]
    version = json.dumps(metadata.version("lm_eval"))
    path.write_text(f'{{"version": {version}, "names": {{\n' + ",\n".join(lines) + "\n}}\n")


def describe(entry: Any) -> dict[str, Any]:
    """What is not as for most: a single task of choices, safe, with all packages there.

    Returns:
        "kind" of what is no task, "output" type, own "shots", "unsafe" if it runs what a
        model wrote, "lacks" with the packages that are missing.
    """
    kind = entry.kind.name.lower()
    if kind in ("group", "tag"):
        members = (entry.cfg or {}).get("task") if kind == "group" else sorted(entry.tags)
        listed = [members] if isinstance(members, str) else members or []
        named = [each if isinstance(each, str) else each.get("task") for each in listed]
        return {"kind": kind, "of": [name for name in named if isinstance(name, str)]}
    said = entry.cfg or {}
    output = said.get("output_type", "unknown")
    known = {
        "output": None if output == "multiple_choice" else output,
        "shots": said.get("num_fewshot"),
        "unsafe": True if said.get("unsafe_code") else None,
        "lacks": lacking(said, entry.yaml_path) or None,
    }
    return {key: value for key, value in known.items() if isinstance(value, str | int | list)}


def lacking(configuration: dict[str, Any], yaml: Path) -> list[str]:
    """The packages that a task's functions import and that are not installed."""
    files = {file for value in _texts(configuration) for file in _function_file(value)}
    if str(configuration.get("class", "")):
        files |= {*yaml.parent.glob("*.py")}
    found = {package for file in files for package in imports(file)}
    return sorted(package for package in found if not _is_installed(package))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _function_file(value: str) -> list[Path]:
    """The file of a function that a configuration names: folder/utils.process_results."""
    if not value.startswith("/") or "\n" in value:
        return []
    file = Path(value.rpartition(".")[0] + ".py")
    return [file] if file.is_file() else []


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """The packages that a file imports when it is read, and those that its neighbours do for it."""
    found: set[str] = set()
    for node in _run_at_import(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
            inside = node.module.removeprefix("lm_eval.tasks.")
            for name in (inside, *(f"{inside}.{alias.name}" for alias in node.names)):
                other = _tasks_folder(file) / f"{name.replace('.', '/')}.py"
                if inside != node.module and other.is_file() and other != file:
                    found |= imports(other)
    return frozenset(found)


def _run_at_import(tree: ast.AST) -> Iterator[ast.stmt]:
    """Statements outside functions, and not tried for in vain."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Try) and any(_says_so(handler) for handler in node.handlers):
            yield from (each for each in ast.walk(node) if isinstance(each, ast.stmt))
        elif not isinstance(node, ast.Try):
            if isinstance(node, ast.stmt):
                yield node
            yield from _run_at_import(node)


def _says_so(handler: ast.ExceptHandler) -> bool:
    """Whether a package that is missing ends it all the same."""
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def _tasks_folder(file: Path) -> Path:
    return next(folder for folder in file.parents if folder.name == "tasks")


@functools.cache
def _is_installed(package: str) -> bool:
    return package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} TABLE.json")
    main(Path(sys.argv[1]))
