"""Numbered events of a run, to any number of open streams, replayable.

An event is encoded once, to the bytes of its server-sent event. A run's log numbers them from 1 in
the order of the stream; `done` and `error` have no number. The log is bounded: its oldest events
are folded into a shorter history that only a reader from the start may have. Everything here is
owned by the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import orjson

DONE = b"event: done\ndata: [DONE]\n\n"
PING = b": ping\n\n"
# Behind an event with an `id:` an empty line is one more event to OpenAI's Python SDK.
NUMBERED_PING = b": ping\n"
CHUNK = 16 * 1024  # a stuck reader holds several
# Turns of the loop that an event's readers are left waiting while each turn brings more events, of
# whatever run: none on an idle loop, and on a busy one what is written meanwhile shares a chunk.
ROUNDS = 3
EVENTS_IN_A_SECOND = 1 << 20  # no run has more; seconds times this stay exact in JavaScript


class Mark(Enum):
    """What an event means to the streams that carry it."""

    NONE = 0
    PAUSE = 1  # requires_action: a stream ends here, the log goes on
    END = 2


class EventsGone(Exception):
    """The events asked for are no longer held."""


class EventsAhead(Exception):
    """There has been no event of that number yet; the newest has number `last`."""

    def __init__(self, last: int) -> None:
        super().__init__(last)
        self.last = last


class StreamBroken(Exception):
    """The stream ends before its run does; the text says why."""


def _numbered(events: Iterable[bytes], first: int) -> Iterable[bytes]:
    return (b"id: %d\n" % number + event for number, event in enumerate(events, first))


def encode(name: str, data: bytes) -> bytes:
    """One server-sent event; `data` is one line of JSON."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def error_event(message: str) -> bytes:
    """The error of a stream that breaks off; nested, as the SDKs raise it."""
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return encode("error", orjson.dumps({"error": error}))


