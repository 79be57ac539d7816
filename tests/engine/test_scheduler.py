"""Who is read first, who waits for whom, and that everybody's turn comes."""

from __future__ import annotations

from collections import Counter

import pytest

from server.engine.scheduler import MIXED_CELLS
from server.engine.snapshots import SnapshotStore
from tests.engine.arithmetic import ArithmeticBackend, answer
from tests.engine.serving import Served, prompt_of, talkative_prompts, tiers


def served_by(*, batch: int = 32, memory: int = 0, **sizes: int) -> Served:
    """Room for all, unless the test says otherwise; snapshots only with some memory for them."""
    backend = ArithmeticBackend(**{"slots": 8, "context": 600, "cells": 8 * 600} | sizes)
    return Served(backend, batch=batch, store=SnapshotStore(memory_limit=memory))


def first_words(served: Served) -> list[int]:
    """The sequences in the order of their first tokens."""
    return list(dict.fromkeys(token.number for step in served.steps for token in step.tokens))


def test_the_shortest_remaining_prompt_is_read_first() -> None:
    """Whoever came first: a short question does not wait for a long document."""
    served = served_by()
    for number, length in enumerate((300, 100, 200, 20)):
        served.ask(number, prompt_of(number, length), most=1)
    served.run()
    assert first_words(served) == [3, 1, 2, 0]


def test_what_counts_is_what_is_left_to_read() -> None:
    """A long prompt that is nearly done comes before a shorter one that has just come."""
    served = served_by()
    served.ask(0, prompt_of(0, 300), most=1)
    for _ in range(8):
        served.step()
    served.ask(1, prompt_of(1, 100), most=1)
    served.run()
    assert first_words(served) == [0, 1]


@pytest.mark.parametrize(
    ("lengths", "goes"),
    [
        ([70, 90, 80, 60], [[3, 0], [2, 1]]),  # the shorter ones first
        ([80, 80, 80], [[0, 1], [2]]),
        ([45, 45, 45, 45], [[0, 1, 2, 3]]),  # soon read
        ([300], [[0]]),
    ],
)
def test_prompts_that_take_long_together_are_read_in_two_goes(
    lengths: list[int], goes: list[list[int]]
) -> None:
    """Half of them are answered in half of the time, and the others hardly later."""
    served = served_by(batch=320)
    served.backend.seconds_per_token = 0.01
    served.answer(9, prompt_of(9, 100), most=1)
    told = len(served.steps)
    for number, length in enumerate(lengths):
        served.ask(number, prompt_of(number, length), most=1)
    served.run()
    steps = served.steps[told:]
    assert [[end.number for end in step.ends] for step in steps if step.ends] == goes


def test_the_longer_a_prompt_has_waited_the_longer_it_holds_up_streams() -> None:
    """Half a second at first, later a second, and two for all that is left."""
    served = served_by(slots=9, context=1600, cells=9 * 1600, batch=320)
    served.backend.seconds_per_token = 0.01
    served.ask_eight(steps=3)
    served.ask(8, prompt_of(8, 1500), most=1)
    served.run()
    *goes, last = [size - 8 for size in served.backend.batches[3:] if size > 8]
    assert (goes[0], goes[-1]) == (50, 100)
    assert goes == sorted(goes)
    assert 100 < last <= 200


def test_where_they_are_faster_apart_streams_and_prompts_take_turns() -> None:
    """If much is in the context. Text is told at once beside a prompt, whose steps take long."""
    served = Served(ArithmeticBackend(context=1600, cells=2400, mixes=False), batch=32)
    first = [*prompt_of(1, MIXED_CELLS), *prompt_of(3, 1)]
    served.ask(1, first, most=40)
    while not served.said[1]:
        served.step()
    served.backend.batches.clear()
    served.ask(2, prompt_of(2, 300), most=1)
    tokens = []
    while 2 not in served.ends:
        tokens.append(len(served.step().tokens))
        assert not served.decoder.steady
    rows = served.backend.batches
    assert {*rows[:2]} == {1, 32}
    assert {*map(tuple, zip(rows[:-2:2], rows[1:-1:2], strict=False))} == {(rows[0], rows[1])}
    assert tokens.count(1) >= 9
    served.run()
    assert served.said[1] == answer(first, 40)


def test_what_is_cached_is_not_left_to_read() -> None:
    """A long conversation that comes back waits for no shorter new one, also while all are busy."""
    served = served_by(slots=1, memory=1 << 20)
    history = prompt_of(0, 300)
    served.ask(0, history, most=1, owner="x")
    served.run()
    served.ask(1, prompt_of(1, 20), most=4)
    served.step()
    served.ask(2, prompt_of(2, 100), most=1)
    served.ask(3, [*history, *served.said[0], *prompt_of(3, 10)], most=1, owner="x")
    served.run()
    assert first_words(served) == [0, 1, 3, 2]
    assert served.ends[3].cached_tokens >= 300


@pytest.mark.parametrize("slots", [2, 8])
def test_a_long_prompt_gets_its_turn_under_endless_short_ones(slots: int) -> None:
    """It is read at the latest when twice its length was read of others, and as much again for it.

    Also where the short ones are always enough to take all slots.
    """
    served = served_by(slots=slots)
    length = 400
    served.ask(0, prompt_of(0, length), most=1)
    read, number = 0, 0
    while 0 not in served.ends:
        while len(served.decoder._sequences) < slots + 4:
            number += 1
            served.ask(number, prompt_of(number, 30), most=1)
        served.step()
        read = sum(served.backend.batches)
        assert read < 4 * length, "the long prompt starves"
    assert read > 1.5 * length, "the short ones did not come first"
    assert served.said[0] == answer(prompt_of(0, length), 1)


