"""Documents of lm-eval's tasks, written by hand in the shape of each task's data set on the Hub."""

from __future__ import annotations

import json
from typing import Any

from bench.engine import tasknames

Document = dict[str, Any]

GSM8K: list[Document] = [{"question": f"{n} and 0?", "answer": f"Count. #### {n}"} for n in (3, 4)]
NO_COMMA, END = "punctuation:no_comma", "startend:end_checker"
IFEVAL: list[Document] = [  # columns are the same in every row
    {
        "key": 1,
        "prompt": "No commas.",
        "instruction_id_list": [NO_COMMA],
        "kwargs": [{"end_phrase": None}],
    },
    {
        "key": 2,
        "prompt": "No commas; end well.",
        "instruction_id_list": [NO_COMMA, END],
        "kwargs": [{}, {"end_phrase": "well"}],
    },
]
PAGES = ["Ferries leave the harbour at noon.", "Nobody waits."]
WIKITEXT: list[Document] = [{"page": page} for page in PAGES]
LAMBADA: list[Document] = [{"text": "She mixes the dough"}, {"text": "He reads a book"}]
TRIVIAQA: list[Document] = [
    {"question": "Where", "answer": {"aliases": names, "value": names[0]}}
    for names in (["Paris", "City of Light"], ["Rome", "Roma"])
]
ARC: list[Document] = [
    {
        "id": str(number),
        "question": "What?",
        "choices": {
            "text": ["aaa", "bb", "c", "dddd"][:choices],
            "label": list("ABCD")[:choices],
        },
        "answerKey": right,
    }
    for number, (choices, right) in enumerate(((4, "C"), (3, "A")))
]
CHOICES = ["yes", "so", "no"]
_LABELLED = {"choices": CHOICES, "labels": [1, 1, 0]}
TRUTHFULQA: list[Document] = [
    {"question": "Is it?", "mc1_targets": _LABELLED, "mc2_targets": _LABELLED}
]
SUBJECTS = [name.removeprefix("mmlu_") for name in tasknames.members("mmlu")]
MMLU: dict[str, list[Document]] = {
    subject: [
        {
            "question": f"{subject}?",
            "subject": subject,
            "choices": list("wxyz"),
            "answer": number % 4,
        }
    ]
    for number, subject in enumerate(SUBJECTS)
}


def repositories() -> dict[str, dict[str, str]]:
    """The files of each data set on the Hub: a card that names the splits, and their rows."""
    return {
        "openai/gsm8k": _files({"main": GSM8K}),
        "google/IFEval": _files({"default": IFEVAL}),
        "EleutherAI/wikitext_document_level": _files({"wikitext-2-raw-v1": WIKITEXT}),
        "EleutherAI/lambada_openai": _files({"default": LAMBADA}),
        "mandarjoshi/trivia_qa": _files({"rc.nocontext": TRIVIAQA}),
        "allenai/ai2_arc": _files({"ARC-Challenge": ARC}),
        "truthfulqa/truthful_qa": _files({"multiple_choice": TRUTHFULQA}),
        "cais/mmlu": _files(MMLU, splits=("dev", "test")),
    }


def _files(
    configurations: dict[str, list[Document]],
    splits: tuple[str, ...] = ("train", "validation", "test"),
) -> dict[str, str]:
    """With the same rows in every split."""
    files: dict[str, str] = {}
    card = []
    for name, rows in configurations.items():
        paths = {split: f"{name}/{split}.jsonl" for split in splits}
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        files |= dict.fromkeys(paths.values(), lines)
        named = [{"split": split, "path": path} for split, path in paths.items()]
        card.append({"config_name": name, "data_files": named})
    return files | {"README.md": f"---\n{json.dumps({'configs': card})}\n---\n"}
