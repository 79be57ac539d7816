"""Time, injected: wall time for what is shown, monotonic time for deadlines."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the server reads the time."""

    def now(self) -> int:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        return int(time.time())

    def monotonic(self) -> float:
        return time.monotonic()
