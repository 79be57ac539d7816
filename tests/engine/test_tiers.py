"""A thread that returns pays for its new tokens only, wherever its old ones are."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from server.engine.kv_cache import SAVE_AFTER
from tests.engine.arithmetic import ArithmeticBackend, answer
from tests.engine.serving import Served, prompt_of, talkative_prompts, tiers

FIRST = prompt_of(1, 100)


def backend(**sizes: Any) -> ArithmeticBackend:
    """Room for some threads."""
    return ArithmeticBackend(**{"slots": 4, "context": 300, "cells": 1200} | sizes)


def first_turn(served: Served) -> list[int]:
    """A thread's first turn; returns the prompt of its second."""
    said = served.answer(1, FIRST, most=10, owner="x")
    assert said == answer(FIRST, 10)
    return FIRST + said + [3, 2, 1]


def second_turn(served: Served, prompt: list[int]) -> int:
    """The thread's next turn: how many tokens it did not pay for."""
    assert served.answer(2, prompt, owner="x") == answer(prompt, 8)
    return served.cached[2]


def crowd_out(served: Served, first: int = 20) -> None:
    """Others take all slots, one after the other."""
    for seed in range(first, first + served.backend.slots):
        served.answer(100 + seed, prompt_of(seed, 90), most=1, owner=f"other{seed}")


@pytest.mark.parametrize("rolls_back", [True, False])
def test_a_thread_resumes_from_memory(rolls_back: bool) -> None:
    """Others needed its slot; all that it had decoded is there again."""
    served = tiers(backend(rolls_back=rolls_back))
    prompt = first_turn(served)
    crowd_out(served)
    assert served.backend.loads == 0
    assert second_turn(served, prompt) == 109
    assert served.backend.loads == 1


@pytest.mark.parametrize("memory", [0, 200])
@pytest.mark.parametrize("rolls_back", [True, False])
def test_a_thread_resumes_from_disk(memory: int, rolls_back: bool) -> None:
    """Also where memory holds nothing, or always others."""
    served = tiers(backend(rolls_back=rolls_back), memory=memory, disk=10_000)
    prompt = first_turn(served)
    for first in (20, 40, 60):
        crowd_out(served, first)
        served.deliver_all()
    assert second_turn(served, prompt) == 109


@pytest.mark.parametrize("rolls_back", [True, False])
def test_a_thread_resumes_after_a_restart(rolls_back: bool) -> None:
    """A new process finds what the old one saved at its end."""
    before = tiers(backend(rolls_back=rolls_back), disk=10_000)
    prompt = first_turn(before)
    before.decoder.save_all()
    before.deliver_all()
    after = tiers(backend(rolls_back=rolls_back), disk=10_000, archive=before.archive)
    assert second_turn(after, prompt) == 109


def test_the_newest_state_of_a_thread_counts() -> None:
    """After three turns, the fourth begins where the third ended."""
    served = tiers(backend())
    prompt = FIRST
    for turn in range(3):
        prompt = [*prompt, *served.answer(turn, prompt, most=5, owner="x"), 7, 8]
        crowd_out(served, 20 * (turn + 1))
    served.answer(4, prompt, owner="x")
    assert served.cached[4] == len(prompt) - 3


@pytest.mark.parametrize("rolls_back", [True, False])
def test_another_thread_may_go_on_where_one_has_ended(rolls_back: bool) -> None:
    """As a copy of it does; the first one keeps what it had."""
    served = tiers(backend(rolls_back=rolls_back))
    prompt = first_turn(served)
    assert served.answer(3, prompt, owner="copy") == answer(prompt, 8)
    assert served.cached[3] == 109
    # Where it may, it shares with its copy the one token that it had said and not read.
    kept = 110 if rolls_back else 109
    assert second_turn(served, [*FIRST, *answer(FIRST, 10), 50, 51]) == kept


def test_an_answer_that_is_told_differently_resumes_from_its_prompt() -> None:
    """A model without a middle has two states of each thread to go on from."""
    served = tiers(backend(rolls_back=False))
    first_turn(served)
    crowd_out(served)
    retold = [*FIRST, 9, 9, 9]
    assert second_turn(served, retold) == 100


def test_a_model_without_a_middle_reads_shared_instructions_once() -> None:
    """Its state is saved exactly where they end."""
    served = tiers(backend(rolls_back=False))
    instructions = prompt_of(5, 80)
    for number in range(3):
        prompt = instructions + prompt_of(10 + number, 30)
        served.ask(number, prompt, owner=f"x{number}", shared=80)
        served.run()
        assert served.said[number] == answer(prompt, 8)
    assert served.cached == {0: 0, 1: 80, 2: 80}


@pytest.mark.parametrize("rolls_back", [True, False])
def test_who_was_parked_goes_on_from_its_snapshot(rolls_back: bool) -> None:
    """Nothing is computed twice but the token that had not been decoded."""
    served = tiers(backend(slots=2, cells=300, rolls_back=rolls_back), batch=64)
    prompts = [p for p in (prompt_of(seed, 70) for seed in range(500)) if len(answer(p, 120)) > 99]
    for number in (0, 1):
        served.ask(number, prompts[number], most=120, owner=f"x{number}")
    served.run()
    assert [served.said[n] for n in (0, 1)] == [answer(p, 120) for p in prompts[:2]]
    assert served.backend.loads == 1
    assert sum(served.backend.batches) == 2 * 70 + 2 * 119


