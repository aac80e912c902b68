"""Numbers before the merge: which pull request may be measured, and what of it is read.

A pull request is measured when someone with write permission sets the label *and* a reviewer of
the protected environment agrees. Of the pull request exactly one thing is read: the models.toml
blob of the commit that was labelled, through the API, by the main branch's code. Standard library
only, like `github`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import RefusedError
from bench.github.api import Api, NotFoundError, is_sha, quote, run_step

LABEL = "benchmark"
ENVIRONMENT = "benchmark-pull-request"
WORKFLOW = ".github/workflows/benchmark.yml"
MAX_ARTIFACT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Approved:
    """A pull request at the commit that was labelled, and its models.toml."""

    number: int
    head_sha: str
    models: bytes


def approve(event: Mapping[str, Any], api: Api, limit: int) -> Approved:
    """What may be measured, once everything that would forbid it has been ruled out.

    Args:
        event: of `pull_request_target`, type labeled.
        limit: the most bytes models.toml may have.

    Raises:
        RefusedError: who set the label, what it is on, or what it points to is not right.
    """
    if event.get("action") != "labeled" or event["label"]["name"] != LABEL:
        raise RefusedError("this is not the benchmark label being set", f"set the label {LABEL!r}")
    number, head_sha = int(event["number"]), event["pull_request"]["head"]["sha"]
    if not is_sha(head_sha):
        raise RefusedError("the event names no commit", "set the label again")
    _check_sender(event["sender"]["login"], api)
    _check_environment(api)
    now = api.get(f"pulls/{number}")
    if now["state"] != "open" or now["head"]["sha"] != head_sha:
        raise RefusedError(
            f"#{number} has changed since it was labelled at {head_sha[:12]}",
            "look at the new commit, then remove and set the label again",
        )
    return Approved(number, head_sha, read_models(head_sha, api, limit))


def _check_sender(login: str, api: Api) -> None:
    if login.endswith("[bot]"):
        raise RefusedError(
            f"{login} set the label, and a program approves nothing",
            "someone with write permission takes it off and sets it again",
        )
    permission = api.get(f"collaborators/{quote(login)}/permission")["permission"]
    if permission not in ("admin", "write"):
        raise RefusedError(
            f"{login} has {permission} permission and may not start a measurement",
            "someone with write permission sets the label",
        )


def _check_environment(api: Api) -> None:
    """Without reviewers the environment would wave everything through."""
    try:
        rules = api.get(f"environments/{ENVIRONMENT}").get("protection_rules") or []
    except NotFoundError:
        rules = []
    if not any(
        rule.get("type") == "required_reviewers" and rule.get("reviewers") for rule in rules
    ):
        raise RefusedError(
            f"the environment {ENVIRONMENT!r} has no required reviewers",
            "add them under Settings, Environments; see docs/set-up.md",
        )


def read_models(commit: str, api: Api, limit: int, name: str = "models.toml") -> bytes:
    """The bytes of models.toml in a commit: the blob itself, never where a link points.

    Raises:
        RefusedError: it is missing, a link, a folder, too large, or not what its hash says.
    """
    tree = api.get(f"git/trees/{commit}")["tree"]
    entry = next((entry for entry in tree if entry["path"] == name), None)
    if entry is None:
        raise RefusedError(f"{name} is missing in {commit[:12]}", "keep the file where it is")
    if entry["type"] != "blob" or entry["mode"] not in ("100644", "100755"):
        raise RefusedError(f"{name} in {commit[:12]} is not a plain file", "make it a plain file")
    if entry["size"] > limit:
        raise RefusedError(f"{name} has {entry['size']:,} bytes", f"keep it under {limit:,}")
    try:
        content = base64.b64decode(api.get(f"git/blobs/{entry['sha']}")["content"])
    except binascii.Error as error:
        raise RefusedError(f"{name} could not be read: {error}", "run the job again") from error
    # git's own name for these bytes: proof that nothing else was answered.
    actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    if actual.hexdigest() != entry["sha"]:
        raise RefusedError(f"{name} is not the blob {entry['sha'][:12]}", "run the job again")
    return content


def artifact_name(head_sha: str) -> str:
    """Where a measured pull request's records wait for its merge."""
    return f"measured-{head_sha}"


def find_measured(commit: str, api: Api) -> bytes | None:
    """The newest archive of records measured before `commit` merged their pull request, or None.

    An artifact's name proves nothing, as a fork's own run may choose it; what counts is that it
    comes from a run of the benchmark workflow on `pull_request_target`, which is always main's.
    """
    for pull in api.get(f"commits/{commit}/pulls"):
        if not pull.get("merged_at") or pull.get("merge_commit_sha") != commit:
            continue
        named = api.pages("actions/artifacts", name=artifact_name(pull["head"]["sha"]))
        for artifact in sorted(named, key=lambda each: str(each["created_at"]), reverse=True):
            run = api.get(f"actions/runs/{int(artifact['workflow_run']['id'])}")
            ours = run["event"] == "pull_request_target" and run["path"].split("@")[0] == WORKFLOW
            if ours and not artifact["expired"]:
                path = f"actions/artifacts/{int(artifact['id'])}/zip"
                return api.download(path, MAX_ARTIFACT_BYTES)
    return None


def withdraw(event: Mapping[str, Any], api: Api) -> str:
    """Takes the label off a pull request that was pushed to: the approval was for other bytes."""
    try:
        api.send("DELETE", f"issues/{int(event['number'])}/labels/{quote(LABEL)}")
    except NotFoundError:
        return "the label was not set"
    return "the label is off"


if __name__ == "__main__":  # `python3 -m bench.github.approval`: a push to a labelled pull request
    sys.exit(run_step(withdraw))
