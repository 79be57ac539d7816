"""Streams that are attached to a run later, or again: from any event, live, and after the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.engine.scripted import ScriptedEngine
from tests.covering import covers
from tests.runs.story import HELLO, Story, begin_story, granted, refusal, text_of, written
from tests.streams.reader import call_deltas, joined, names, reading, reading_new
from tests.support import ManualClock, eventually, live_server, parse_events

CALL = written(("get_weather", '{"city": "Rome"}'))
EVENTS = "GET /v1/threads/{thread_id}/runs/{run_id}/events"


@covers(
    "GET /v1/threads/{thread_id}/runs/{run_id}/events",
    "answer starting_after thread_id run_id",
    "taken",
)
@covers(
    "GET /v1/threads/{thread_id}/runs/{run_id}/events", "starting_after last-event-id", "default"
)
async def test_from_every_event(story: Story) -> None:
    """After event N the stream goes on with event N + 1, wherever it is cut."""
    story.engine.says("one two three")
    told = await story.stream()
    run = told[0].data
    assert await story.told(run) == told
    for after in range(len(told)):
        assert await story.told(run, after) == told[after:]


async def test_numbers(story: Story) -> None:
    """The re-attached stream numbers its events from 1 on, which the hosted one does not."""
    story.engine.says("one two three")
    told = await story.stream()
    answer = await story.events(told[0].data, 3)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = answer.text.removesuffix("\n\n").split("\n\n")
    assert [block.split("\n")[0] for block in blocks[:-1]] == [
        f"id: {number}" for number in range(4, len(told))
    ]
    assert blocks[-1] == "event: done\ndata: [DONE]"


@covers(EVENTS, "last-event-id", "taken", "error")
async def test_header_of_browsers(story: Story) -> None:
    """`Last-Event-ID` says it too; the query counts where both are given."""
    told = await story.stream()
    run = told[0].data
    headers = {"Last-Event-ID": "4"}
    assert parse_events((await story.events(run, **headers)).text) == told[4:]
    assert parse_events((await story.events(run, 6, **headers)).text) == told[6:]
    for wrong in ("x", "-1", "1.5", "9" * 30, "٣"):
        answer = await story.http.get(
            f"{story.url}/runs/{run['id']}/events",
            headers=[(b"last-event-id", wrong.encode())],
        )
        assert refusal(answer) == "Invalid 'Last-Event-ID': expected the number of an event."


@covers(EVENTS, "starting_after", "limit", "error")
@pytest.mark.parametrize("after", ["-1", "x", "1.5"])
async def test_wrong_number(story: Story, after: str) -> None:
    """A number that is none is a 400."""
    run = await story.run()
    answer = await story.http.get(f"{story.url}/runs/{run['id']}/events?starting_after={after}")
    assert refusal(answer).startswith("Invalid")
    assert answer.json()["error"]["param"] == "starting_after"


async def test_number_beyond_the_end(story: Story) -> None:
    """A number that the run has not reached is refused, and the newest one is named."""
    told = await story.stream()
    run_id, last = told[0].data["id"], len(told) - 1
    answer = await story.events(told[0].data, len(told))
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": f"Run {run_id} has no event {last + 1}: its newest event so far is number "
        f"{last}.",
        "type": "invalid_request_error",
        "param": "starting_after",
        "code": None,
    }
    assert parse_events((await story.events(told[0].data, last)).text) == told[last:]


async def test_live(story: Story) -> None:
    """A stream that is attached in the middle replays, and goes on with what comes."""
    story.engine.says("one two three four", pause_after=2)
    run = await story.paused()
    async with reading(story, run, 7) as reader:
        assert joined(await reader.take(2)) == "one two"
        story.engine.resume()
        rest = await reader.rest()
    assert joined(rest) == " three four"
    assert names(rest)[-4:] == ["message.completed", "run.step.completed", "run.completed", "done"]


async def test_while_outputs_are_waited_for(story: Story) -> None:
    """It replays and ends; after the submission it goes on from there, through old pauses."""
    story.engine.says(CALL)
    story.engine.says(CALL)
    story.engine.says("Done.", pause_after=1)
    first = await story.stream()
    waiting = first[-2].data
    assert await story.told(waiting) == first
    assert await story.told(waiting, len(first) - 2) == first[-2:]
    second = parse_events((await story.submit(waiting, "sun", stream=True)).text)
    again = second[-2].data
    assert await story.told(waiting) == [*first[:-1], *second]
    assert await story.told(waiting, len(first) - 1) == second
    granted(await story.submit(again, "rain"))
    await story.engine.paused.wait()
    async with reading(story, waiting) as reader:
        told = await reader.take(len(first) + len(second) - 2)
        assert told == [*first[:-1], *second[:-1]]
        assert names(await reader.take(3))[0] == "run.step.completed"
        story.engine.resume()
        assert names(await reader.rest())[-2:] == ["run.completed", "done"]


async def test_long_runs_are_folded(tmp_path: Path) -> None:
    """Of a run with too many events the old deltas are joined; the text is whole from the start."""
    words = [f"word{number} " for number in range(200)]
    engine = ScriptedEngine()
    engine.says(pieces=words, pause_after=199)
    async with (
        live_server(tmp_path, engine, streams__ring_bytes=8192) as server,
        begin_story(server, engine) as story,
    ):
        run = await story.paused()
        async with reading(story, run) as reader:
            engine.resume()
            told = await reader.rest()
        assert joined(told) == "".join(words) == text_of(told[-4].data)
        assert 0 < names(told).count("message.delta") < 100
        assert told[7].data["delta"]["content"][0]["text"]["annotations"] == []
        assert names(told)[:3] == ["run.created", "run.queued", "run.in_progress"]
        assert names(told)[-2:] == ["run.completed", "done"]
        total = 7 + 200 + 3
        for gone in (1, 7, 100):
            assert (await story.events(run, gone)).status_code == 410
        answer = await story.events(run, total - 5)
        assert names(parse_events(answer.text))[-4:] == names(told)[-4:]
        assert f"id: {total}\n" in answer.text
        whole = (await story.events(run, 0)).text
        folded = [block for block in whole.split("\n\n") if "id: " not in block]
        assert 7 <= len(folded) < 20


async def test_calls_are_folded(tmp_path: Path) -> None:
    """The arguments of calls are joined call by call, and their names and ids told once."""
    calls = [("get_weather", '{"city": "' + "".join(letter * 40) + '"}') for letter in "abcdefgh"]
    engine = ScriptedEngine()
    text = written(*calls).encode()
    engine.says(pieces=[text[i : i + 3] for i in range(0, len(text), 3)])
    async with (
        live_server(tmp_path, engine, streams__ring_bytes=6000) as server,
        begin_story(server, engine) as story,
    ):
        run = await story.start()
        waiting = await eventually(
            lambda: story.now(run), lambda now: now["status"] == "requires_action"
        )
        told = await story.told(waiting)
    deltas = call_deltas(told)
    assert len(deltas) < len(text) / 3
    for index, call in enumerate(waiting["required_action"]["submit_tool_outputs"]["tool_calls"]):
        mine = [delta for delta in deltas if delta["index"] == index]
        assert [delta["id"] for delta in mine if "id" in delta] == [call["id"]]
        assert [d["function"]["name"] for d in mine if "id" in d] == ["get_weather"]
        arguments = "".join(delta["function"]["arguments"] for delta in mine)
        assert arguments == call["function"]["arguments"] == calls[index][1]


async def test_forgotten_events(tmp_path: Path, clock: ManualClock) -> None:
    """Ten minutes after its end a run's events are rebuilt for who wants them all."""
    engine = ScriptedEngine()
    engine.says("Let me look.\n" + CALL)
    engine.says("Sun all day.")
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        waiting = await story.run()
        granted(await story.submit(waiting, "sun"))
        run = await story.settled(waiting)
        before = await story.told(run)
        clock.advance(599)
        await server.services.executor.sweep()
        assert await story.told(run, 3) == before[3:]
        clock.advance(2)
        await server.services.executor.sweep()
        assert (await story.events(run, 3)).status_code == 410
        told = await story.told(run)
        assert (await story.events(run, 3)).status_code == 410
    paused = ("run.requires_action", "run.queued")
    kept = [name for name in names(before)[3:] if not (name in paused or name.endswith("delta"))]
    kept.remove("run.in_progress")
    assert [name for name in names(told)[3:] if not name.endswith("delta")] == kept
    assert joined(told) == joined(before)
    assert told[-2].data == run
    [first, *more] = call_deltas(told)
    assert (first["function"]["name"], first["function"]["arguments"]) == ("get_weather", "")
    assert [delta["function"]["arguments"] for delta in more] == ['{"city": "Rome"}']


