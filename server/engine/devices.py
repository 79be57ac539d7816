"""What the GPUs have free, asked of `python -m server.engine.devices`.

It is a process of its own: whoever loads a GPU's driver keeps some of its memory for as long as it
lives, and the server itself computes nothing there.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Final

from server.engine.machine import child_environment

logger = logging.getLogger(__name__)

_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that models may compute on."""

    free: int  # bytes, of all together
    shared: bool  # with the processors, so that all of a model is in it


@cache
def find_gpus() -> Gpus | None:
    """As they were when they were first asked for; None if there is none, or it does not say."""
    command = (sys.executable, "-P", "-m", "server.engine.devices")
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, env=child_environment()
        )
        free, shared = map(int, asked.stdout.split()[-2:])
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        logger.warning("devices.unknown cause=%s", error)
        return None
    return Gpus(free, bool(shared)) if free else None


if __name__ == "__main__":
    from server.engine.llama import gpu_memory

    free, shared = gpu_memory()
    sys.stdout.write(f"\n{free} {shared:d}\n")
