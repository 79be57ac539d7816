"""What may come next in a sequence: the hook through which grammars rule the sampler.

Knows nothing of grammars; masks are computed on a thread of their own while the step decodes.
"""

from __future__ import annotations

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
    """Computes masks beside the sampling of other sequences, and beside a running decode."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, rules: Constraint) -> Future[Mask]:
        """The mask of the next token. Nobody else may use the rules until it is there."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="masks")
        return self._pool.submit(rules.mask)
