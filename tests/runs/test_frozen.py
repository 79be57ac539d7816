"""The model's worker does not answer any more: a run ends all the same if somebody wants it to."""

from __future__ import annotations

import asyncio

import pytest

from server.runs import execution
from tests.runs.gate import Gate
from tests.runs.story import HELLO, Story, granted, text_of, written
from tests.support import ManualClock

PROMPT = 4.0  # seconds; a quiet engine is given far less


async def test_cancel(alone: Story) -> None:
    """A cancelled run keeps what was said and what it cost so far; the model is free later."""
    alone.engine.says("one two three", pause_after=2)
    run = await alone.paused()
    alone.engine.freeze()
    async with asyncio.timeout(PROMPT):
        granted(await alone.cancel(run))
        run = await alone.settled(run)
    assert run["status"] == "cancelled"
    assert run["usage"]["completion_tokens"] == len("one two")
    assert run["usage"]["prompt_tokens"] == len(alone.engine.requests[0].prompt)
    [message] = await alone.answers(run)
    assert (message["status"], text_of(message)) == ("incomplete", "one two")
    alone.engine.resume()
    assert (await alone.run())["status"] == "completed"


@pytest.mark.parametrize("frozen_at", ["tokenizing", "first token", "later token"])
async def test_expiry(alone: Story, clock: ManualClock, frozen_at: str) -> None:
    """A run expires when its time is over, whatever it waits for, and its model is free again."""
    if frozen_at == "tokenizing":
        alone.engine.freeze()
        run = await alone.start()
    else:
        alone.engine.says("one two", pause_after=0 if frozen_at == "first token" else 1)
        run = await alone.paused()
        alone.engine.freeze()
    clock.advance(600)
    async with asyncio.timeout(PROMPT):
        await alone.server.services.executor.sweep()
        run = await alone.settled(run)
    assert run["status"] == "expired"
    said = [text_of(message) for message in await alone.answers(run)]
    assert said == (["one"] if frozen_at == "later token" else [])
    alone.engine.resume()
    other = await alone.another(HELLO)
    assert (await other.run())["status"] == "completed"


CALL = written(("get_weather", "{}"))


@pytest.mark.parametrize(
    ("pieces", "closing"),
    [
        (
            ["one two"],
            ["message.created", "message.in_progress", "message.delta", "message.incomplete"],
        ),
        ([CALL], []),
        (["Let me look.", CALL], ["run.step.created", "run.step.in_progress"]),
    ],
)
async def test_a_write_is_waited_for(
    alone: Story,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    pieces: list[str],
    closing: list[str],
) -> None:
    """What is being opened as the engine is given up is opened, and all is closed once."""
    monkeypatch.setattr(execution, "LAST_WORDS", 0.0)
    alone.engine.says(pieces=pieces, pause_after=len(pieces) - 1)
    run = await alone.paused()
    clock.advance(600)
    with Gate("commit.before") as gate:
        alone.engine.resume()
        await gate.reached.wait()
        await alone.server.services.executor.sweep()
        alone.engine.freeze()
        await gate.open()
    told = [event.name.removeprefix("thread.") for event in await alone.told(run)]
    assert told[-3 - len(closing) :] == [*closing, "run.step.expired", "run.expired", "done"]
    assert told.count("message.completed") == (1 if len(pieces) > 1 else 0)
    assert (await alone.steps(run))[-1]["status"] == "expired"
