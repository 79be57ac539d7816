"""What may come next in a sequence: the hook through which grammars rule the sampler.

Knows nothing of grammars; masks are computed on a thread of their own while the step decodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint32]  # a bit a token, 32 a word, the lowest first; set: may come next


class ConstraintBroken(Exception):
    """These rules cannot be kept any longer; the text says why."""


class Constraint(Protocol):
    """The rules of one sequence. Used by one thread at a time. Both may raise ConstraintBroken."""

    def mask(self) -> Mask:
        """Of the next token. At least one bit is set."""
        ...

    def accept(self, token: int) -> None:
        """This token has come."""
        ...


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of the grammar that was asked for under this number."""

    number: int
    constraint: Constraint | None
    problem: str = ""  # why there is none


class MaskThread:
    """Computes masks beside a running decode."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, wanted: Sequence[Constraint]) -> list[Future[Mask]]:
        """The masks of their next tokens. Nobody else may use the rules until theirs is there.

        All in one go: a thread that wakes for each would take the interpreter from its caller. If
        the machine allows no thread, they are there at once.
        """
        masks = [Future[Mask]() for _ in wanted]
        if wanted:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="masks")
            try:
                self._pool.submit(_compute, wanted, masks)
            except RuntimeError:
                self._pool = None  # with the work that it holds
                _compute(wanted, masks)
        return masks


def _compute(wanted: Sequence[Constraint], masks: Sequence[Future[Mask]]) -> None:
    for rules, mask in zip(wanted, masks, strict=True):
        try:
            mask.set_result(rules.mask())
        except Exception as problem:  # noqa: BLE001 - whoever asks for it hears of it
            mask.set_exception(problem)