@pytest.mark.parametrize("modest", [1, 4])
def test_a_project_that_floods_gets_no_more_than_the_other(modest: int) -> None:
    """While both have something to read, their shares of all tokens differ by a few percent."""
    served = served_by(slots=8, batch=64)
    for number in range(200):
        served.ask(number, prompt_of(number, 80), most=4, scope="flood")
    number = 1000
    for _ in range(60):
        while sum(n >= 1000 for n in served.decoder._sequences) < modest + 4:
            served.ask(number, prompt_of(number, 80), most=4, scope="modest")
            number += 1
        served.step()
    done = Counter(end.number >= 1000 for end in served.ends.values())
    assert served.decoder._sequences.keys() & set(range(200)), "the flood is over"
    assert 0.4 < done[True] / done.total() < 0.6


def test_a_project_is_not_paid_for_having_been_quiet() -> None:
    """It begins level with the one that was served least, and does not push it aside."""
    served = served_by(slots=8, batch=64)
    for number in range(40):
        served.ask(number, prompt_of(number, 80), most=2, scope="old")
    for _ in range(20):
        served.step()
    before = len(served.ends)
    for number in range(100, 140):
        served.ask(number, prompt_of(number, 80), most=2, scope="new")
    for _ in range(20):
        served.step()
    old = sum(number < 100 for number in list(served.ends)[before:])
    new = sum(number >= 100 for number in served.ends)
    assert abs(old - new) <= 4


INSTRUCTIONS = prompt_of(50, 200)


def forking(count: int, served: Served) -> list[list[int]]:
    """Prompts that begin alike, asked at once."""
    prompts = [INSTRUCTIONS + prompt_of(number, 10) for number in range(count)]
    for number, prompt in enumerate(prompts):
        served.ask(number, prompt, most=4)
    return prompts


def test_prompts_that_begin_alike_are_read_once() -> None:
    """The others wait for the first one, take its cells, and each says its own answer."""
    served = served_by(batch=64)
    prompts = forking(6, served)
    served.run()
    assert [served.said[n] for n in range(6)] == [answer(prompt, 4) for prompt in prompts]
    prefilled = 200 + 6 * 10
    decoded = sum(len(said) + (served.ends[n].reason == "stop") for n, said in served.said.items())
    assert sum(served.backend.batches) == prefilled + decoded - 6  # the last ones stay undecoded
    assert served.cached == {0: 0} | dict.fromkeys(range(1, 6), 200)
    assert served.backend.cells_held < 200 + 6 * 20


def test_a_model_without_a_middle_reads_each_prompt_whole() -> None:
    """There is nothing to fork from; the answers are right."""
    served = Served(ArithmeticBackend(slots=8, context=600, cells=4800, rolls_back=False))
    prompts = forking(3, served)
    served.run()
    assert [served.said[n] for n in range(3)] == [answer(prompt, 4) for prompt in prompts]


@pytest.mark.parametrize("how", ["cancelled", "parked", "interrupted"])
def test_who_waits_for_a_prompt_goes_on_without_it(how: str) -> None:
    """The first prompt goes away half read: the next one reads on from there, if it can."""
    served = tiers(ArithmeticBackend(slots=4, context=600, cells=2400), batch=64)
    prompts = forking(3, served)
    served.step()
    served.step()
    assert [len(held) for held in served.backend.held if held] == [128]
    if how == "cancelled":
        served.decoder.cancel(0)
    elif how == "parked":
        served.decoder._scheduler.park(served.decoder._scheduler.running[0])
    else:
        served.backend.interrupts = 2
    served.run()
    rest = range(1, 3) if how == "cancelled" else range(3)
    assert [served.said[n] for n in rest] == [answer(prompts[n], 4) for n in rest]
    assert sum(served.backend.batches) < 200 + 3 * (10 + 4)


def test_sixty_four_sequences_decode_together() -> None:
    """Each says its own, and each step has a token of each."""
    served = served_by(slots=64, context=100, cells=6400, batch=512)
    prompts = talkative_prompts(64)
    for number, prompt in enumerate(prompts):
        served.ask(number, prompt, most=40)
    served.run()
    assert [served.said[n] for n in range(64)] == [answer(prompt, 40) for prompt in prompts]
    assert max(len(step.tokens) for step in served.steps) == 64
    assert len(served.steps) < 60


@pytest.mark.parametrize("rolls_back", [True, False])
@pytest.mark.parametrize("memory", [0, 100_000])
def test_sixty_four_sequences_in_the_cells_of_four_all_finish(
    rolls_back: bool, memory: int
) -> None:
    """They are parked and come back, with and without a place to be saved in."""
    backend = ArithmeticBackend(slots=64, context=120, cells=480, rolls_back=rolls_back)
    served = tiers(backend, memory=memory, batch=64)
    prompts = [prompt_of(number, 30 + number % 40) for number in range(64)]
    for number, prompt in enumerate(prompts):
        served.ask(number, prompt, most=50, owner=f"x{number}")
    served.run()
    assert [served.said[n] for n in range(64)] == [answer(prompt, 50) for prompt in prompts]


def test_one_that_needs_the_whole_context_is_not_overtaken_for_ever() -> None:
    """Smaller ones that would still fit wait behind it, once its turn has come."""
    served = served_by(slots=4, context=300, cells=300, batch=64)
    served.ask(0, prompt_of(0, 290), most=5)
    for number in range(1, 100):
        served.ask(number, prompt_of(number, 30), most=5)
        served.step()
        served.step()
        if 0 in served.ends:
            break
    assert served.said[0] == answer(prompt_of(0, 290), 5)
