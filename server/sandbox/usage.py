"""What a session's processes take, as /proc tells it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_TIMES: Final = slice(11, 15)  # fields of stat behind the name: its own and its dead children's
_RESIDENT: Final = 21
_AT_WORK: Final = (b"R", b"D")


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


def usage(pids: Sequence[int]) -> Usage:
    memory, ticks, seen = 0, 0, 0
    for pid in pids:
        with suppress(OSError):
            # A process names itself as it likes, also in bytes that are no text.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            memory += int(fields[_RESIDENT]) * _PAGE
            ticks += sum(map(int, fields[_TIMES]))
            seen += 1
    return Usage(memory, ticks / _TICKS, seen)


def at_work(pids: Iterable[int]) -> bool:
    """Whether a thread of theirs runs, or waits for a processor or a disk."""
    return any(state in _AT_WORK for pid in pids for state in _states(pid))


def _states(pid: int) -> Iterator[bytes]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                yield (task / "stat").read_bytes().rpartition(b")")[2].split()[0]


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
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return usage([pid]).memory


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
