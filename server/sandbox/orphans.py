"""Processes that bubblewrap was starting when it was killed, such as with its server.

Its child waits for it before it arranges to end with it. If it is killed in between, nobody wakes
the child any more: it runs no code, but it stays.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

CODE: Final = "/opt/session"  # where bubblewrap's sessions have the code that they begin with
_NAME: Final = "bwrap"


def end_orphans() -> int:
    """End those that are ours, of whatever server; returns how many."""
    ended = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone, or somebody else's
            if _is_orphan(process):
                os.kill(int(process.name), signal.SIGKILL)
                ended += 1
    return ended


def _is_orphan(process: Path) -> bool:
    """Whether it is the first of a namespace, in which nothing has begun, and without its parent.

    Raises OSError.
    """
    lines = (process / "status").read_text().splitlines()
    told = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    if told["Name"] != _NAME or not told.get("NSpid", "").endswith("\t1"):
        return False
    if os.fsencode(CODE) not in (process / "cmdline").read_bytes().split(b"\0"):
        return False
    return Path(f"/proc/{told['PPid']}/comm").read_text().strip() != _NAME
