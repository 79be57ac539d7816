"""Readers that come and go, many at once, slow ones: the run and the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from openai.types.beta import AssistantStreamEvent

from server.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from tests.runs.story import HELLO, Story, begin_story, granted, text_of
from tests.streams.reader import Reader, asking, joined, names, reading, reading_new
from tests.support import BETA, DEADLINE, eventually, live_server, parse_events


async def nobody_reads(story: Story) -> None:
    """Wait until every subscription is freed."""
    await eventually(story.readers, lambda count: count == 0)


async def pings_in(reader: Reader) -> int:
    """How many comments a reader was sent."""
    return reader.text.count(": ping\n")


@contextlib.asynccontextmanager
async def pinging(folder: Path, stuck_after: float = 30.0) -> AsyncIterator[Story]:
    """A story on a server that pings often, and whose model says a word, then waits."""
    engine = ScriptedEngine()
    engine.says("one two", pause_after=1)
    options = {"streams__ping": 0.02, "streams__stuck_after": stuck_after}
    async with (
        live_server(folder, engine, **options) as server,
        begin_story(server, engine) as story,
    ):
        yield story


async def test_many_readers(story: Story) -> None:
    """Any number of streams say the same, whenever they were attached."""
    story.engine.says("one two three four", pause_after=2)
    run = await story.paused()
    early = [asyncio.create_task(story.told(run)) for _ in range(20)]
    await eventually(story.readers, lambda count: count == 20)
    story.engine.resume()
    told = await story.told(run)
    assert await asyncio.gather(*early) == [told] * 20
    await nobody_reads(story)


@pytest.mark.parametrize("events", range(0, 10, 3))
async def test_disconnect(story: Story, events: int) -> None:
    """A client that goes away, at whatever event, loses nothing: the run goes on to its end."""
    story.engine.says("one two three", pause_after=2)
    async with reading_new(story) as reader:
        read = await reader.take(events)
        await story.engine.paused.wait()
    await nobody_reads(story)
    [run] = granted(await story.http.get(f"{story.url}/runs"))["data"]
    assert run["status"] == "in_progress"
    story.engine.resume()
    assert (await story.settled(run))["status"] == "completed"
    [message] = await story.answers(run)
    assert text_of(message) == "one two three"
    told = await story.told(run)
    assert told[:events] == read


async def test_disconnect_before_the_first_byte(story: Story) -> None:
    """A request whose client is gone before it is answered creates its run all the same."""
    story.engine.says("one", pause_after=0)
    body = {"assistant_id": story.assistant_id, "stream": True}
    (await asking(story.server.url, f"{story.url}/runs", body)).close()
    await asyncio.wait_for(story.engine.paused.wait(), DEADLINE)
    story.engine.resume()
    [run] = granted(await story.http.get(f"{story.url}/runs"))["data"]
    assert (await story.settled(run))["status"] == "completed"
    await nobody_reads(story)


async def test_keep_alive(tmp_path: Path) -> None:
    """A stream on which nothing happens sends comments, which are no events."""
    async with pinging(tmp_path) as story, reading_new(story) as reader:
        told = await reader.take(8)
        waiting = asyncio.create_task(reader.next())
        await eventually(lambda: pings_in(reader), lambda count: count > 1)
        assert not waiting.done()
        story.engine.resume()
        told += [await waiting, *await reader.rest()]
    assert joined(told) == "one two"
    assert reader.text.count(": ping\n\n") == await pings_in(reader)
    assert "\r" not in reader.text


async def test_the_sdk_attaches_again(tmp_path: Path) -> None:
    """Its own stream reads all events, and no ping is one."""
    async with pinging(tmp_path) as story, story.server.sdk(default_headers=BETA) as sdk:
        run = await story.paused()
        events = await sdk.get(
            f"{story.url.removeprefix('/v1')}/runs/{run['id']}/events",
            cast_to=AssistantStreamEvent,
            stream=True,
            stream_cls=openai.AsyncStream[AssistantStreamEvent],
        )
        read = [(await anext(events)).event for _ in range(8)]
        waiting = asyncio.create_task(anext(events))
        async with reading(story, run) as reader:
            seeing = asyncio.create_task(reader.rest())
            await eventually(lambda: pings_in(reader), lambda count: count > 3)
            assert not waiting.done()
            story.engine.resume()
            told = await seeing
        read += [(await waiting).event, *[event.event async for event in events]]
        assert read == [event.name for event in told[:-1]]
        assert "\n: ping\n\n" not in reader.text


async def test_long_stream(tmp_path: Path) -> None:
    """A reader that takes all is not dropped, however much longer than a stuck one it is there."""
    async with pinging(tmp_path, stuck_after=0.05) as story, reading_new(story) as reader:
        told = await reader.take(8)
        waiting = asyncio.create_task(reader.next())
        await eventually(lambda: pings_in(reader), lambda count: count > 10)
        story.engine.resume()
        told += [await waiting, *await reader.rest()]
    assert joined(told) == "one two"


async def test_stuck_reader(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A reader that takes nothing is dropped; the run and a reader that takes all go on."""
    caplog.set_level("INFO")
    engine = ScriptedEngine(info=replace(SCRIPTED_MODEL, context=10_000_000))
    pieces = [str(number % 10) * 4000 for number in range(200)]
    engine.says(pieces=pieces, pause_after=200)
    options = {
        "streams__send_buffer": 4096,
        "streams__stuck_after": 1.0,
        "runs__completion_cap": 10_000_000,
    }
    async with (
        live_server(tmp_path, engine, **options) as server,
        begin_story(server, engine) as story,
    ):
        body = {"assistant_id": story.assistant_id, "stream": True}
        with await asking(server.url, f"{story.url}/runs", body) as stuck:
            await eventually(story.readers, lambda count: count == 1)
            [run] = granted(await story.http.get(f"{story.url}/runs"))["data"]
            async with reading(story, run) as fast:
                told = await fast.take(7 + 200)
                assert joined(told) == "".join(pieces)
                await eventually(story.readers, lambda count: count == 1)
                engine.resume()
                assert names(await fast.rest())[-2:] == ["run.completed", "done"]
            assert (await story.now(run))["status"] == "completed"
            await nobody_reads(story)

            async def connected() -> bool:
                return stuck.getsockname() in others_of_open_sockets()

            await eventually(connected, lambda there: not there)
        assert (await (await story.another(HELLO)).run())["status"] == "completed"
    assert caplog.messages.count("stuck_reader_dropped") == 1
    assert not any(record.levelname == "ERROR" for record in caplog.records)


def others_of_open_sockets() -> list[object]:
    """To whom this process's sockets are connected."""
    found = []
    for handle in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 - names are all that is wanted
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(handle).st_mode):
                with socket.socket(fileno=os.dup(handle)) as each:
                    found.append(each.getpeername())
    return found


async def test_slow_history_is_not_lost(story: Story) -> None:
    """A reader that pauses in the middle gets all the rest when it goes on."""
    story.engine.says("one two three four five")
    async with reading_new(story) as reader:
        told = await reader.take(3)
        run = await story.settled(told[0].data)
        told += await reader.rest()
    assert told == parse_events((await story.events(run)).text)
