"""What the decode loop needs of a model: a context with slots, and its vocabulary's text.

Implemented by llama.cpp, and by a model made of arithmetic for the scheduler's tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

import numpy as np
import numpy.typing as npt

from server.engine.batch import Batch

Logits = npt.NDArray[np.float32]
State = npt.NDArray[np.uint8]  # what a slot's cells hold, as bytes that only its backend can read


class Outcome(Enum):
    """How a decode step ended."""

    DONE = auto()
    FULL = auto()  # no room for the batch; nothing changed
    ABORTED = auto()  # interrupted; what the batch's slots hold beyond their old length is unknown


class Backend(Protocol):
    """One context. All but `interrupt` belongs to the thread that decodes."""

    @property
    def slots(self) -> int: ...

    @property
    def context(self) -> int:
        """Tokens one sequence may have."""
        ...

    @property
    def cells(self) -> int:
        """Tokens all slots may hold together; at least `context`."""
        ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def rolls_back(self) -> bool:
        """Whether a slot can be cut in the middle."""
        ...

    @property
    def mixes(self) -> bool:
        """Whether prompts and the next tokens of others with many cells are best read together."""
        ...

    @property
    def sampling_threads(self) -> int:
        """How many threads may choose tokens, between two steps."""
        ...

    def decode(self, batch: Batch) -> Outcome: ...

    def logits(self, rows: Sequence[int]) -> Logits:
        """A row for each of the batch's rows that asked for output, which are these.

        Valid, and writable, until the next decode.
        """
        ...

    def cut(self, slot: int, length: int) -> None:
        """Keep only the first `length` tokens of a slot; 0 empties it, which always works."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Let an empty slot begin with another one's first tokens. Only if `rolls_back`."""
        ...

    def save(self, slot: int, length: int, most: int) -> State | None:
        """The state of a slot's first `length` tokens; all of them unless `rolls_back`.

        None, and next to no time is spent, if it has more than `most` bytes.
        """
        ...

    def load(self, slot: int, state: State) -> bool:
        """Put a state into an empty slot; False, and the slot stays empty, if it does not fit."""
        ...

    def interrupt(self) -> None:
        """Make this decode, or the next one, end ABORTED. From any thread."""
        ...

    def resume(self) -> None:
        """Take back what `interrupt` said."""
        ...

    def ends_turn(self, token: int) -> bool: ...

    def text(self, token: int) -> bytes: ...
