"""Bodies that are no request at all: every route refuses them alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.api.wire import THREADS, World, answer_of, error_of, refused
from tests.covering import body_schema, routes
from tests.support import DEADLINE, live_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITH_BODY = [route for route, operation in routes() if body_schema(operation)]
NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
    "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not "
    "valid JSON. If you have trouble figuring out how to fix this, please contact us through our "
    "help center at help.openai.com.)"
)
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("route", WITH_BODY)
async def test_what_is_not_json_is_refused(spare: World, route: str) -> None:
    """Also NaN, infinities, half a surrogate pair, broken UTF-8, a byte order mark, two values."""
    for content in (
        b"{",
        b"nonsense",
        b" ",
        b"{'metadata': {}}",
        b'{"temperature": NaN}',
        b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}',
        rb'{"metadata": {"a": "\ud800"}}',
        b'{"metadata": {"a": "\xff"}}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b'{"a": 1,}',
    ):
        answer = await spare.http.post(spare.url(route), content=content, headers=JSON)
        refused(answer, NOT_JSON, None, None)


@pytest.mark.parametrize("route", WITH_BODY)
async def test_a_body_must_be_an_object(spare: World, route: str) -> None:
    """The error names no parameter."""
    for content, got in (
        (b"[{}]", "an array"),
        (b'"x"', "a string"),
        (b"1", "an integer"),
        (b"1.5", "a decimal number"),
        (b"true", "a boolean"),
    ):
        refused(
            await spare.http.post(spare.url(route), content=content, headers=JSON),
            f"Invalid type for the request body: expected an object, but got {got} instead.",
            None,
            "invalid_type",
        )


async def test_null_and_an_empty_array_are_an_empty_object(spare: World) -> None:
    """So clients in C# and in PHP ask for nothing in particular."""
    for content in (b"null", b"[]", b" [ ]"):
        made = answer_of(await spare.http.post("/v1/threads", content=content, headers=JSON))
        assert made["object"] == "thread"
        answer = await spare.http.post("/v1/assistants", content=content, headers=JSON)
        refused(
            answer, "Missing required parameter: 'model'.", "model", "missing_required_parameter"
        )


@pytest.mark.parametrize("route", WITH_BODY)
async def test_deep_nesting_is_refused(spare: World, route: str) -> None:
    """Before any schema is asked; no depth can exhaust the server's stack."""
    for depth in (65, 100_000):
        for content in (b'{"a":' * depth + b"1" + b"}" * depth, b'{"a":' + b"[" * depth):
            answer = await spare.http.post(spare.url(route), content=content, headers=JSON)
            assert error_of(answer)["type"] == "invalid_request_error"


async def test_sixty_four_levels_are_taken(spare: World) -> None:
    """The setting's default; what is within comes back."""
    schema: dict[str, object] = {}
    for _ in range(64 - 5):
        schema = {"a": schema}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    body = {"model": "gpt-4o", "tools": [tool]}
    shown = answer_of(await spare.http.post("/v1/assistants", json=body))
    assert shown["tools"][0]["function"]["parameters"] == schema
    tool["function"] = {"name": "f", "parameters": {"a": {"a": schema}}}
    message = error_of(await spare.http.post("/v1/assistants", json=body))["message"]
    assert message == (
        "The JSON body of your request is nested too deeply. At most 64 levels are taken."
    )


@pytest.mark.asyncio(loop_scope="function")
async def test_as_many_levels_as_the_setting_may_have_are_taken(tmp_path: Path) -> None:
    """What is kept and shown around them goes deeper still."""
    schema: dict[str, object] = {}
    for _ in range(200 - 5):
        schema = {"a": schema}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    async with live_server(tmp_path, limits__json_depth=200) as server, server.http() as http:
        answer_of(await http.post("/v1/assistants", json={"model": "gpt-4o", "tools": [tool]}))
        (shown,) = answer_of(await http.get("/v1/assistants"))["data"]
        assert shown["tools"][0]["function"]["parameters"] == schema


