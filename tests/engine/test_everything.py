"""Whatever happens to an engine, and in whatever order: each sequence says exactly its own words.

Threads of several turns, shared beginnings, cancels, interrupts in the middle of a step, contexts
that are full, slow and failing disks, owners that are forgotten, crashes and restarts; on a model
whose every token depends on all before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.engine.protocol import Sampling
from tests.engine.arithmetic import ArithmeticBackend, answer
from tests.engine.serving import GREEDY, Served, prompt_of, tiers

CONTEXT = 200
OWNERS = ["x", "y", "z", ""]
# Both say the best token, by ways of their own, alone or together with others that are asked so.
SAMPLINGS = [GREEDY, Sampling(top_p=0)]
# A step reads or says something, unless it was interrupted, was full, or waited for the disk: the
# script does so often, and a sequence that was parked may be read again.
STEPS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """Of an engine."""

    slots: int
    cells: int
    batch: int
    idle: int
    memory: int
    disk: int
    rolls_back: bool
    mixes: bool

    def started(self, before: Served | None = None) -> Served:
        """An engine, or the next process after one that has ended."""
        backend = ArithmeticBackend(
            slots=self.slots,
            context=CONTEXT,
            cells=self.cells,
            rolls_back=self.rolls_back,
            mixes=self.mixes,
        )
        backend.seconds_per_token = 0.01
        archive = before.archive if before is not None else None
        sizes = {"batch": self.batch, "idle": self.idle}
        return tiers(backend, memory=self.memory, disk=self.disk, archive=archive, **sizes)


shapes = st.builds(
    Shape,
    slots=st.integers(1, 5),
    cells=st.integers(CONTEXT, 3 * CONTEXT),
    batch=st.sampled_from([6, 32, 256]),
    idle=st.sampled_from([0, 150, 10_000]),
    memory=st.sampled_from([0, 100, 400, 100_000]),
    disk=st.sampled_from([0, 150, 100_000]),
    rolls_back=st.booleans(),
    mixes=st.booleans(),
)


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, and whether it may end before its time."""

    prompt: list[int]
    most: int
    scope: str
    owner: str
    shared: int
    cancelled: bool = False

    @property
    def words(self) -> bytes:
        """All that the model has to say to this."""
        return bytes(answer(self.prompt, min(self.most, CONTEXT - len(self.prompt))))


