"""What a session's processes take, as /proc tells it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STATE: Final = 0  # fields of stat behind the name
_OWN_TIMES: Final = slice(11, 13)
_TIMES_OF_DEAD: Final = slice(13, 15)  # children that it waited for
_THREADS: Final = 17
_STARTED: Final = 19
_RESIDENT: Final = 21
_AT_WORK: Final = (b"R", b"D")
_ENDED: Final = (b"Z", b"X")

_Who = tuple[int, bytes]  # its pid and when it was started: pids are used again


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of memory and seconds of processor time, of all processes together."""

    memory: int
    seconds: float
    processes: int


def children(pid: int) -> list[int]:
    """Those that it started, the oldest first; none if it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def processes(root: int) -> list[int]:
    """It and all its descendants."""
    found = [root]
    for pid in found:
        found += children(pid)
    return found


class Meter:
    """What one session takes, those of its processes included that ended between two readings."""

    def __init__(self) -> None:
        self._alive: dict[_Who, int] = {}  # their ticks
        self._gone = 0  # ticks of those that were seen, and are no more

    def read(self, pids: Iterable[int]) -> Usage:
        alive: dict[_Who, int] = {}
        memory = waited_for = 0
        for who, fields in self._found(set(pids)):
            alive[who] = sum(map(int, fields[_OWN_TIMES]))
            memory += _resident(who[0], fields)
            waited_for += sum(map(int, fields[_TIMES_OF_DEAD]))
        self._gone += sum(ticks for who, ticks in self._alive.items() if who not in alive)
        self._alive = alive
        # Whoever was waited for is in both; a child whose parent ignores its end is seen only.
        ticks = sum(alive.values()) + max(waited_for, self._gone)
        return Usage(memory, ticks / _TICKS, len(alive))

    def _found(self, pids: set[int]) -> Iterator[tuple[_Who, list[bytes]]]:
        """Those, and whoever left his parents while they were looked for."""
        for pid in pids.union(pid for pid, _ in self._alive):
            with suppress(OSError):
                fields = _stat(Path(f"/proc/{pid}"))
                who = (pid, fields[_STARTED])
                if pid in pids or who in self._alive:
                    yield who, fields


def _stat(process: Path) -> list[bytes]:
    """The fields behind its name, which may be any bytes. Raises OSError."""
    return (process / "stat").read_bytes().rpartition(b")")[2].split()


def _resident(pid: int, fields: list[bytes]) -> int:
    """Bytes that it has in memory. Raises OSError."""
    if fields[_STATE] in _ENDED and int(fields[_THREADS]) > 1:
        fields = _stat(_body(pid))
    return int(fields[_RESIDENT]) * _PAGE


def _body(pid: int) -> Path:
    """A thread of it that has not ended: only such a one shows memory and files. Raises OSError."""
    process = Path(f"/proc/{pid}")
    for task in (process, *(process / "task").iterdir()):
        with suppress(FileNotFoundError, ProcessLookupError):
            if _stat(task)[_STATE] not in _ENDED:
                return task
    raise ProcessLookupError(pid)


def at_work(pids: Iterable[int]) -> bool:
    """Whether a thread of theirs runs, or waits for a processor or a disk."""
    return any(state in _AT_WORK for pid in pids for state in _states(pid))


def _states(pid: int) -> Iterator[bytes]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield _stat(task)[_STATE]


def processes_of(uid: int) -> int:
    """Processes and threads that a user has."""
    found = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if folder.stat().st_uid == uid:
                found += sum(1 for _ in (folder / "task").iterdir())
    return found


def without_shared(pids: Iterable[int]) -> int:
    """Bytes of memory where what several processes share counts once. Takes its time.

    Of a process that may not be looked at so closely, all counts.
    """
    return sum(map(_share_of, pids))


def _share_of(pid: int) -> int:
    with suppress(OSError):
        for line in (_body(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError):
        return _resident(pid, _stat(Path(f"/proc/{pid}")))
    return 0


def files_seen_by(pid: int, folders: Iterable[str]) -> int:
    """How many files those file systems have that it sees at these places. Raises OSError."""
    told = {folder: os.statvfs(f"/proc/{pid}/root{folder}") for folder in folders}
    return sum({each.f_fsid: each.f_files - each.f_ffree for each in told.values()}.values())


@dataclass(frozen=True, slots=True)
class Contents:
    """Of a folder: bytes, and files and folders."""

    size: int
    files: int


def contents(folder: Path, most: int) -> Contents:
    """What is in the folder and below, counted up to so many files.

    What cannot be looked into counts as more than that: it may hold anything.
    """
    size = files = 0
    folders = [os.fspath(folder)]
    while folders and files <= most:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    with suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if files > most:
                        break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return Contents(size, most + 1)
    return Contents(size, files)
