"""The data folder, and the lock that keeps a second server out of it.

It is for the server's user alone, whatever the umask. One that was there before keeps its mode, as
a group or a container may need it; what a server has made in it is closed to others all the same,
also what an earlier version has left open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import IO

DATABASE = "assistants.db"
BLOBS = "blobs"
LOCK = "server.lock"


class FolderInUse(Exception):
    """Another server runs on this data folder."""


class DataFolder:
    """An open data folder. Holding its lock, a starting server knows that every lease is dead."""

    def __init__(self, path: Path) -> None:
        """Create the folder if need be, for us alone, and lock it.

        Raises FolderInUse, or OSError.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._lock = _lock(path / LOCK)
        for made in (path / LOCK, self.blobs, self.indexes, *path.glob(f"{DATABASE}*")):
            with contextlib.suppress(OSError):  # it is not there, or somebody else's
                made.chmod(made.stat().st_mode & stat.S_IRWXU)

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    @property
    def blobs(self) -> Path:
        """Where the bytes of files are."""
        return self.path / BLOBS

    @property
    def indexes(self) -> Path:
        """Where the text and the vectors of vector stores are."""
        return self.path / "indexes"

    def close(self) -> None:
        """Let another server have the folder."""
        self._lock.close()


def _lock(path: Path) -> IO[str]:
    """An open, locked file that holds our process id; the kernel unlocks it if we die."""
    path.touch(mode=0o600)
    file = path.open("a+", encoding="ascii")  # it stays open for as long as we run
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise FolderInUse(f"{path.parent} is used by a running server (process {owner})") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
