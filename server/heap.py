"""What garbage collections look through."""

from __future__ import annotations

import gc


def settle() -> None:
    """Keep them from all that is there now, as it is here to stay.

    To look through what a server consists of holds up all by 150 ms; a worker, for longer than a
    step.
    """
    gc.collect()
    gc.freeze()