class World:
    """An engine, what it was asked, and what its predecessors said."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.served = shape.started()
        self.calls: dict[int, Call] = {}
        self.said: dict[int, bytes] = {}
        self.numbers = 0
        self.work = 0  # tokens that were asked for

    @property
    def unfinished(self) -> list[int]:
        return [number for number in self.calls if number not in self.served.ends]

    def do(self, action: str, number: int, size: int) -> None:
        """One thing that may happen."""
        match action:
            case "ask":
                self.ask(number, size)
            case "return":
                self.go_on(number)
            case "step":
                self.step(1 + number % 5)
            case "cancel":
                self.cancel(number)
            case "abort":
                self.served.backend.interrupts = 1
            case "full":
                self.fill_up()
            case "restart":
                self.restart(gently=number % 2 == 0)
            case _:
                self.keep(action, number)

    def keep(self, action: str, number: int) -> None:
        """What may happen to what is kept."""
        decoder, archive = self.served.decoder, self.served.archive
        match action:
            case "deliver" if archive.jobs:
                self.served.deliver(number)
            case "tend":
                self.served.backend.now += 10
                decoder.tend()
            case "forget":
                decoder.forget(OWNERS[number % 3])
                assert all(s.owner != OWNERS[number % 3] for s in self.served.store)
            case "disk":
                archive.full, archive.broken = number % 2 == 0, number % 3 == 0

    def ask(self, number: int, size: int) -> None:
        beginning = prompt_of(number % 3, [0, 20, 90][number % 3])
        prompt = (beginning + prompt_of(number, size))[: CONTEXT - 10]
        most = number % 40
        call = Call(prompt, most, "ab"[number % 2], OWNERS[number % 4], len(beginning))
        self.begin(call)

    def begin(self, call: Call) -> None:
        self.numbers += 1
        self.calls[self.numbers] = call
        self.work += len(call.prompt) + call.most + 1
        self.served.ask(
            self.numbers,
            call.prompt,
            call.most,
            call.scope,
            owner=call.owner,
            shared=call.shared,
            sampling=SAMPLINGS[self.numbers % len(SAMPLINGS)],
        )

    def go_on(self, number: int) -> None:
        """The next turn of a thread that has ended one."""
        ended = [n for n in self.served.ends if len(self.calls[n].prompt) < CONTEXT - 60]
        if ended:
            call = self.calls[before := ended[number % len(ended)]]
            said = self.served.said[before]
            self.begin(
                replace(call, prompt=[*call.prompt, *said, 1 + number % 90], cancelled=False)
            )

    def cancel(self, number: int) -> None:
        """At times with an interrupt first, as the thread that hears of it does."""
        if not self.unfinished:
            return
        chosen = self.unfinished[number % len(self.unfinished)]
        if number % 2:
            self.served.decoder.interrupt(chosen)
            self.step(1)
        if chosen in self.unfinished:
            self.calls[chosen] = replace(self.calls[chosen], cancelled=True)
        self.served.decoder.cancel(chosen)

    def fill_up(self) -> None:
        """The context says that it is full, whatever was counted."""
        if len(self.served.decoder._scheduler.running) > 1:
            self.served.backend.refuses = 1
            self.step(1)
            self.served.backend.refuses = 0

    def restart(self, *, gently: bool) -> None:
        """What was unfinished is asked again, as its callers would."""
        self.judge()
        if gently:
            self.served.decoder.save_all()
            self.served.deliver_all()
        self.served.archive.jobs.clear()
        unfinished = [self.calls[number] for number in self.unfinished]
        self.calls = {}
        self.served = self.shape.started(self.served)
        for call in unfinished:
            self.begin(replace(call, cancelled=False))

    def step(self, times: int) -> None:
        for _ in range(times):
            if self.served.decoder.idle or self.served.decoder.blocked:
                return
            self.served.step()
            self.served.decoder.tend()  # as the worker does
            self.check()

    def finish(self) -> None:
        """To the end, within so many steps, and with a disk that answers late."""
        most = STEPS_A_TOKEN * self.work + 50
        while not self.served.decoder.idle:
            if self.served.decoder.blocked:
                self.served.deliver(most)
            self.served.step()
            self.served.decoder.tend()
            self.check()
            most -= 1
            assert most, "somebody starves"
        self.judge()

    def check(self) -> None:
        """What is true after each step."""
        cache, backend, store = self.served.decoder._cache, self.served.backend, self.served.store
        assert cache._cells.total == backend.cells_held <= backend.cells
        assert [slot.tokens.tolist() for slot in cache._slots] == backend.held
        assert cache.idle_cells <= self.shape.idle or not any(slot.busy for slot in cache._slots)
        held = [snapshot.size for snapshot in store if snapshot.state is not None]
        assert store.in_memory == sum(held)
        assert sum(held) - max(held, default=0) <= self.shape.memory
        assert store.on_disk <= self.shape.disk

    def judge(self) -> None:
        """Everybody has said their own words, so far as they came."""
        served = self.served
        assert not served.failures
        for number, call in self.calls.items():
            text, end = served.text[number], served.ends.get(number)
            assert call.words.startswith(text)
            if end is None:
                continue
            assert call.cancelled if end.reason == "cancelled" else text == call.words
            assert end.prompt_tokens == len(call.prompt)
            assert 0 <= end.cached_tokens < len(call.prompt)

    def leave_nothing(self) -> None:
        """Once all owners are forgotten, and what nobody owns."""
        for owner in OWNERS:
            self.served.decoder.forget(owner)
        self.served.deliver_all()
        assert list(self.served.store) == []
        assert self.served.archive.files == {}
        assert self.served.backend.cells_held == 0
        assert not self.served.decoder.saving
        assert not self.served.decoder._scheduler._served
        assert not self.served.decoder._unwanted


often = ["ask", "ask", "ask", "return", "return", "step", "step", "step", "deliver", "cancel"]
actions = st.sampled_from([*often, "abort", "full", "tend", "forget", "disk", "restart"])
# Two wait, each for a state that is on its way to a slow disk, with memory for one of them.
TIGHT = Shape(
    slots=2, cells=200, batch=32, idle=0, memory=0, disk=150, rolls_back=True, mixes=False
)
TWO_RETURN = [
    *[("ask", 1, 42), ("step", 0, 1), ("ask", 256, 1), ("ask", 332, 1), ("ask", 332, 1)],
    *[("step", 0, 1), ("return", 0, 1), ("return", 0, 1)],
]
scripts = st.lists(st.tuples(actions, st.integers(0, 999), st.integers(1, 120)), max_size=40)


@contextmanager
def everything_small() -> Iterator[None]:
    """What is done differently with much to do is done differently with little."""
    with (
        patch("server.engine.scheduler.MIXED_CELLS", 40),
        patch("server.engine.sampling._FEWEST_TOGETHER", 2),
        patch("server.engine.sampling._FEWEST_LOGITS", 1),
    ):
        yield


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=shapes, script=scripts)
@example(shape=TIGHT, script=TWO_RETURN)
@pytest.mark.timeout(300)
def test_whatever_happens_everybody_says_their_own_words_and_nothing_leaks(
    shape: Shape, script: list[tuple[str, int, int]]
) -> None:
    """Cells and limits hold after each step, nobody starves, and at the end nothing is left."""
    with everything_small():
        world = World(shape)
        for action, number, size in script:
            world.do(action, number, size)
        world.finish()
        world.leave_nothing()
