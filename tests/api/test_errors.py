"""Errors that no request of the caller's is the cause of, and how they are told."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from server.db.database import Database, DatabaseBusy, DatabaseClosed, DatabaseFull
from tests.api.wire import HELLO, answer_of
from tests.support import LiveServer


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let every unit of work fail."""

    async def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Database, "read", fail)
    monkeypatch.setattr(Database, "write", fail)


async def test_a_fault_of_the_server_names_the_request(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 in the form of every error, with all its headers; the text has the id to look for."""
    with monkeypatch.context() as patched:
        failing(patched, RuntimeError("a fault"))
        answer = await http.get("/v1/assistants")
    error = answer_of(answer, 500)["error"]
    assert error == {
        "message": "The server had an error processing your request. Sorry about that! You can "
        "retry your request. (Please look for the request ID "
        f"{answer.headers['x-request-id']} in the server's log.)",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    answer_of(await http.get("/v1/assistants"))


@pytest.mark.parametrize(
    ("error", "header", "value"),
    [
        (DatabaseBusy, "retry-after", "1"),
        (DatabaseClosed, "retry-after", "1"),
        (DatabaseFull, "x-should-retry", "false"),
    ],
)
async def test_a_database_that_cannot_is_told_as_unavailable(
    http: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    header: str,
    value: str,
) -> None:
    """503: nothing was written. The SDKs try again soon, but not while the disk is full."""
    with monkeypatch.context() as patched:
        failing(patched, error("no"))
        answer = await http.post("/v1/threads", json={"messages": [HELLO]})
    told = answer_of(answer, 503)["error"]
    assert (told["type"], told["param"], told["code"]) == ("server_error", None, None)
    assert answer.headers[header] == value


async def test_the_sdk_raises_its_own_errors(client: openai.AsyncOpenAI) -> None:
    """By status, with our code, param and request id."""
    with pytest.raises(openai.NotFoundError) as missing:
        await client.beta.threads.retrieve("thread_x")
    assert missing.value.body == {
        "message": "No thread found with id 'thread_x'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert str(missing.value.request_id).startswith("req_")
    with pytest.raises(openai.BadRequestError) as refused:
        await client.beta.assistants.create(model="gpt-4o", name="x" * 257)
    assert (refused.value.code, refused.value.param) == ("string_above_max_length", "name")
    with pytest.raises(openai.PermissionDeniedError):
        await client.models.delete("gpt-4o")


async def test_the_sdk_retries_what_may_succeed_later(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy database is tried again and then answers."""
    tries = 0
    read = Database.read

    async def first_busy(self: Database, work: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise DatabaseBusy("busy")
        return await read(self, work)

    monkeypatch.setattr(Database, "read", first_busy)
    async with server.sdk(max_retries=2) as client:
        assert (await client.beta.assistants.list()).data == []
    assert tries == 2
