"""Where our answers differ from recorded ones, and why: the only list of it.

`docs/wire.md` shows the same rows to its readers; a test keeps both in step. `mend` turns a
recorded object into what ours must be equal to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

MARKER = re.compile(r"【\d+:(?=\d+†)")


class Anything:
    """Equal to whatever we answer."""


ANY = Anything()


@dataclass(frozen=True, slots=True)
class Deviation:
    """One difference. Without `mend` it does not show in what was recorded."""

    what: str
    recorded: str
    here: str
    why: str
    mend: Callable[[Json], Json] | None = None


def _with_status(recorded: Json) -> Json:
    if recorded.get("object") != "thread.message" or "status" in recorded:
        return recorded
    added = {
        "status": "completed",
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": recorded["created_at"],
    }
    mended: Json = {}
    for key, value in recorded.items():
        mended |= {**added, key: value} if key == "role" else {key: value}
    return mended


def _with_attachments(recorded: Json) -> Json:
    if recorded.get("object") != "thread.message":
        return recorded
    return {"attachments" if key == "file_ids" else key: v for key, v in recorded.items()}


def _with_instructions(recorded: Json) -> Json:
    if recorded.get("object") != "thread.run":
        return recorded
    return {**recorded, "instructions": recorded["instructions"] or ""}


def _with_both_deadlines(recorded: Json) -> Json:
    if recorded.get("object") != "thread.run.step":
        return recorded
    mended: Json = {}
    for key, value in recorded.items():
        mended[key] = value
        if key == "expires_at":
            mended["expired_at"] = None
    return {**mended, "metadata": {}}


def _with_true_resources(recorded: Json) -> Json:
    of_one = recorded.get("object") in ("thread", "thread.run")
    if not of_one or "file_search" in recorded["tool_resources"]:
        return recorded
    return {**recorded, "tool_resources": ANY}


def _with_a_name(recorded: Json) -> Json:
    if recorded.get("object") != "vector_store":
        return recorded
    return {**recorded, "name": recorded["name"] or ""}


def _with_the_types_name(recorded: Json) -> Json:
    if recorded.get("object") != "vector_store.file_batch":
        return recorded
    return {**recorded, "object": "vector_store.files_batch"}


def _with_all_of_a_file(recorded: Json) -> Json:
    if recorded.get("object") != "vector_store.file" or "usage_bytes" in recorded:
        return recorded
    mended: Json = {}
    for key, value in recorded.items():
        mended[key] = value
        if key == "object":
            mended["usage_bytes"] = ANY
    return {**mended, "chunking_strategy": ANY, "attributes": {}}


def _with_our_markers(recorded: Json) -> Json:
    said = {key: recorded[key] for key in ("value", "text") if isinstance(recorded.get(key), str)}
    return {**recorded, **{key: MARKER.sub("【0:", text) for key, text in said.items()}}


def _with_our_models(recorded: Json) -> Json:
    if recorded.get("object") != "model":
        return {key: value for key, value in recorded.items() if key != "_truncated_from"}
    ours = dict.fromkeys(("id", "owned_by", "context_length", "state", "error"), ANY)
    return {**recorded, **ours}


DEVIATIONS = (
    Deviation(
        "message, over REST",
        "no `status`, `incomplete_details`, `incomplete_at`, `completed_at`",
        "always there, in the order that stream events have",
        "the types require them",
        _with_status,
    ),
    Deviation(
        "message, just modified",
        "`file_ids: []` instead of `attachments`",
        "`attachments`",
        "a fault of the service",
        _with_attachments,
    ),
    Deviation(
        "run without instructions",
        "`instructions: null`",
        '`instructions: ""`',
        "the type is a string",
        _with_instructions,
    ),
    Deviation(
        "run step",
        "`expires_at` only",
        "`expires_at`, `expired_at` and `metadata`",
        "the types have the latter two",
        _with_both_deadlines,
    ),
    Deviation(
        "tool resources of threads and runs",
        "change between endpoints",
        "the true ones everywhere",
        "quirk without meaning",
        _with_true_resources,
    ),
    Deviation(
        "vector store without a name",
        "`name: null`",
        '`name: ""`',
        "the type is a string",
        _with_a_name,
    ),
    Deviation(
        "file batch",
        "`object: vector_store.file_batch`",
        "`object: vector_store.files_batch`",
        "the types have the latter",
        _with_the_types_name,
    ),
    Deviation(
        "files of a batch, in a list",
        "at times without `usage_bytes`, `chunking_strategy`, `attributes`",
        "always with them",
        "the types require the first",
        _with_all_of_a_file,
    ),
    Deviation(
        "citation markers",
        "`【4:0†name】`, whatever was counted to 4",
        "`【0:0†name】`: the run's first search, its first result",
        "it is the annotation that tells the file",
        _with_our_markers,
    ),
    Deviation(
        "models",
        "the service's, `owned_by` it",
        "this server's, `owned_by: local`, with `context_length`, `state` and `error`",
        "they name this server's things",
        _with_our_models,
    ),
    Deviation(
        "organisation, request ids and other headers",
        "the service's",
        "`openai-organization: default`, `openai-project` the caller's, ids of this server",
        "they name this server's things",
    ),
    Deviation(
        "comments in streams",
        "none",
        "`: ping` every `streams.ping` seconds while there is no event",
        "proxies close connections that are silent",
    ),
    Deviation(
        "`cache-control: no-store`, `connection: keep-alive`, `x-accel-buffering: no` on streams",
        "absent",
        "there",
        "proxies hold streams back without them",
    ),
    Deviation(
        "`openai-poll-after-ms` on runs, vector stores, their files and batches",
        "absent",
        "`100`",
        "the SDKs' polling helpers would wait a second",
    ),
    Deviation(
        "server error text",
        "asks to contact a help center",
        "names the request id to look for in the log",
        "there is no help center",
    ),
    Deviation(
        "floats smaller than 0.0001",
        "unknown",
        "shortest form, `0.00001`",
        "same number",
    ),
)


def mended(recorded: Any) -> Any:
    """A recorded answer as ours should be."""
    if isinstance(recorded, list):
        return [mended(each) for each in recorded]
    if not isinstance(recorded, dict):
        return recorded
    for deviation in DEVIATIONS:
        if deviation.mend is not None:
            recorded = deviation.mend(recorded)
    return {key: mended(value) for key, value in recorded.items()}
