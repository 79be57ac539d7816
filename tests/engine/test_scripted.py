"""The engine that says what it is told to: as true to the protocol as the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.engine.protocol import (
    Engine,
    EngineCrashed,
    EngineError,
    EngineUnavailable,
    Finished,
    PromptTooLong,
    Request,
    Sampling,
    Span,
    Tokens,
)
from server.engine.scripted import DEFAULT_ANSWER, END_OF_TURN, ScriptedEngine, ScriptedGeneration

PROMPT = [Span("<|im_start|>user\n", True), Span("Hi <|im_end|>", False)]


@pytest.fixture
async def engine() -> AsyncIterator[ScriptedEngine]:
    """Started, with two slots."""
    engine = ScriptedEngine(slots=2)
    await engine.start()
    yield engine
    await engine.stop()


async def call(engine: ScriptedEngine, most: int = 1000) -> ScriptedGeneration:
    """A call with the prompt that all tests use."""
    return engine.generate(Request(await engine.tokenize(PROMPT), most, Sampling()))


async def said(generation: ScriptedGeneration) -> tuple[list[bytes], Finished]:
    """The pieces of a generation, and its end."""
    events = [event async for event in generation]
    assert isinstance(events[-1], Finished)
    return [event.data for event in events[:-1] if isinstance(event, Tokens)], events[-1]


async def test_it_is_an_engine(engine: ScriptedEngine) -> None:
    """The type checker says so too."""
    typed: Engine = engine
    assert typed.info.chat_template
    assert typed.slots == 2


async def test_it_says_its_lines_and_then_a_greeting(engine: ScriptedEngine) -> None:
    """One queued answer a call, word by word, with true counts."""
    engine.says("Good day, Ada.")
    pieces, end = await said(await call(engine))
    assert pieces == [b"Good", b" day,", b" Ada."]
    prompt = await engine.tokenize(PROMPT)
    assert end == Finished("stop", len(prompt), len("Good day, Ada.") + 1, 0)
    assert b"".join((await said(await call(engine)))[0]) == DEFAULT_ANSWER.encode()


async def test_it_remembers_what_it_was_asked(engine: ScriptedEngine) -> None:
    """Prompts as text, and the requests themselves."""
    await said(await call(engine, most=7))
    assert engine.prompts == ["<|im_start|>user\nHi <|im_end|>"]
    assert [request.max_tokens for request in engine.requests] == [7]


async def test_content_is_bytes_and_never_a_special_token(engine: ScriptedEngine) -> None:
    """The same words are a token in the template and letters in content."""
    assert await engine.tokenize([Span("<|im_end|>", True)]) == [END_OF_TURN]
    assert await engine.tokenize([Span("<|im_end|>", False)]) == list(b"<|im_end|>")


async def test_pieces_are_exactly_as_given(engine: ScriptedEngine) -> None:
    """Also bytes that split a character."""
    engine.says(pieces=["a ", b"\xc3", b"\xbc"], finish="length")
    pieces, end = await said(await call(engine))
    assert pieces == [b"a ", b"\xc3", b"\xbc"]
    assert (end.reason, end.completion_tokens) == ("length", 4)


async def test_a_call_is_written_as_the_template_has_it(engine: ScriptedEngine) -> None:
    """The markers are single tokens."""
    engine.calls("add", {"a": 1})
    pieces, _ = await said(await call(engine))
    assert b"".join(pieces) == (
        b'<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    )


async def test_it_pauses_until_resumed(engine: ScriptedEngine) -> None:
    """A test can act between two pieces without waiting for time to pass."""
    engine.says("one two three", pause_after=1)
    reader = asyncio.create_task(said(await call(engine)))
    await engine.paused.wait()
    assert not reader.done()
    engine.resume()
    assert (await reader)[0] == [b"one", b" two", b" three"]
    assert not engine.paused.is_set()


async def test_cancel_ends_it_also_while_paused(engine: ScriptedEngine) -> None:
    """What was said before counts."""
    engine.says("one two three", pause_after=2)
    generation = await call(engine)
    reader = asyncio.create_task(said(generation))
    await engine.paused.wait()
    generation.cancel()
    pieces, end = await reader
    assert pieces == [b"one", b" two"]
    assert (end.reason, end.completion_tokens) == ("cancelled", 7)


@pytest.mark.parametrize(("most", "text"), [(0, b""), (5, b"one t"), (7, b"one two")])
async def test_max_tokens_ends_with_length(engine: ScriptedEngine, most: int, text: bytes) -> None:
    """Within a piece, or exactly at its end."""
    engine.says("one two three")
    pieces, end = await said(await call(engine, most))
    assert b"".join(pieces) == text
    assert (end.reason, end.completion_tokens) == ("length", most)


async def test_it_crashes_when_told_to(engine: ScriptedEngine) -> None:
    """After so many pieces, once; any other failure likewise."""
    engine.crashes(after=1)
    engine.fails(EngineError("no"))
    events = aiter(await call(engine))
    assert isinstance(await anext(events), Tokens)
    with pytest.raises(EngineCrashed):
        await anext(events)
    with pytest.raises(EngineError, match="no"):
        await said(await call(engine))
    assert (await said(await call(engine)))[1].reason == "stop"


async def test_it_refuses_what_the_real_one_refuses(engine: ScriptedEngine) -> None:
    """A prompt beyond the context, and calls when it is not running."""
    with pytest.raises(PromptTooLong):
        await said(engine.generate(Request([65] * engine.info.context, 1, Sampling())))
    await engine.stop()
    with pytest.raises(EngineUnavailable):
        await said(await call(engine))


async def test_more_calls_than_slots_wait() -> None:
    """The second call of one slot starts when the first one ends."""
    engine = ScriptedEngine(slots=1)
    await engine.start()
    engine.says("wait here", pause_after=1)
    readers = [asyncio.create_task(said(await call(engine))) for _ in range(2)]
    await engine.paused.wait()
    assert engine.stats.live == 1
    engine.resume()
    assert [end.reason for _, end in await asyncio.gather(*readers)] == ["stop"] * 2
