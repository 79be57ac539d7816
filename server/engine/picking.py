"""The next tokens of all sequences of a step, each sampled from its own row of logits."""

from __future__ import annotations

from collections.abc import Sequence as Several
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from server.engine.backend import Logits
from server.engine.constraint import ConstraintBroken
from server.engine.sequence import Sequence

# Below so many rows for each thread, to wake it costs more than it saves.
_ROWS: Final = 8
_MOST_THREADS: Final = 4

Due = tuple[Sequence, Logits]
Picked = int | ConstraintBroken


class Picker:
    """Samples in threads, where decoding leaves processors free for them: where a GPU decodes.

    numpy looks through a row without the interpreter's lock. Each sequence has its own random
    state, so the tokens are the same whoever samples them.
    """

    def __init__(self, threads: int) -> None:
        self._threads = min(threads, _MOST_THREADS)
        self._pool: ThreadPoolExecutor | None = None

    def pick(self, due: list[Due]) -> list[Picked]:
        """The tokens, in order; in place of one, why its constraint gave up."""
        threads = min(self._threads, len(due) // _ROWS)
        if threads < 2:
            return _pick(due)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="sampling")
        size = -(-len(due) // threads)
        ours, *others = (due[start : start + size] for start in range(0, len(due), size))
        coming = [self._pool.submit(_pick, part) for part in others]
        return [*_pick(ours), *(token for part in coming for token in part.result())]


def _pick(due: Several[Due]) -> list[Picked]:
    return [_next_of(sequence, logits) for sequence, logits in due]


def _next_of(sequence: Sequence, logits: Logits) -> Picked:
    mask, sequence.mask = sequence.mask, None
    try:
        allowed = None if mask is None else mask.result()
    except ConstraintBroken as problem:
        return problem
    return sequence.sampler.pick(logits, allowed)
