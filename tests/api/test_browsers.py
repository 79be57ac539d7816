"""What the browser that shows a page is told: whether it may call, and read the answers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from server.access.keys import NewKey
from tests.api.wire import HELLO, answer_of
from tests.covering import routes
from tests.support import LiveServer, live_server

OURS = "http://localhost:3000"
OTHERS = ["https://app.example", "null"]
OF_SDK = "authorization,content-type,openai-beta,x-stainless-lang,x-stainless-retry-count"
TO_POST = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": OF_SDK}


def from_page(origin: str, **more: str) -> dict[str, str]:
    """The headers of a request that a page makes."""
    return {"Origin": origin, **more}


def granted(answer: httpx.Response, origin: str) -> None:
    """What a browser needs to send what a page asked for."""
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-headers"] == OF_SDK
    assert answer.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    readable(answer, origin)


def readable(answer: httpx.Response, origin: str) -> None:
    """By a page of that origin, with all headers; a cache gives it to no other page."""
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-expose-headers"] == "*"
    assert answer.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in answer.headers


def kept(answer: httpx.Response) -> None:
    """From every page."""
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_page_of_this_machine_may_send_what_the_sdks_send(http: httpx.AsyncClient) -> None:
    """On every route, with whatever headers it names."""
    for _, _, path in (route.partition(" ") for route, _ in routes()):
        granted(await http.options(path, headers=from_page(OURS, **TO_POST)), OURS)


async def test_a_page_of_this_machine_may_read_every_answer(http: httpx.AsyncClient) -> None:
    """Objects, streams, and refusals by whatever part of the server."""
    page = from_page(OURS, **{"OpenAI-Beta": "assistants=v2"})
    made = await http.post("/v1/assistants", json={"model": "gpt-4o"}, headers=page)
    readable(made, OURS)
    body = {"assistant_id": answer_of(made)["id"], "thread": {"messages": [HELLO]}, "stream": True}
    stream = await http.post("/v1/threads/runs", json=body, headers=page)
    assert "thread.run.completed" in stream.text
    readable(stream, OURS)
    for method, path, status in (
        ("GET", "/v1/assistants/asst_x", 404),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/threads", 405),
        ("POST", "/v1/assistants", 400),
    ):
        answer = await http.request(method, path, headers=page)
        assert answer.status_code == status
        readable(answer, OURS)


@pytest.mark.parametrize("allow_open", [False, True])
async def test_without_keys_no_other_page_may(tmp_path: Path, allow_open: bool) -> None:
    """Also where everybody may call who can: not by the hand of whoever has a page open."""
    async with (
        live_server(tmp_path, server__allow_open=allow_open) as server,
        server.http() as http,
    ):
        granted(await http.options("/v1/threads", headers=from_page(OURS, **TO_POST)), OURS)
        for origin in OTHERS:
            for path in ("/v1/threads", "/healthz"):
                kept(await http.get(path, headers=from_page(origin)))
                asked = await http.options(path, headers=from_page(origin, **TO_POST))
                assert asked.status_code == 405
                kept(asked)


@pytest.mark.parametrize("origin", [OURS, *OTHERS])
async def test_with_keys_any_page_may_call(
    server: LiveServer, http: httpx.AsyncClient, origin: str
) -> None:
    """It is asked for its key when it calls, and not before, and may read what becomes of that."""
    _, secret = await server.services.keys.create(NewKey())
    granted(await http.options("/v1/models", headers=from_page(origin, **TO_POST)), origin)
    for bearer, status in ((secret, 200), ("sk-wrong", 401)):
        headers = from_page(origin, Authorization=f"Bearer {bearer}")
        answer = await http.get("/v1/models", headers=headers)
        assert answer.status_code == status
        readable(answer, origin)


async def test_who_is_no_page_is_told_nothing_of_pages(http: httpx.AsyncClient) -> None:
    """Nor has an OPTIONS that asks for nothing an answer of its own."""
    kept(await http.get("/v1/models"))
    for headers in ({}, TO_POST):
        asked = await http.options("/v1/models", headers=headers)
        assert asked.status_code == 405
        kept(asked)
    assert (await http.options("/v1/models", headers=from_page(OURS))).status_code == 405
