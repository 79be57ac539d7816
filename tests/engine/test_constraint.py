"""Masks: what may come next is all that can be chosen, and costs the step nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from server.engine.backend import Outcome
from server.engine.batch import Batch
from server.engine.candidates import best_allowed
from server.engine.constraint import Mask
from server.engine.protocol import Sampling
from server.engine.sampling import Sampler
from tests.engine.arithmetic import VOCABULARY, ArithmeticBackend
from tests.engine.serving import Served, prompt_of

PATIENCE = 10.0


def mask_of(allowed: set[int], size: int) -> Mask:
    """A bit a token."""
    mask = np.zeros((size + 31) // 32, np.uint32)
    for token in allowed:
        mask[token // 32] |= np.uint32(1 << token % 32)
    return mask


class Counting:
    """The next token is one more than the last; says when it is asked."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.accepted: list[int] = []
        self.asked = threading.Event()

    def mask(self) -> Mask:
        mask = mask_of({self.next}, VOCABULARY)
        self.asked.set()
        return mask

    def accept(self, token: int) -> None:
        assert token == self.next
        self.accepted.append(token)
        self.next += 1


class WaitingBackend(ArithmeticBackend):
    """Its step does not end before the mask for its token is asked for."""

    rules: Counting

    def decode(self, batch: Batch) -> Outcome:
        outcome = super().decode(batch)
        if batch.outputs[: batch.size].any():
            assert self.rules.asked.wait(PATIENCE), "the mask is not computed beside the step"
            self.rules.asked.clear()
        return outcome


@pytest.mark.parametrize("size", [1, 31, 32, 33, 97, 4096, 5001])
def test_only_what_the_mask_allows_is_chosen(size: int) -> None:
    """At every width of vocabulary, greedily or not, though all else is far better."""
    random = np.random.default_rng(size)
    for _ in range(20):
        allowed = set(random.integers(0, size, 3).tolist())
        logits = random.normal(0, 5, size).astype(np.float32)
        logits[list(allowed)] = -50
        for sampling in (Sampling(temperature=0), Sampling(top_k=0), Sampling(top_k=40, seed=1)):
            token = Sampler(sampling).pick(logits.copy(), mask_of(allowed, size))
            assert token in allowed


@pytest.mark.parametrize("share", [0.001, 0.1, 0.9, 0.999])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_the_best_of_what_is_allowed_are_found(share: float, count: int) -> None:
    """Whether nearly all of a large vocabulary is allowed or nearly nothing, or not the best."""
    size = 20_001
    random = np.random.default_rng(7)
    for best_are_out in (False, True):
        logits = random.normal(0, 5, size).astype(np.float32)
        allowed = random.random(size) < share
        if best_are_out:
            allowed[logits.argsort()[-500:]] = False
        ids = best_allowed(logits, mask_of(set(allowed.nonzero()[0].tolist()), size), count)
        assert allowed[ids].all()
        expected = sorted(logits[allowed])[-count:] if count else sorted(logits[allowed])
        assert sorted(logits[ids])[-len(expected) :] == expected


def test_the_mask_comes_before_top_k() -> None:
    """The best forty of what is allowed, not what is allowed of the best forty."""
    logits = np.arange(10_000, dtype=np.float32) * 0.001
    allowed = set(range(100))
    sampler = Sampler(Sampling(top_k=40, temperature=100.0, seed=1))
    mask = mask_of(allowed, 10_000)
    drawn = {sampler.pick(logits.copy(), mask) for _ in range(2000)}
    assert drawn == set(range(60, 100))


def test_masks_are_computed_while_the_step_decodes() -> None:
    """For each token in turn, and each is accepted before the next is asked for."""
    backend = WaitingBackend()
    rules = backend.rules = Counting(first=30)
    served = Served(backend)
    served.ask(1, prompt_of(1, 20), most=6, constraint=rules)
    served.run()
    assert served.said[1] == rules.accepted == list(range(30, 36))


def test_masks_are_computed_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the machine allows none; as soon as it does, beside the step again."""
    allowed = iter([False, False, True])
    start = threading.Thread.start

    def start_if_allowed(thread: threading.Thread) -> None:
        if not next(allowed, True):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_allowed)
    served, rules = Served(ArithmeticBackend()), Counting(first=30)
    served.ask(1, prompt_of(1, 20), most=6, constraint=rules)
    served.run()
    assert served.said[1] == rules.accepted == list(range(30, 36))
    assert next(allowed, None) is None


def test_a_rule_binds_its_own_sequence_only() -> None:
    """Beside one that is free, through parking and interrupts."""
    backend = ArithmeticBackend(slots=2, context=64, cells=64)
    served = Served(backend)
    rules = Counting(first=30)
    served.ask(2, prompt_of(2, 20), most=20)
    served.ask(1, prompt_of(1, 20), most=20, constraint=rules)
    for step in range(30):
        backend.interrupts = step % 3 == 1
        served.step()
    served.run()
    assert served.said[1] == rules.accepted == list(range(30, 50))
    alone = Served(ArithmeticBackend())
    assert served.said[2] == alone.answer(2, prompt_of(2, 20), most=20)
