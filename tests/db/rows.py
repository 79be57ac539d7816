"""Rows that are whole but say nothing, for tests of the database alone."""

from __future__ import annotations

from typing import Any

from server.db.database import Database, Tx
from server.db.stores import Record, Stores

PROJECT = "default"


def thread(tx: Tx, **values: Any) -> Record:
    """A new thread."""
    return tx.threads.insert(
        {
            "id": tx.ids.new("thread"),
            "project_id": PROJECT,
            "created_at": tx.now,
            "metadata": {},
            "tool_resources": {},
            **values,
        }
    )


def message_values(thread_id: str, message_id: str, **values: Any) -> dict[str, Any]:
    """A user's message."""
    return {
        "id": message_id,
        "project_id": PROJECT,
        "thread_id": thread_id,
        "created_at": 1,
        "status": "completed",
        "role": "user",
        "content": [{"type": "text", "text": {"value": "Hello", "annotations": []}}],
        "attachments": [],
        "metadata": {},
        **values,
    }


def message(tx: Tx, thread_id: str, **values: Any) -> Record:
    """A new message of a user."""
    return tx.messages.insert(message_values(thread_id, tx.ids.new("msg"), **values))


async def message_ids(db: Database, of: Record) -> set[str]:
    """The messages that a reader finds in a thread."""
    found = await db.read(lambda tx: tx.messages.every(thread_id=of.id))
    return {row.id for row in found}


def assistant(stores: Stores, assistant_id: str, **values: Any) -> Record:
    """A new assistant."""
    return stores.assistants.insert(
        {
            "id": assistant_id,
            "project_id": PROJECT,
            "created_at": 1,
            "model": "tiny",
            "tools": [],
            "tool_resources": {},
            "metadata": {},
            "response_format": "auto",
            **values,
        }
    )


def run(tx: Tx, thread_id: str, **values: Any) -> Record:
    """A new run, queued unless told otherwise."""
    return tx.runs.insert(
        {
            "id": tx.ids.new("run"),
            "project_id": PROJECT,
            "thread_id": thread_id,
            "created_at": tx.now,
            "assistant_id": "asst_1",
            "status": "queued",
            "model": "tiny",
            "model_id": "tiny",
            "tools": [],
            "tool_resources": {},
            "metadata": {},
            "truncation_strategy": {"type": "auto", "last_messages": None},
            "response_format": "auto",
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            **values,
        }
    )


def step(tx: Tx, of: Record, **values: Any) -> Record:
    """A new step of a run, in progress unless told otherwise."""
    return tx.steps.insert(
        {
            "id": tx.ids.new("step"),
            "project_id": PROJECT,
            "thread_id": of.thread_id,
            "run_id": of.id,
            "created_at": tx.now,
            "assistant_id": of.assistant_id,
            "type": "message_creation",
            "status": "in_progress",
            "step_details": {},
            "metadata": {},
            "after_message": 0,
            **values,
        }
    )


def turn(tx: Tx, of: Record, step_id: str | None, ordinal: int, **values: Any) -> Record:
    """A model call of a run: 10 tokens read, 2 of them cached, and 5 written."""
    return tx.turns.insert(
        {
            "run_id": of.id,
            "step_id": step_id,
            "ordinal": ordinal,
            "created_at": tx.now,
            "model_fingerprint": "fp",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "cached_tokens": 2,
            "reasoning_tokens": 0,
            "finish_reason": "stop",
            "token_ids": b"",
            **values,
        }
    )
