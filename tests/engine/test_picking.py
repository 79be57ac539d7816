"""The tokens of a step: who samples them makes no difference."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

from server.engine import picking
from server.engine.constraint import ConstraintBroken, Mask
from server.engine.picking import Due, Picker
from server.engine.protocol import Request, Sampling
from server.engine.sequence import Sequence

ROWS, VOCABULARY = 37, 20_000


def due() -> list[Due]:
    """Sequences with seeds of their own; one has a mask, and the constraint of one is broken."""
    rows = np.random.default_rng(5).normal(0, 3, (ROWS, VOCABULARY)).astype(np.float32)
    sequences = [
        Sequence.of(number, Request(prompt=[1], max_tokens=9, sampling=Sampling(seed=number)), 100)
        for number in range(ROWS)
    ]
    only = np.zeros(VOCABULARY // 32, np.uint32)
    only[3] = 1 << 4
    sequences[20].mask, sequences[30].mask = Future[Mask](), Future[Mask]()
    sequences[20].mask.set_result(only)
    sequences[30].mask.set_exception(ConstraintBroken("no way on"))
    return list(zip(sequences, rows, strict=True))


def test_threads_pick_what_one_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, each with its own random state; a broken constraint is told in its place."""
    alone = Picker(1).pick(due())
    seen: list[int] = []
    plain = picking._pick
    monkeypatch.setattr(picking, "_pick", lambda part: (seen.append(len(part)), plain(part))[1])
    together = Picker(4).pick(due())
    assert sorted(seen) == [7, 10, 10, 10]
    assert alone[20] == together[20] == 3 * 32 + 4
    assert isinstance(alone.pop(30), ConstraintBroken)
    assert isinstance(together.pop(30), ConstraintBroken)
    assert alone == together
    assert len(set(alone)) > ROWS // 2