def test_a_snapshot_that_cannot_be_read_costs_only_itself() -> None:
    """The thread is read from its beginning."""
    served = tiers(backend(), memory=0, disk=10_000)
    prompt = first_turn(served)
    crowd_out(served)
    served.deliver_all()
    served.archive.broken = True
    assert second_turn(served, prompt) == 0


@pytest.mark.parametrize("rolls_back", [True, False])
@pytest.mark.parametrize("sequences", [2, 4])
def test_a_context_that_stays_fuller_than_counted_serves_one_after_another(
    sequences: int, rolls_back: bool
) -> None:
    """Who was parked for it does not come back to the same full context."""
    served = tiers(backend(rolls_back=rolls_back))
    served.backend.real_cells = 250  # any of them fits alone, and no two to their ends
    asked = (prompt_of(seed, 100) for seed in range(1000))
    prompts = list(islice((p for p in asked if len(answer(p, 60)) == 60), sequences))
    for number, prompt in enumerate(prompts):
        served.ask(number, prompt, most=60)
    served.run()
    assert [served.said[n] for n in range(sequences)] == [answer(p, 60) for p in prompts]
    assert served.backend.loads <= sequences * (sequences - 1) / 2  # for each end, who waits


def test_a_state_that_the_context_refuses_costs_only_itself() -> None:
    """As one of another build of the library might be."""
    served = tiers(backend())
    prompt = first_turn(served)
    crowd_out(served)
    served.backend.refuses_states = True
    assert second_turn(served, prompt) == 0
    assert all(snapshot.owner != "x" or len(snapshot.tokens) > 110 for snapshot in served.store)


def reading_from_disk() -> tuple[Served, list[int]]:
    """A thread whose snapshot is only on disk."""
    served = tiers(backend(), memory=0, disk=10_000)
    prompt = first_turn(served)
    crowd_out(served)
    served.deliver_all()
    return served, prompt


def test_streams_go_on_while_a_snapshot_is_read() -> None:
    """One token a step, however long the disk takes; then the thread joins."""
    served, prompt = reading_from_disk()
    served.ask(3, talkative_prompts(1)[0], most=40)
    served.ask(2, prompt, owner="x")
    for _ in range(20):
        served.step()
    assert len(served.said[3]) == 20
    assert 2 not in served.said
    assert not served.decoder.blocked
    served.deliver()
    served.run()
    assert served.said[2] == answer(prompt, 8)
    assert served.cached[2] == 109


def test_who_arrives_while_a_snapshot_is_read_does_not_wait_for_it() -> None:
    """The loop sleeps only until it hears anything."""
    served, prompt = reading_from_disk()
    served.ask(2, prompt, owner="x")
    served.step()
    assert served.decoder.blocked
    served.ask(3, prompt_of(3, 10))
    assert not served.decoder.blocked
    served.step()
    assert 3 in served.said


def test_a_thread_can_be_cancelled_while_its_snapshot_is_read() -> None:
    """It ends at once; what is read comes too late and harms nobody."""
    served, prompt = reading_from_disk()
    served.ask(2, prompt, owner="x")
    served.step()
    served.decoder.cancel(2)
    assert not served.decoder.blocked
    served.step()
    assert served.ends[2].reason == "cancelled"
    served.deliver_all()
    assert served.decoder.idle


def test_idle_threads_are_written_behind() -> None:
    """After some seconds of quiet, as the decoder says; a crash then costs nothing."""
    served = tiers(backend(), memory=0, disk=10_000)
    assert served.decoder.next_chore is None
    prompt = first_turn(served)
    assert served.decoder.next_chore == SAVE_AFTER
    served.backend.now += SAVE_AFTER
    assert served.decoder.next_chore == 0
    served.decoder.tend()
    assert served.decoder.saving
    served.deliver_all()
    assert not served.decoder.saving
    after = tiers(backend(), disk=10_000, archive=served.archive)
    assert second_turn(after, prompt) == 109


LATE = ["waiting", "reading", "streaming", "parked", "ended", "written", "fetching"]


@pytest.mark.parametrize("when", LATE)
@pytest.mark.parametrize("rolls_back", [True, False])
def test_nothing_of_a_forgotten_owner_is_kept(when: str, rolls_back: bool) -> None:
    """Whatever its sequence is about to do, it says its answer and leaves nothing behind."""
    served = tiers(backend(slots=2, rolls_back=rolls_back), memory=0, disk=10_000, batch=32)
    prompt = prompt_of(1, 200)
    others = talkative_prompts(2)
    for number in range(2 if when == "waiting" else 0):
        served.ask(number, others[number], most=40)
    served.ask(9, prompt, most=20, owner="x")
    for _ in range({"waiting": 3, "reading": 3, "streaming": 10, "parked": 10}.get(when, 100)):
        served.step()
    if when == "parked":
        served.decoder._scheduler.park(served.decoder._sequences[9])
    if when in {"written", "fetching"}:
        served.decoder.save_all()
        served.deliver_all()
    if when == "fetching":
        for number in (4, 5):
            served.answer(number, prompt_of(number, 100), most=1)
        served.ask(6, [*prompt, 5], most=5, owner="x")
        served.step()
        assert served.decoder.blocked
    served.decoder.forget("x")
    served.run()
    assert served.said[9] == answer(prompt, 20)
    served.decoder.save_all()
    served.deliver_all()
    assert all(snapshot.owner != "x" for snapshot in served.store)
    assert all(
        snapshot.owner != "x"
        for path in served.archive.files
        if (snapshot := served.archive.written[path])
    )
    assert prompt[:20] not in [held[:20] for held in served.backend.held]
