"""A chat endpoint as the engine's side sees it: bytes on a wire in, chunks or an error out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import pytest

from server.engine import upstream
from server.engine.chunks import Chunk
from server.engine.protocol import (
    EndpointLost,
    EngineError,
    EngineUnavailable,
    PromptRefused,
    PromptTooLong,
    RateLimited,
)
from server.engine.refusals import retry_after
from server.engine.upstream import ChatEndpoint, EndpointSettings
from tests.endpoint import (
    DONE,
    Json,
    ScriptedEndpoint,
    call,
    chunk,
    content,
    counted,
    event,
    finished,
    scripted_endpoint,
)
from tests.support import DEADLINE

KEY = "sk-very-secret"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    """An endpoint that says what it is told to."""
    async with scripted_endpoint() as scripted:
        yield scripted


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further attempts come without a pause."""
    monkeypatch.setattr(upstream, "RETRY_AFTER", (0.0, 0.0))


@contextlib.asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[ChatEndpoint]:
    """A client of that endpoint, closed at the end."""
    client = ChatEndpoint(EndpointSettings(url, "big", **{"key": KEY, **settings}))
    yield client
    await client.close()


async def chunks_of(endpoint: ScriptedEndpoint, **settings: Any) -> list[Chunk]:
    """What a client reads of the next answer."""
    async with asyncio.timeout(DEADLINE), client_of(endpoint.url, **settings) as client:
        return [chunk async for chunk in client.ask(BODY)]


def text_of(chunks: list[Chunk]) -> str:
    """The text of an answer."""
    deltas = [chunk.choice.delta for chunk in chunks if chunk.choice is not None]
    return "".join(delta.content or "" for delta in deltas if delta is not None)


async def test_a_request_is_a_streamed_chat_completion(endpoint: ScriptedEndpoint) -> None:
    """It has the model, the key, and asks for usage; the rest is the caller's."""
    await chunks_of(endpoint)
    [asked] = endpoint.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    assert asked.body == {"model": "big", **BODY, **streaming}


async def test_without_a_key_none_is_sent(endpoint: ScriptedEndpoint) -> None:
    """An endpoint of one's own needs none."""
    await chunks_of(endpoint, key="")
    assert "authorization" not in endpoint.asked[0].headers


async def test_an_answer_is_its_chunks(endpoint: ScriptedEndpoint) -> None:
    """Text, the finish reason, and the usage in a chunk without choices."""
    endpoint.says("Hel", "lo", usage=counted(9, 2, cached=4, reasoning=1))
    chunks = await chunks_of(endpoint)
    assert text_of(chunks) == "Hello"
    assert [c.finish_reason for c in chunks] == [None, None, "stop", None]
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (9, 2)
    assert (usage.cached_tokens, usage.reasoning_tokens) == (4, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_bytes_may_come_in_any_pieces(endpoint: ScriptedEndpoint, size: int) -> None:
    """Also where a piece ends inside a character, a line or a marker."""
    stream = event(content("Grüße 🙂")) + event(finished("stop")) + DONE
    endpoint.streams(*(stream[i : i + size] for i in range(0, len(stream), size)))
    assert text_of(await chunks_of(endpoint)) == "Grüße 🙂"


@pytest.mark.parametrize(
    "stream",
    [
        b"data:{data}\n\ndata:[DONE]\n\n",
        b"data: {data}\r\n\r\ndata: [DONE]\r\n\r\n",
        b": hello\n\n: keep-alive\n\ndata: {data}\n\n: more\n\ndata: [DONE]\n\n",
        b"data:\n\ndata: \n\nevent: ping\n\ndata: {data}\n\ndata: [DONE]\n\n",
        b"retry: 100\nid: 1\nevent: message\ndata: {data}\n\ndata: [DONE]\n\n",
        b"data: {data}\n\n",
        b"data: {data}\n\ndata: [DONE] \n\ndata: never read\n\n",
    ],
    ids=["no space", "CRLF", "comments", "empty events", "other fields", "no DONE", "after DONE"],
)
async def test_event_streams_are_written_in_many_ways(
    endpoint: ScriptedEndpoint, stream: bytes
) -> None:
    """What the format allows, and an end without its marker, is understood."""
    data = json.dumps(chunk({"content": "Hi"}, "stop")).encode()
    endpoint.streams(stream.replace(b"{data}", data))
    assert text_of(await chunks_of(endpoint)) == "Hi"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["Hi \ud83d", "\ude42!"], "Hi 🙂!"),
        (["\ud83d", "", "\ude42\ud83d", "\ude42"], "🙂🙂"),
        (["Hi \ud83d", " there"], "Hi \ufffd there"),
        (["Hi \ude42", "!"], "Hi \ufffd!"),
        (["Hi", "\ud83d"], "Hi"),
    ],
    ids=["two halves", "by and by", "first only", "second only", "at the end"],
)
async def test_a_character_may_be_cut_in_two(
    endpoint: ScriptedEndpoint, pieces: list[str], text: str
) -> None:
    """Halves are put together, in text and in arguments; one that is alone is replaced."""
    endpoint.streams(*(escaped(content(piece)) for piece in pieces), event(finished("stop")))
    assert text_of(await chunks_of(endpoint)) == text
    by_turns = [call(index, arguments=piece) for piece in pieces for index in (0, 1)]
    endpoint.streams(*map(escaped, by_turns), event(finished("tool_calls")))
    assert arguments_of(await chunks_of(endpoint)) == {0: text, 1: text}