@pytest.mark.parametrize("ending", ["failed", "cancelled", "incomplete"])
async def test_every_end_is_rebuilt(tmp_path: Path, clock: ManualClock, ending: str) -> None:
    """What is rebuilt ends as the run did, in the same order."""
    engine = ScriptedEngine()
    async with (
        live_server(tmp_path, engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        if ending == "failed":
            engine.crashes(after=2)
            engine.crashes(after=2)
            run = await story.run()
        elif ending == "incomplete":
            engine.says("more than sixteen letters")
            run = await story.run(max_completion_tokens=16)
        else:
            engine.says("one two", pause_after=1)
            run = await story.paused()
            granted(await story.cancel(run))
            run = await story.settled(run)
        before = await story.told(run)
        clock.advance(601)
        await server.services.executor.sweep()
        told = await story.told(run)
    assert run["status"] == ending
    assert names(told)[-4:] == [n for n in names(before) if n != "run.cancelling"][-4:]
    assert [event.data for event in told[-2:]] == [event.data for event in before[-2:]]
    assert joined(told) == joined(before)


async def test_deleted_message_is_left_out(tmp_path: Path, clock: ManualClock) -> None:
    """What is rebuilt has no message that was deleted since."""
    async with (
        live_server(tmp_path, ScriptedEngine(), clock=clock) as server,
        begin_story(server, ScriptedEngine()) as story,
    ):
        run = await story.run()
        [message] = await story.answers(run)
        granted(await story.http.delete(f"{story.url}/messages/{message['id']}"))
        clock.advance(601)
        await server.services.executor.sweep()
        told = await story.told(run)
    assert not [name for name in names(told) if name.startswith("message.")]
    assert names(told)[-2:] == ["run.completed", "done"]


@covers(EVENTS, "run_id", "error")
async def test_unknown_run(story: Story) -> None:
    """The events of a run that is not there are a 404."""
    answer = await story.events({"id": "run_x"})
    assert refusal(answer, 404) == "No run found with id 'run_x'."


async def test_deltas_are_as_they_were(story: Story) -> None:
    """A creation's stream and one that is attached at the same time say the same."""
    story.engine.says("one two three four", pause_after=1)
    async with reading_new(story) as first:
        told = await first.take(8)
        async with reading(story, told[0].data) as second:
            story.engine.resume()
            assert [*told, *await first.rest()] == await second.rest()
    assert (await (await story.another(HELLO)).run())["status"] == "completed"
