"""Recorded traffic of the hosted API: its requests validate, its responses keep their form.

Runs where `ASSISTANTS_CONTRACT_DIR` names the folder of the recordings.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server import schemas

CONTRACT = os.environ.get("ASSISTANTS_CONTRACT_DIR")
RECORDINGS = Path(CONTRACT, "recorded-exchanges.jsonl") if CONTRACT else None

pytestmark = pytest.mark.skipif(RECORDINGS is None, reason="ASSISTANTS_CONTRACT_DIR is not set")

BODIES = {
    "/assistants": schemas.CreateAssistant,
    "/assistants/X": schemas.ModifyAssistant,
    "/threads": schemas.CreateThread,
    "/threads/X": schemas.ModifyThread,
    "/threads/runs": schemas.CreateThreadAndRun,
    "/threads/X/messages": schemas.CreateMessage,
    "/threads/X/messages/X": schemas.ModifyMessage,
    "/threads/X/runs": schemas.CreateRun,
    "/threads/X/runs/X/submit_tool_outputs": schemas.SubmitToolOutputs,
}
OBJECTS: dict[str, type[Any]] = {
    "assistant": schemas.Assistant,
    "assistant.deleted": schemas.AssistantDeleted,
    "thread": schemas.Thread,
    "thread.deleted": schemas.ThreadDeleted,
    "thread.message": schemas.Message,
    "thread.message.deleted": schemas.MessageDeleted,
    "thread.run": schemas.Run,
    "thread.run.step": schemas.RunStep,
    "model": schemas.Model,
}
ADDED = {
    "model": {"context_length", "state", "error"},
    "thread.message": {"status", "incomplete_details", "incomplete_at", "completed_at"},
    "thread.run.step": {"expired_at", "metadata"},
}


def exchanges() -> Iterator[dict[str, Any]]:
    """The recorded exchanges of the resources that have schemas."""
    assert RECORDINGS is not None
    with RECORDINGS.open() as lines:
        for exchange in map(json.loads, lines):
            if exchange["beta"] == "assistants=v2" or "/models" in exchange["path"]:
                yield exchange


def body_of(exchange: dict[str, Any]) -> type[Any] | None:
    """The schema of what was sent, if anything was."""
    path = re.sub(r"(asst|thread|run|msg|step)_\w+", "X", exchange["path"].removeprefix("/v1"))
    return BODIES.get(path) if exchange["method"] == "POST" else None


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every wire object within a response, also in the data of stream events."""
    if isinstance(value, str):
        for line in value.splitlines():
            if line.startswith("data: {"):
                yield from objects(json.loads(line.removeprefix("data: ")))
    elif isinstance(value, dict):
        if value.get("object") in OBJECTS:
            yield value
        for part in value.values():
            yield from objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from objects(part)


def as_recorded(wire: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """Our object without what the recording lacks and we always show."""
    added = ADDED.get(wire["object"], set()) - set(recorded)
    shown = {key: value for key, value in wire.items() if key not in added}
    if wire["object"] == "thread.run" and recorded["instructions"] is None:
        shown["instructions"] = None
    return shown


def mended(recorded: dict[str, Any]) -> dict[str, Any]:
    """The hosted API showed `file_ids` instead of `attachments` on a message just modified."""
    return {"attachments" if k == "file_ids" else k: v for k, v in recorded.items()}


def row_of(recorded: dict[str, Any]) -> SimpleNamespace:
    """A database row that would have led to the recorded object."""
    missing = dict.fromkeys(("incomplete_details", "incomplete_at", "completed_at", "expired_at"))
    ours = {"context_length": None, "state": "ready", "error": None}  # of models
    stored = {
        **missing,
        "metadata": {},
        "status": "completed",
        "attachments": [],
        **ours,
        **recorded,
    }
    del stored["object"]
    return SimpleNamespace(**stored)


def test_every_recorded_request_is_accepted() -> None:
    """What official clients sent to the hosted API validates, key by key."""
    seen = 0
    for exchange in exchanges():
        if (body := body_of(exchange)) is not None:
            body.model_validate(exchange["request"] or {})
            seen += 1
    assert seen > 60


def test_every_recorded_object_comes_out_of_a_row_as_it_was() -> None:
    """Same keys, order, values and number types, but for the keys that we add."""
    seen = set()
    for exchange in exchanges():
        for recorded in objects(exchange["response"]):
            shown = OBJECTS[recorded["object"]].model_validate(row_of(recorded))
            wire = json.loads(schemas.pretty(shown))
            assert json.dumps(as_recorded(wire, recorded)) == json.dumps(mended(recorded))
            seen.add(recorded["object"])
    assert seen == set(OBJECTS)


def test_a_created_assistant_is_stored_as_the_hosted_api_showed_it() -> None:
    """Tools, resources, defaults and formats of the recorded creations, from request to wire."""
    for exchange in exchanges():
        if body_of(exchange) is schemas.CreateAssistant:
            stored = schemas.CreateAssistant.model_validate(exchange["request"]).stored()
            shown = {k: v for k, v in exchange["response"].items() if k in stored}
            if "vector_stores" in json.dumps(exchange["request"]):  # their ids come later
                stored["tool_resources"] = shown["tool_resources"]
            assert json.dumps(dict(sorted(stored.items()))) == json.dumps(
                dict(sorted(shown.items()))
            )


def test_a_created_message_is_stored_as_the_hosted_api_showed_it() -> None:
    """A string becomes a text part with annotations; metadata and attachments have defaults."""
    for exchange in exchanges():
        if body_of(exchange) is schemas.CreateMessage:
            stored = schemas.CreateMessage.model_validate(exchange["request"]).stored()
            assert stored.items() <= exchange["response"].items()