def escaped(value: Json) -> bytes:
    """An event in ASCII, which can say what is no Unicode."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def arguments_of(chunks: list[Chunk]) -> dict[int, str]:
    """Those of each call."""
    found = defaultdict[int, str](str)
    for each in chunks:
        delta = each.choice.delta if each.choice is not None else None
        for part in (delta and delta.tool_calls) or ():
            assert part.index is not None
            assert part.function is not None
            found[part.index] += part.function.arguments or ""
    return found


async def test_what_is_unknown_or_null_is_let_by(endpoint: ScriptedEndpoint) -> None:
    """Endpoints add fields, send null for what is not there, and usage without counts."""
    odd = {
        "choices": [
            {
                "index": 0,
                "delta": {"content": None, "tool_calls": None, "reasoning_content": "Hm."},
                "finish_reason": None,
                "logprobs": {},
            }
        ],
        "usage": None,
        "x_more": [1],
    }
    parts = chunk({"content": [{"type": "text", "text": "A"}, {"type": "thinking"}]})
    endpoint.chunks(odd, {"choices": None, "usage": {"total": "?"}}, parts, finished("stop"))
    chunks = await chunks_of(endpoint)
    assert text_of(chunks) == "A"
    assert [c.usage for c in chunks] == [None] * 4


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (b"data: {half\n\n", "sent what is no chunk"),
        (b'data: {"choices": 3}\n\n', "sent what is no chunk"),
        (b"data: null\n\n", "sent what is no chunk"),
        (b"", "ended its answer in the middle"),
    ],
    ids=["no JSON", "another form", "nothing", "no end"],
)
async def test_a_broken_answer_is_lost(endpoint: ScriptedEndpoint, last: bytes, said: str) -> None:
    """What was lost cannot be guessed; the chunks before it have been given out."""
    endpoint.streams(*filter(None, (event(content("One")), last)))
    async with asyncio.timeout(DEADLINE), client_of(endpoint.url) as client:
        chunks = aiter(client.ask(BODY))
        assert text_of([await anext(chunks)]) == "One"
        with pytest.raises(EndpointLost, match=said) as caught:
            await anext(chunks)
    assert endpoint.url in str(caught.value)


async def test_an_empty_reason_ends_nothing(endpoint: ScriptedEndpoint) -> None:
    """As some endpoints have it in each chunk: an answer that is cut behind it is lost."""
    endpoint.streams(*(event(chunk({"content": text}, "")) for text in ("Half an", " answ")))
    with pytest.raises(EndpointLost, match="ended its answer in the middle"):
        await chunks_of(endpoint)
    endpoint.streams(event(chunk({"content": "Whole."}, "")), event(finished("stop")))
    assert text_of(await chunks_of(endpoint)) == "Whole."


async def test_an_answer_of_nothing_but_its_end_is_lost(endpoint: ScriptedEndpoint) -> None:
    """As a proxy may send that has lost what it asks."""
    endpoint.streams(b": wait\n\n", DONE)
    with pytest.raises(EndpointLost, match="ended its answer in the middle"):
        await chunks_of(endpoint)


async def test_a_connection_that_breaks_is_lost(endpoint: ScriptedEndpoint) -> None:
    """In the middle of an answer nothing is asked for again."""
    endpoint.streams(event(content("One")), broken=True)
    with pytest.raises(EndpointLost, match="broke off its answer"):
        await chunks_of(endpoint)
    assert len(endpoint.asked) == 1


async def test_an_answer_that_is_no_stream_is_told(endpoint: ScriptedEndpoint) -> None:
    """An endpoint that cannot stream is no endpoint for us."""
    endpoint.refuses(200, {"choices": [{"message": {"content": "Hi"}}]})
    with pytest.raises(EndpointLost, match="text/event-stream"):
        await chunks_of(endpoint)


async def test_before_the_first_byte_it_is_asked_again(endpoint: ScriptedEndpoint) -> None:
    """A connection that was closed meanwhile has answered nothing."""
    endpoint.hangs_up()
    endpoint.hangs_up()
    endpoint.says("Hi")
    assert text_of(await chunks_of(endpoint)) == "Hi"
    assert len(endpoint.asked) == 3


async def test_an_endpoint_that_always_hangs_up_is_lost(endpoint: ScriptedEndpoint) -> None:
    """After three attempts it is enough."""
    for _ in range(3):
        endpoint.hangs_up()
    with pytest.raises(EndpointLost, match="did not answer"):
        await chunks_of(endpoint)
    assert len(endpoint.asked) == 3


async def test_an_endpoint_that_is_not_there() -> None:
    """The error names it, and neither the key nor the password of its URL."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        async with client_of(f"http://me:{KEY}@{host}/v1") as client:
            with pytest.raises(EngineUnavailable) as caught:
                await anext(aiter(client.ask(BODY)))
    assert str(caught.value).startswith(f"The endpoint http://{host}/v1 cannot be reached: ")
    assert KEY not in str(caught.value)


