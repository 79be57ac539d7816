"""The event log by itself: folding, readers, pauses, what is forgotten."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from server.chat.citations import Citation
from server.runs.deltas import MessageDeltas, StepDeltas, annotation
from server.runs.events import (
    DONE,
    EventBus,
    EventsAhead,
    EventsGone,
    Mark,
    Subscription,
    encode,
    folded,
)
from tests.support import ManualClock, parse_events
from tests.timing import little_work


def event(number: int) -> bytes:
    """An event of a run that can be told from others."""
    return encode("thread.run.queued", orjson.dumps({"id": "run_1", "n": number}))


async def read(subscription: Subscription, *, numbered: bool = False) -> bytes:
    """All that a reader gets up to `done`, which ends every stream."""
    *chunks, last = [chunk async for chunk in subscription.chunks(numbered=numbered)]
    assert last == DONE
    return b"".join(chunks)


async def fault_of(subscription: Subscription) -> str:
    """The message of the error that a stream breaks off with."""
    last = parse_events((await read(subscription)).decode())[-1]
    assert last.name == "error"
    message: str = last.data["error"]["message"]
    return message


def bus_with(count: int, mark: Mark = Mark.END, **options: int) -> EventBus:
    """A bus with one run that has so many events, the last of which has a mark."""
    bus = EventBus(lambda: 0.0, **options)
    for number in range(1, count + 1):
        bus.publish("run_1", event(number), mark if number == count else Mark.NONE)
    return bus


async def test_every_position() -> None:
    """A reader from after event N gets the rest; from after the last one, nothing."""
    bus = bus_with(5)
    for after in range(6):
        rest = b"".join(event(number) for number in range(after + 1, 6))
        assert await read(bus.subscribe("run_1", after)) == rest
    with pytest.raises(EventsAhead) as ahead:
        bus.subscribe("run_1", 6)
    assert ahead.value.last == 5
    with pytest.raises(EventsGone):
        bus.subscribe("run_2")


async def test_pauses() -> None:
    """A stream ends at a pause that is still on, or that it was opened before; not at old ones."""
    bus = bus_with(3, Mark.PAUSE)
    assert await read(bus.subscribe("run_1", past_pauses=True)) == b"".join(map(event, (1, 2, 3)))
    assert await read(bus.subscribe("run_1", 3, past_pauses=True)) == b""
    before = bus.subscribe("run_1")
    bus.publish("run_1", event(4))
    bus.publish("run_1", event(5), Mark.PAUSE)
    assert await read(before) == b"".join(map(event, (1, 2, 3)))
    assert await read(bus.subscribe("run_1", 3)) == event(4) + event(5)
    whole = b"".join(map(event, range(1, 6)))
    assert await read(bus.subscribe("run_1", past_pauses=True)) == whole


async def test_folding_keeps_the_text() -> None:
    """Deltas of one part become one; other events and other parts stay where they are."""
    text, other, calls = MessageDeltas("msg_1"), MessageDeltas("msg_2"), StepDeltas("step_1")
    events = [
        event(1),
        text.text("Hé"),
        text.text('l"l'),
        text.text("o"),
        event(2),
        text.text("!"),
        other.text("a"),
        other.text("b"),
        calls.call(0, {"id": "call_1", "function": {"name": "f", "arguments": ""}}),
        calls.call(0, {"function": {"arguments": '{"a'}}),
        calls.call(0, {"function": {"arguments": '":1}'}}),
        calls.call(1, {"id": "call_2", "function": {"name": "g", "arguments": ""}}),
        calls.call(1, {"function": {"arguments": "{}"}}),
        event(3),
    ]
    told = parse_events(b"".join(folded(events)).decode())
    deltas = [e.data["delta"] for e in told if e.name.endswith("delta")]
    assert [e.data.get("n") for e in told] == [1, None, 2, None, None, None, None, 3]
    parts = [d["content"][0]["text"] for d in deltas if "content" in d]
    assert parts == [
        {"value": 'Hél"lo', "annotations": []},
        {"value": "!"},
        {"value": "ab", "annotations": []},
    ]
    made = [d["step_details"]["tool_calls"][0] for d in deltas if "step_details" in d]
    assert [(c["index"], c["id"], c["function"]["arguments"]) for c in made] == [
        (0, "call_1", '{"a":1}'),
        (1, "call_2", "{}"),
    ]
    assert folded(folded(events)) == folded(events)


async def test_folding_keeps_what_has_no_text() -> None:
    """Annotations stay with the delta that told them, and a call without text stays as it is."""
    text, calls = MessageDeltas("msg_1"), StepDeltas("step_1")
    cited = annotation(Citation("[x]", "file-1"), 5)
    events = [
        calls.call(0, {"id": "call_1", "type": "file_search", "file_search": {"results": []}}),
        text.text("Look: "),
        text.annotated("[x]", [cited], 0),
        text.text("."),
        text.text(" Yes."),
    ]
    told = parse_events(b"".join(folded(events)).decode())
    assert told[0].data == parse_events(events[0].decode())[0].data
    first, second = (e.data["delta"]["content"][0]["text"] for e in told[1:])
    assert first == {"value": "Look: ", "annotations": []}
    assert second["value"] == "[x]. Yes."
    assert [each["file_citation"]["file_id"] for each in second["annotations"]] == ["file-1"]


async def test_folding_is_quick() -> None:
    """A history of many deltas is folded in time that grows with their number only."""
    deltas = MessageDeltas("msg_1")
    events = [deltas.text("some words ") for _ in range(30_000)]
    with little_work(2):
        [one] = folded(events)
    assert one.count(b"some words ") == 30_000


async def test_what_is_folded_can_be_read_from_the_start_only() -> None:
    """A number inside the history is gone; the start and what is newer are there."""
    bus = bus_with(100, ring_bytes=2000)
    log = bus._logs["run_1"]
    assert 0 < log.base < 100
    assert log.size <= 2000
    with pytest.raises(EventsGone):
        bus.subscribe("run_1", 1)
    with pytest.raises(EventsGone):
        bus.subscribe("run_1", log.base - 1)
    newer = b"".join(event(number) for number in range(log.base + 1, 101))
    assert await read(bus.subscribe("run_1", log.base)) == newer
    assert await read(bus.subscribe("run_1")) == b"".join(map(event, range(1, 101)))


async def test_reader_that_is_overtaken() -> None:
    """A reader whose next event was folded meanwhile is told that it is too slow."""
    bus = bus_with(5, Mark.NONE)
    reader = bus.subscribe("run_1", 2)
    for number in range(6, 100):
        bus.publish("run_1", event(number))
    bus._logs["run_1"].fold(0)
    assert "too slowly" in await fault_of(reader)


async def test_stopping() -> None:
    """Streams of unfinished runs break off, now and later; those that have ended do not."""
    bus = bus_with(3, Mark.NONE)
    bus.publish("run_2", event(1), Mark.END)
    bus.stop("Goodbye.")
    bus.publish("run_3", event(1))
    for run_id in ("run_1", "run_3"):
        reader = bus.subscribe(run_id)
        assert parse_events((await anext(reader.chunks())).decode())
        assert await fault_of(reader) == "Goodbye."
    assert await read(bus.subscribe("run_2")) == event(1)


async def test_busy_loop_joins_events() -> None:
    """While others have events, too, those that come with every turn of the loop share a chunk."""
    bus = bus_with(1, Mark.NONE)
    chunks = bus.subscribe("run_1").chunks()
    await anext(chunks)
    waiting = asyncio.ensure_future(anext(chunks))
    for number in (2, 3, 4):
        await asyncio.sleep(0)
        bus.publish("run_1", event(number))
        bus.publish("run_2", event(number))
    assert await waiting == b"".join(map(event, (2, 3, 4)))
    await chunks.aclose()


async def test_busy_loop_keeps_nobody_waiting() -> None:
    """However many events others have, a reader gets its own after a few turns of the loop."""
    bus = bus_with(1, Mark.NONE)
    chunks = bus.subscribe("run_1").chunks()
    await anext(chunks)
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    bus.publish("run_1", event(2))
    for number in range(10):
        bus.publish("run_2", event(number))
        await asyncio.sleep(0)
    assert waiting.done()
    assert await waiting == event(2)
    await chunks.aclose()


async def test_forgetting(clock: ManualClock) -> None:
    """Ended logs go after a time, or when all together are too large, the oldest first."""
    bus = EventBus(clock.monotonic, keep=10.0, total_bytes=3 * len(event(1)))
    for run_id in ("a", "b", "c", "d"):
        bus.publish(run_id, event(1), Mark.END)
        clock.advance(1)
    bus.publish("open", event(1))
    bus.forget_old()
    assert [r for r in ("a", "b", "c", "d", "open") if bus.holds(r)] == ["b", "c", "d", "open"]
    clock.advance(8)
    bus.forget_old()
    assert [r for r in ("b", "c", "d", "open") if bus.holds(r)] == ["c", "d", "open"]
    clock.advance(1000)
    bus.forget_old()
    assert [r for r in ("c", "d", "open") if bus.holds(r)] == ["open"]


async def test_what_was_folded_counts(clock: ManualClock) -> None:
    """The bound of all ended logs holds for their histories as well."""
    word = MessageDeltas("msg_1").text("word " * 10)
    bus = EventBus(clock.monotonic, ring_bytes=2000, total_bytes=10_000)
    for run_id in ("a", "b", "c"):
        for _ in range(100):
            bus.publish(run_id, word)
        bus.publish(run_id, event(1), Mark.END)
        clock.advance(1)
    bus.seed("d", [(word, Mark.NONE), (b"." * 7000, Mark.NONE), (event(1), Mark.END)])
    bus.forget_old()
    assert [r for r in ("a", "b", "c", "d") if bus.holds(r)] == ["d"]


async def test_seeded_log() -> None:
    """A history from rows is read from its start; later events have numbers beyond old ones."""
    bus = EventBus(lambda: 0.0, era=1_800_000_000)
    bus.seed("run_1", [(event(n), Mark.NONE) for n in (1, 2, 3)])
    for after in (1, 2, 3, 4):
        with pytest.raises(EventsGone):
            bus.subscribe("run_1", after)
    reader = bus.subscribe("run_1")
    bus.note("run_1", "here")
    known = bus.noted("run_1", "here")
    assert 2**40 < known < 2**53
    bus.publish("run_1", event(4), Mark.END)
    assert await read(reader) == b"".join(map(event, (1, 2, 3, 4)))
    assert await read(bus.subscribe("run_1", known)) == event(4)
    numbered = await read(bus.subscribe("run_1"), numbered=True)
    assert numbered.count(b"id: ") == 3
    assert numbered.endswith(b"id: %d\n" % (known + 1) + event(4))
    bus.seed("run_1", [(event(9), Mark.END)])
    bus.note("run_1", "there")
    assert bus.noted("run_1", "there") == known + 1


async def test_a_history_that_is_rebuilt_twice_has_other_numbers(clock: ManualClock) -> None:
    """Whoever has read of the first one is told that it is gone, not that it has ended there."""
    bus = EventBus(clock.monotonic, era=1_800_000_000)
    bus.seed("run_1", [(event(n), Mark.NONE) for n in (1, 2)])
    bus.note("run_1", "read")
    read_to = bus.noted("run_1", "read")
    for number in (3, 4, 5):
        bus.publish("run_1", event(number), Mark.END if number == 5 else Mark.NONE)
    clock.advance(1000)
    bus.forget_old()
    bus.seed("run_1", [(event(n), Mark.END if n == 5 else Mark.NONE) for n in (1, 2, 4, 5)])
    for after in range(read_to, read_to + 4):
        with pytest.raises(EventsGone):
            bus.subscribe("run_1", after)


async def test_numbers_of_a_history_that_was_rebuilt_when_the_clock_was_ahead() -> None:
    """They are gone too: no run of this server can ever reach them."""
    ahead = EventBus(lambda: 0.0, era=1_800_000_000)
    bus = EventBus(lambda: 0.0, era=1_800_000_000 - 3600)
    numbers = []
    for each in (ahead, bus):
        each.seed("run_1", [(event(n), Mark.NONE) for n in (1, 2)])
        each.note("run_1", "newest")
        numbers.append(each.noted("run_1", "newest"))
    with pytest.raises(EventsGone):
        bus.subscribe("run_1", numbers[0])
    with pytest.raises(EventsAhead):
        bus.subscribe("run_1", numbers[1] + 1)


async def test_readers_are_counted_while_they_read() -> None:
    """A subscription that is never read, or has ended, is none."""
    bus = bus_with(3, Mark.NONE)
    reader = bus.subscribe("run_1")
    assert bus.open_streams == 0
    chunks = reader.chunks()
    await anext(chunks)
    assert bus.open_streams == 1
    await chunks.aclose()
    assert bus.open_streams == 0
