"""The folders of sessions that have no file system of their own: whose each is, and nobody's.

Whoever has one has it locked: the server that made it, and the session's keeper, who may be busy
with it for longer. The kernel takes the locks back, however they end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

_NAME: Final = "assistants-session-"  # and more


def new_folder() -> tuple[Path, int]:
    """And the open file whose end says that it is nobody's. Raises OSError."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_NAME)).resolve()
        try:
            return folder, _locked(folder, fcntl.LOCK_SH)
        except (BlockingIOError, FileNotFoundError):  # somebody sweeps
            continue
        except OSError:
            folder.rmdir()
            raise


def sweep() -> int:
    """Remove those that are nobody's; returns how many."""
    swept = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):  # somebody has it
            lock = _locked(folder, fcntl.LOCK_EX)
            try:
                swept += _removed(folder)
            finally:
                os.close(lock)
    return swept


def _locked(folder: Path, how: int) -> int:
    """Open a folder and lock it: shared to have it, exclusively to be alone with it.

    Raises BlockingIOError if somebody is in the way, FileNotFoundError if it is gone, OSError.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
        folder.lstat()
    except OSError:
        os.close(lock)
        raise
    return lock


def _removed(folder: Path) -> bool:
    """However deep it is, and however closed; its contents with the rights of who filled it."""
    owner = folder.lstat()
    given: dict[str, Any] = {"env": {"PATH": os.defpath}, "stderr": subprocess.DEVNULL}
    if os.geteuid() == 0:
        given |= {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": ()}
    for command in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
        subprocess.run([*command, "--", folder], check=False, **given)
    with contextlib.suppress(OSError):
        folder.rmdir()  # which these rights need not include
    return not folder.exists()
