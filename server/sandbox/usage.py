"""What a session's processes take, as /proc tells it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STATE: Final = 0  # fields of stat behind the name
_OWN_TIMES: Final = slice(11, 13)
_TIMES_OF_DEAD: Final = slice(13, 15)  # children that it waited for
_FLAGS: Final = 6
_THREADS: Final = 17
_STARTED: Final = 19
_RESIDENT: Final = 21
_AT_WORK: Final = (b"R", b"D")
_ENDED: Final = (b"Z", b"X")
_EXITING: Final = 4  # a flag: its memory and files may be gone
_INODE: Final = 4  # a field of a line of maps
_BLOCK: Final = 512  # bytes, that stat counts in

_LONGEST: Final = 0.5  # seconds of processor time, to look at processes closely

_Who = tuple[int, bytes]  # its pid and when it was started: pids are used again
_Kept = tuple[int, int]  # locks of parts of files, and watches of epoll


class TooMuch(Exception):
    """There is more to look at than there is time for."""


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
    """Bytes of memory where what several processes share counts once.

    Of a process that may not be looked at so closely, all counts. Raises TooMuch.
    """
    return sum(map(_share_of, _in_time(pids)))


def _in_time(pids: Iterable[int]) -> Iterator[int]:
    """Them, as long as to look at them does not take too long. Raises TooMuch."""
    began = time.thread_time()
    for pid in pids:
        if time.thread_time() - began > _LONGEST:
            raise TooMuch
        yield pid


def _share_of(pid: int) -> int:
    with suppress(OSError):
        for line in (_body(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError):
        return _resident(pid, _stat(Path(f"/proc/{pid}")))
    return 0


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes on a disk, files and folders, sockets, locks of parts of files, watches of epoll."""

    size: int
    files: int
    sockets: int
    locks: int
    watches: int


def held_in_namespace(first: int, folders: Iterable[str], pids: Iterable[int]) -> Held:
    """What there is in the file systems at these places, as a namespace's first process sees it.

    Their size has a limit of its own, and is 0 here. The first process, which nobody may look at,
    has no locks and watches nothing. Raises OSError, PermissionError if another one may not be
    looked at, TooMuch.
    """
    try:
        files, sockets = _seen_by(first, folders)
    except PermissionError:
        if _is_ending(first):  # some kernels refuse to show what it has had
            raise ProcessLookupError(first) from None
        raise
    kept = _sum(_each(_kept, (pid for pid in pids if pid != first)))
    return Held(0, files, sockets, *kept)


def _seen_by(first: int, folders: Iterable[str]) -> tuple[int, int]:
    """Files and folders at these places, and sockets."""
    there = [Path(f"/proc/{first}/root{folder}") for folder in folders]
    # Older kernels number no file system in memory: its f_fsid is that of all.
    systems = {path.stat().st_dev: os.statvfs(path) for path in there}
    files = sum(each.f_files - each.f_ffree for each in systems.values())
    with Path(f"/proc/{first}/net/unix").open("rb") as lines:
        return files, sum(1 for _ in lines) - 1


def held_in_folder(folder: Path, most: int, pids: Iterable[int], largest: int) -> Held:
    """What is in the folder, counted up to so many files, and what was, and these still have open.

    A file that is gone and only mapped may be as large as one can be. Raises PermissionError if one
    of the processes may not be looked at, TooMuch.
    """
    size, files = _contents(folder, most)
    sockets, gone = set[int](), dict[int, int]()  # by their inodes

    def look(body: Path) -> _Kept:
        for opened in _opened(body):
            if stat.S_ISSOCK(opened.st_mode):
                sockets.add(opened.st_ino)
            elif stat.S_ISREG(opened.st_mode) and opened.st_nlink == 0:
                gone[opened.st_ino] = opened.st_blocks * _BLOCK
        for inode in _mapped_and_gone(body, folder):
            gone.setdefault(inode, largest)
        return _kept(body)

    kept = _sum(_each(look, pids))
    return Held(size + sum(gone.values()), files, len(sockets), *kept)


def _sum(kept: Iterable[_Kept]) -> _Kept:
    locks, watches = zip((0, 0), *kept, strict=True)
    return sum(locks), sum(watches)


def _each(look: Callable[[Path], _Kept], pids: Iterable[int]) -> Iterator[_Kept]:
    """What a look at each of them counts. Raises PermissionError if one does not allow it, TooMuch.

    One that is gone, or has nothing any more, is left out.
    """
    for pid in _in_time(pids):
        try:
            yield look(_body(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            if not _is_ending(pid):
                raise


def _opened(process: Path) -> Iterator[os.stat_result]:
    with os.scandir(process / "fd") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.stat()


def _kept(process: Path) -> _Kept:
    """By the files that it has open: the kernel takes some 200 bytes for each.

    A user's epolls watch so many files, and no more, whoever of his processes has them.
    """
    locks = watches = 0
    with os.scandir(process / "fdinfo") as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                told = Path(entry.path).read_bytes()
                locks += told.count(b"\nlock:")
                watches += told.count(b"\ntfd:")
    return locks, watches


def _mapped_and_gone(process: Path, folder: Path) -> Iterator[int]:
    """Inodes of deleted files of the folder."""
    inside = os.fsencode(f" {folder}/")
    with (process / "maps").open("rb") as lines:
        for line in lines:
            if line.endswith(b" (deleted)\n") and inside in line:
                yield int(line.split()[_INODE])


def _is_ending(pid: int) -> bool:
    try:
        fields = _stat(Path(f"/proc/{pid}"))
    except OSError:
        return True
    return fields[_STATE] in _ENDED or bool(int(fields[_FLAGS]) & _EXITING)


def _contents(folder: Path, most: int) -> tuple[int, int]:
    """Bytes, and files and folders, that are in the folder and below, up to so many files.

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
                        size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    if files > most:
                        break
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return size, most + 1
    return size, files


def _buffered() -> int:
    """Bytes that can wait in a socket whose limits are the usual ones."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/core/wmem_default").read_text())
    return 212_992


BUFFERED: Final = _buffered()
