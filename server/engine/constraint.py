"""What may come next in a sequence: the hook through which grammars rule the sampler.

Knows nothing of grammars; masks are computed on a thread of their own while the step decodes.
"""

from __future__ import annotations

from collections.abc import Iterable
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

    def begin(self, constraints: Iterable[Constraint | None]) -> list[Future[Mask] | None]:
        """The masks of those that have rules, each as soon as it is there."""
        return [None if rules is None else self._submit(rules) for rules in constraints]

    def _submit(self, rules: Constraint) -> Future[Mask]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="masks")
        return self._pool.submit(rules.mask)