@dataclass(eq=False, slots=True)
class EventLog:
    """The events of one run. `base` precede `events[0]`; `history` is what is left of those.

    `last` is the number of the newest event, 0 if there is none; `size` and `history_size` are the
    bytes of both.
    """

    events: list[bytes] = field(default_factory=list)
    marks: dict[int, Mark] = field(default_factory=dict)
    base: int = 0
    last: int = 0
    history: list[bytes] = field(default_factory=list)
    size: int = 0
    history_size: int = 0
    ended: float | None = None
    broken: str | None = None
    noted: dict[str, int] = field(default_factory=dict)
    readers: set[Subscription] = field(default_factory=set)
    stirred: bool = False  # whether its readers are about to be woken

    @property
    def paused(self) -> bool:
        return self.marks.get(self.last) is Mark.PAUSE

    def append(self, event: bytes, mark: Mark) -> None:
        self.events.append(event)
        self.last += 1
        self.size += len(event)
        if mark is not Mark.NONE:
            self.marks[self.last] = mark

    def fold(self, limit: int) -> None:
        """Move the older half of the events into the history if there are over `limit` bytes."""
        if self.size <= limit:
            return
        old, self.events = (
            self.events[: len(self.events) // 2],
            self.events[len(self.events) // 2 :],
        )
        self.base += len(old)
        self.size = sum(map(len, self.events))
        self.remember(folded([*self.history, *old]))

    def remember(self, history: list[bytes]) -> None:
        self.history = history
        self.history_size = sum(map(len, history))

    def wake(self) -> None:
        self.stirred = False
        for reader in self.readers:
            reader.wake()


class Subscription:
    """One reader of a log, from after an event on; `past_pauses` as in `EventBus.subscribe`.

    It counts as a reader while its chunks are iterated.
    """

    def __init__(self, log: EventLog, after: int, *, past_pauses: bool) -> None:
        self.position = after
        self._waiting: asyncio.Future[bool] | None = None
        self._log = log
        self._prelude = list(log.history) if after < log.base else []
        if self._prelude:
            self.position = log.base
        self._pause_floor = log.last + (0 if log.paused else 1) if past_pauses else after + 1

    async def chunks(self, *, numbered: bool = False) -> AsyncGenerator[bytes, None]:
        """Whatever is ready, joined, to the event that ends the stream or an error, and `done`.

        `numbered` puts an `id:` line before each event; of a folded history only the last has one.
        """
        self._log.readers.add(self)
        try:
            if self._prelude:
                *older, last = self._prelude
                newest = _numbered([last], self.position) if numbered else [last]
                yield b"".join([*older, *newest])
            over = False
            while not over:
                first = self.position + 1
                events, over = self._take()
                if events:
                    yield b"".join(_numbered(events, first) if numbered else events)
                elif not over and await self._pinged():
                    yield NUMBERED_PING if numbered else PING
        except StreamBroken as broken:
            yield error_event(str(broken))
        finally:
            self._log.readers.discard(self)
        yield DONE

    def _pinged(self) -> asyncio.Future[bool]:
        """Wait for more, or for a ping."""
        if self._log.broken is not None:
            raise StreamBroken(self._log.broken)
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def wake(self, *, ping: bool = False) -> None:
        """More may be there, or nothing will come any more; or a sign of life is due."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(ping)

    def _take(self) -> tuple[list[bytes], bool]:
        log = self._log
        if self.position < log.base:
            raise StreamBroken("The client reads too slowly for this stream.")
        end = self._end() if log.marks else None
        taken: list[bytes] = []
        size = 0
        for event in log.events[self.position - log.base : end and end - log.base]:
            if size >= CHUNK:
                break
            taken.append(event)
            size += len(event)
        self.position += len(taken)
        return taken, self.position == end

    def _end(self) -> int | None:
        """The number of the event that ends the stream, once it is known."""
        for number, mark in self._log.marks.items():
            if number >= self.position and (mark is Mark.END or number >= self._pause_floor):
                return number
        return None


class EventBus:
    """The logs of all runs. `ring_bytes` bounds one log, `total_bytes` all that have ended.

    `era` is larger in every later process over the same rows, such as the time of its start.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        *,
        ring_bytes: int = 4 << 20,
        total_bytes: int = 256 << 20,
        keep: float = 600.0,
        era: int = 1,
    ) -> None:
        self._monotonic = monotonic
        self._era = era - monotonic()
        self._ring_bytes = ring_bytes
        self._total_bytes = total_bytes
        self._keep = keep
        self._logs: dict[str, EventLog] = {}
        self._stopping: str | None = None
        self._published = 0

    def publish(self, run_id: str, event: bytes, mark: Mark = Mark.NONE) -> None:
        """Append an encoded event to its run's log and wake the readers."""
        log = self._logs.get(run_id)
        if log is None:
            log = self._logs[run_id] = EventLog(broken=self._stopping)
        log.append(event, mark)
        self._published += 1
        if mark is Mark.END:
            log.ended = self._monotonic()
        elif log.size > self._ring_bytes:
            log.fold(self._ring_bytes)
        if log.readers and not log.stirred:
            log.stirred = True
            self._wake_soon(log, ROUNDS)

    def ping(self) -> None:
        """Have every stream that waits for an event send a comment."""
        for log in self._logs.values():
            for reader in log.readers:
                reader.wake(ping=True)

    async def keep_alive(self, interval: float) -> None:
        """Ping every `interval` seconds, until cancelled: one timer for all streams."""
        while True:
            await asyncio.sleep(interval)
            self.ping()

    def seed(self, run_id: str, events: Sequence[tuple[bytes, Mark]]) -> None:
        """Begin the log of a run whose events are gone, with a history rebuilt from rows.

        The numbers that they had are not known any more, so the new ones are beyond them all, and
        the history can be read from the start only.
        """
        if run_id in self._logs:
            return
        *older, (last, mark) = events
        base = int((self._era + self._monotonic()) * EVENTS_IN_A_SECOND)
        log = self._logs[run_id] = EventLog(base=base, last=base)
        log.remember([event for event, _ in older])
        log.append(last, mark)
        if mark is Mark.END:
            log.ended = self._monotonic()

    def note(self, run_id: str, what: str) -> None:
        """Remember the run's newest event by this name, for as long as its events are held."""
        if (log := self._logs.get(run_id)) is not None:
            log.noted[what] = log.last

    def noted(self, run_id: str, what: str) -> int:
        """The number of the event that was noted; 0 if what follows it is not all held."""
        log = self._logs.get(run_id)
        number = 0 if log is None else log.noted.get(what, 0)
        return number if log is not None and number >= log.base else 0

    def holds(self, run_id: str) -> bool:
        return run_id in self._logs

    def subscribe(self, run_id: str, after: int = 0, *, past_pauses: bool = False) -> Subscription:
        """A reader of the events after number `after`. Raises EventsGone, EventsAhead.

        It ends at the first pause; with `past_pauses`, not at those that the run has left already.
        """
        log = self._logs.get(run_id)
        if log is None or (after < log.base and not _from_start(log, after)):
            raise EventsGone(run_id)
        if after > log.last + EVENTS_IN_A_SECOND:  # of a history rebuilt when the clock was ahead
            raise EventsGone(run_id)
        if after > log.last:
            raise EventsAhead(log.last)
        return Subscription(log, after, past_pauses=past_pauses)

    def break_off(self, run_id: str, why: str) -> None:
        """End the run's streams with an error: nothing more will come."""
        log = self._logs.get(run_id)
        if log is not None and log.ended is None:
            log.broken, log.ended = why, self._monotonic()
            log.wake()

    def stop(self, why: str) -> None:
        """End all streams of unfinished runs, now and later: the server is going."""
        self._stopping = why
        for run_id in list(self._logs):
            self.break_off(run_id, why)

    def forget_old(self) -> None:
        """Drop logs that ended long ago, and the oldest of the ended ones beyond the bound."""
        horizon = self._monotonic() - self._keep
        ended = sorted(
            ((log.ended, run_id) for run_id, log in self._logs.items() if log.ended is not None),
            reverse=True,
        )
        held = 0
        for when, run_id in ended:
            held += self._logs[run_id].size + self._logs[run_id].history_size
            if when < horizon or held > self._total_bytes:
                del self._logs[run_id]

    @property
    def open_streams(self) -> int:
        return sum(len(log.readers) for log in self._logs.values())

    def _wake_soon(self, log: EventLog, rounds: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._wake_in_a_lull, log, rounds, self._published)

    def _wake_in_a_lull(self, log: EventLog, rounds: int, published: int) -> None:
        if rounds and self._published > published:
            self._wake_soon(log, rounds - 1)
        else:
            log.wake()


def _from_start(log: EventLog, after: int) -> bool:
    return after == 0 and bool(log.history)


def folded(events: list[bytes]) -> list[bytes]:
    """The same events with neighbouring deltas of one part joined into one delta."""
    result: list[bytes] = []
    joining: _Joining | None = None
    for event in events:
        delta = _delta(event)
        if delta is not None and joining is not None and joining.takes(delta):
            joining.add(delta)
            continue
        if joining is not None:
            result.append(joining.joined())
        joining = _Joining(event, delta) if delta is not None else None
        if delta is None:
            result.append(event)
    return result if joining is None else [*result, joining.joined()]


class _Text(NamedTuple):
    """The one text that a delta adds to: the object that holds it, its key, and whose it is."""

    into: dict[str, Any]
    key: str
    place: tuple[object, ...]


class _Joining:
    """Deltas of one text that follow each other: of a message, or of a call."""

    def __init__(self, event: bytes, first: dict[str, Any]) -> None:
        self._event = event
        self._first = first
        self._text = _text_of(first)
        self._more: list[str] = []

    def takes(self, delta: dict[str, Any]) -> bool:
        text = _text_of(delta)
        if text is None or self._text is None or text.place != self._text.place:
            return False
        return "id" not in _part(delta) and not text.into.get("annotations")

    def add(self, delta: dict[str, Any]) -> None:
        if (text := _text_of(delta)) is not None:
            self._more.append(text.into[text.key])

    def joined(self) -> bytes:
        if self._text is None or not self._more:
            return self._event
        into, key, _ = self._text
        into[key] = "".join([into[key], *self._more])
        return encode(self._first["object"], orjson.dumps(self._first))


def _delta(event: bytes) -> dict[str, Any] | None:
    head, _, data = event.partition(b"\ndata: ")
    if not head.endswith(b".delta"):
        return None
    value: dict[str, Any] = orjson.loads(data)
    return value


def _part(delta: dict[str, Any]) -> dict[str, Any]:
    inner = delta["delta"]
    parts = inner["content"] if "content" in inner else inner["step_details"]["tool_calls"]
    part: dict[str, Any] = parts[0]
    return part


def _text_of(delta: dict[str, Any]) -> _Text | None:
    """None where a delta has no text, as a search or a figure has none."""
    part = _part(delta)
    place = (delta["id"], part["index"])
    if "text" in part:
        return _Text(part["text"], "value", place)
    if "function" in part:
        return _Text(part["function"], "arguments", place)
    code = part.get("code_interpreter", {})
    if "input" in code:
        return _Text(code, "input", place)
    for output in code.get("outputs", ()):
        if output["type"] == "logs":
            return _Text(output, "logs", (*place, output["index"]))
    return None
