"""How much memory the GPUs have free, asked of `python -m server.engine.devices`.

It is a process of its own: whoever loads a GPU's driver keeps some of its memory for as long as it
lives, and the server itself computes nothing there.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Final

from server.engine.machine import child_environment

logger = logging.getLogger(__name__)

_PATIENCE: Final = 60.0


def free_gpu_memory() -> int | None:
    """Bytes of all GPUs together; None if there is none, or it does not say."""
    command = (sys.executable, "-P", "-m", "server.engine.devices")
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, env=child_environment()
        )
        return int(asked.stdout.split()[-1]) or None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        logger.warning("devices.unknown cause=%s", error)
        return None


if __name__ == "__main__":
    from server.engine.llama import gpu_memory

    sys.stdout.write(f"\n{gpu_memory()}\n")