async def test_silence_is_not_waited_out(endpoint: ScriptedEndpoint) -> None:
    """Before the answer or within it, for longer than the timeout."""
    endpoint.streams(event(content("One")), asyncio.Event())
    with pytest.raises(EndpointLost, match=r"said nothing for 0\.05 seconds"):
        await chunks_of(endpoint, timeout=0.05)
    await asyncio.wait_for(endpoint.asked[0].gone.wait(), DEADLINE)


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, {"error": {"message": f"Wrong: {KEY}"}}, EngineError, "refused the key"),
        (403, "no", EngineError, "refused the key for model 'big' (403)"),
        (404, {"error": {"message": "no big here"}}, EngineError, "has no model 'big'"),
        (429, {"error": {"message": "slow down"}}, RateLimited, "slow down"),
        (400, {"error": {"message": f"Bad {KEY} role"}}, PromptRefused, "answered 400: Bad ***"),
        (422, {"detail": [{"msg": "field required"}]}, PromptRefused, "field required"),
        (
            400,
            {"error": {"message": "Too much.", "code": "context_length_exceeded"}},
            PromptTooLong,
            "Too much.",
        ),
        (
            400,
            {"object": "error", "message": "This model's maximum context length is 9 tokens."},
            PromptTooLong,
            "maximum",
        ),
        (
            500,
            {"error": {"code": 500, "message": "no", "type": "exceed_context_size_error"}},
            PromptTooLong,
            "no",
        ),
        (418, "<html>teapot</html>", EngineError, "answered 418: <html>"),
        (307, "", EngineError, "answered 307"),
        (500, {"error": "out of memory"}, EndpointLost, "answered 500: out of memory"),
        (503, "x" * 99_999, EndpointLost, "answered 503: xxx"),
    ],
)
async def test_refusals_are_told_apart(
    endpoint: ScriptedEndpoint, status: int, body: Any, kind: type[EngineError], said: str
) -> None:
    """Each status has its meaning; the endpoint is named, its words kept short, no key shown."""
    endpoint.refuses(status, body)
    with pytest.raises(EngineError) as caught:
        await chunks_of(endpoint)
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"The endpoint {endpoint.url} ")
    assert KEY not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_an_endpoint_that_puts_us_off_is_asked_again(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """When it says so, as often as it says so, and never without any pause."""
    monkeypatch.setattr(upstream, "SHORTEST_PAUSE", 0.01)
    paused: list[float] = []
    monkeypatch.setattr(asyncio, "sleep", noting(paused))
    for seconds in ("0", "-3", "0.02", "Wed, 21 Oct 2015 07:28:00 GMT"):
        endpoint.refuses(status, "later", Retry_After=seconds)
    endpoint.says("Hello.")
    assert text_of(await chunks_of(endpoint)) == "Hello."
    assert [asked.body for asked in endpoint.asked] == [endpoint.asked[0].body] * 5
    assert paused == [0.01, 0.01, 0.02, 0.01]


@pytest.mark.parametrize(
    ("status", "pauses"),
    [
        (429, ["soon"]),
        (429, ["nan"]),
        (429, ["61"]),
        (429, ["Fri, 01 Jan 2100 00:00:00 GMT"]),
        (429, ["30", "20", "11"]),
        (500, ["1"]),
        (400, ["1"]),
    ],
)
async def test_an_endpoint_is_not_waited_for_without_end(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, status: int, pauses: list[str]
) -> None:
    """All pauses together are a minute at most; what would be longer, or is no time, is refused."""
    paused: list[float] = []
    monkeypatch.setattr(asyncio, "sleep", noting(paused))
    for seconds in pauses:
        endpoint.refuses(status, "later", Retry_After=seconds)
    with pytest.raises(EngineError, match=f"answered {status}: later"):
        await chunks_of(endpoint)
    assert paused == [float(seconds) for seconds in pauses[:-1]]
    assert len(endpoint.asked) == len(pauses)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("Fri, 31 Dec 1999 23:59:59 GMT", -1.0),
        ("Sat, 01 Jan 2000 00:01:00 +0000", 60.0),
        ("Sat, 01 Jan 2000 00:01:00", 60.0),
        ("", None),
        ("inf", None),
        ("a while", None),
        ("Sat, 99 Jan 2000 00:01:00 GMT", None),
    ],
)
def test_how_long_an_endpoint_puts_us_off(said: str, seconds: float | None) -> None:
    """As seconds or as a date."""
    assert retry_after(said, datetime(2000, 1, 1, tzinfo=UTC)) == seconds