async def test_a_body_has_half_a_million_values_at_most(spare: World) -> None:
    """Whatever they are; brackets and commas within a text are none."""
    (said, parts) = ("[,{" * 85_000, [{"type": "text", "text": ""}] * 3)
    parts[0]["text"] = parts[1]["text"] = parts[2]["text"] = said
    message = {"role": "user", "content": parts}
    answer_of(await spare.http.post("/v1/threads", json={"messages": [message]}))
    for many in (b"[]", b"0", b'{"a":0}'):
        listed = b",".join([many] * 500_000)
        content = b'{"model":"gpt-4o","tools":[' + listed + b"]}"
        refused(
            await spare.http.post("/v1/assistants", content=content, headers=JSON),
            "The JSON body of your request has too many values in it. At most 500000 are taken.",
            None,
            None,
        )


@pytest.fixture
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A server that takes a thousand bytes."""
    folder = tmp_path_factory.mktemp("small")
    async with live_server(folder, limits__body_bytes=1000) as server, server.http() as http:
        yield http


@pytest.mark.asyncio(loop_scope="function")
async def test_a_body_that_is_too_large_is_refused(small: httpx.AsyncClient) -> None:
    """With 413, whether its length was announced or not."""

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 400

    for content in (b" " * 1001, unannounced()):
        error = error_of(await small.post("/v1/threads", content=content, headers=JSON), 413)
        assert error["message"].startswith("Maximum content size limit (1000) exceeded")
        assert error["type"] == "invalid_request_error"
    answer_of(await small.post("/v1/threads", content=b" " * 998 + b"{}", headers=JSON))


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize("sent", [b"", b'{"metadata": '], ids=["nothing", "a part"])
async def test_a_body_that_does_not_arrive_is_not_waited_for(tmp_path: Path, sent: bytes) -> None:
    """Whether it has begun or not: the answer says so, and the connection is closed."""
    async with live_server(tmp_path, limits__body_timeout=0.05) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port)
        head = b"POST /v1/threads HTTP/1.1\r\nhost: localhost\r\nopenai-beta: assistants=v2\r\n"
        writer.write(head + b"content-length: 99\r\n\r\n" + sent)
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    status, _, rest = answer.partition(b"\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"] == {
        "message": "The request's body did not arrive in time.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/plain", ""])
async def test_a_body_is_json_whatever_its_content_type(spare: World, kind: str) -> None:
    """What parses is taken."""
    thread = await spare.http.post(
        "/v1/threads", content=b'{"metadata": {"a": "b"}}', headers={"content-type": kind}
    )
    assert answer_of(thread)["metadata"] == {"a": "b"}


async def test_of_a_key_given_twice_the_last_counts(spare: World) -> None:
    """As with most parsers."""
    content = b'{"metadata": {"a": "1"}, "metadata": {"a": "2"}}'
    thread = answer_of(await spare.http.post("/v1/threads", content=content, headers=JSON))
    assert thread["metadata"] == {"a": "2"}


async def test_no_body_is_an_empty_object(spare: World) -> None:
    """So that what is required is missed, by name."""
    for route, param in (("/v1/assistants", "model"), ("/v1/threads/runs", "assistant_id")):
        refused(
            await spare.http.post(route),
            f"Missing required parameter: '{param}'.",
            param,
            "missing_required_parameter",
        )


async def test_text_comes_back_character_by_character(spare: World) -> None:
    """Raw UTF-8 in the answer, control characters escaped, nothing normalised."""
    text = 'e\N{COMBINING ACUTE ACCENT}\u2028\x00\x1f\x7f"\\/\N{GRINNING FACE}\u200b\ufeff'
    thread = await spare.http.post("/v1/threads", json={"metadata": {text[:60]: text}})
    assert answer_of(thread)["metadata"] == {text[:60]: text}
    assert "\N{GRINNING FACE}" in thread.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"bogus": 1, "messages": 1}, "bogus"),
        ({"metadata": 1, "messages": 1}, "messages"),
        ({"messages": [{"bogus": 1}]}, "messages[0].role"),
        ({"messages": [{"role": 1, "content": "x", "bogus": 1}]}, "messages[0].bogus"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": 1}]}, "messages[1].content"),
    ],
)
async def test_one_fault_is_told_at_a_time(
    spare: World, body: dict[str, object], param: str
) -> None:
    """First what is missing, then what is unknown, then field by field; within fields alike."""
    assert error_of(await spare.post(THREADS, body))["param"] == param