def noting(paused: list[float]) -> Callable[[float], Coroutine[None, None, None]]:
    """A pause that is over at once, and is written down."""

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    return sleep


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "the request exceeds the available context size"}, PromptTooLong),
        ({"message": "slow down", "code": 429}, RateLimited),
        ({"message": f"the GPU and {KEY} are gone"}, EndpointLost),
        ("gone", EndpointLost),
    ],
)
async def test_an_error_within_the_stream_is_one(
    endpoint: ScriptedEndpoint, error: Any, kind: type[EngineError]
) -> None:
    """An endpoint that has begun with 200 can only say it there."""
    endpoint.chunks({"error": error})
    with pytest.raises(EngineError) as caught:
        await chunks_of(endpoint)
    assert type(caught.value) is kind
    assert KEY not in str(caught.value)


async def test_cancel_closes_the_connection(endpoint: ScriptedEndpoint) -> None:
    """The endpoint sees it at once, although nobody reads; what came before is still there."""
    endpoint.streams(event(content("One")), asyncio.Event())
    async with asyncio.timeout(DEADLINE), client_of(endpoint.url) as client:
        answer = client.ask(BODY)
        chunks = aiter(answer)
        first = await anext(chunks)
        answer.cancel()
        await endpoint.asked[0].gone.wait()
        assert [each async for each in chunks] == []
    assert text_of([first]) == "One"


async def test_cancel_before_the_first_byte(endpoint: ScriptedEndpoint) -> None:
    """An answer that is only waited for ends too."""
    endpoint.streams(asyncio.Event())
    async with asyncio.timeout(DEADLINE), client_of(endpoint.url) as client:
        answer = client.ask(BODY)
        await endpoint.arrived.wait()
        answer.cancel()
        assert [each async for each in answer] == []
        await endpoint.asked[0].gone.wait()


async def test_closing_ends_what_is_on_its_way(endpoint: ScriptedEndpoint) -> None:
    """No connection is left behind."""
    endpoint.streams(event(content("One")), asyncio.Event())
    async with asyncio.timeout(DEADLINE):
        async with client_of(endpoint.url) as client:
            client.ask(BODY)
            await endpoint.arrived.wait()
        await endpoint.asked[0].gone.wait()


async def test_no_key_and_no_word_is_logged(
    endpoint: ScriptedEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even at the lowest level."""
    caplog.set_level(logging.DEBUG)
    endpoint.says("a private answer")
    await chunks_of(endpoint)
    assert KEY not in caplog.text
    assert "private" not in caplog.text
    assert KEY not in repr(EndpointSettings(endpoint.url, "big", KEY))
