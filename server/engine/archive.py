"""Snapshots as files: written behind, checked when they are read, bounded by whoever keeps them.

One folder a model, as it was loaded. A file that was cut short, changed, or written by another
version or for another model is not an error: it is as if it were not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, Final, TypeAlias

import numpy as np
import orjson

from server.engine.backend import State
from server.engine.snapshots import SHARED, Fetched, Snapshot, Written

logger = logging.getLogger(__name__)

_MAGIC: Final = b"ASSTKV01"
_HEAD: Final = struct.Struct("<8sI")
_LONGEST_HEADER: Final = 1 << 16
_SUFFIX: Final = ".kv"
_UNFINISHED: Final = ".part"
_NOBODY: Final = "shared"
# What may stand in a file's name; other owners are known by their digest.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")

Deliver = Callable[[Written | Fetched], None]
Buffer: TypeAlias = "bytes | array[int] | memoryview"


class SnapshotFiles:
    """The archive of one model in one folder, with a thread of its own that does all the work."""

    def __init__(self, folder: Path, deliver: Deliver) -> None:
        self._folder = folder
        self._deliver = deliver
        self._jobs = SimpleQueue[Callable[[], None] | None]()
        self._hold = _held(folder)  # while it is loaded: see `_abandoned`
        self._thread = Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def stored(self) -> list[Snapshot]:
        """What earlier processes left, the longest unused first. What is of no use is removed."""
        found = {path: _listed(path) for path in self._folder.glob(f"*{_SUFFIX}")}
        useless = [path for path, snapshot in found.items() if snapshot is None]
        for path in [*useless, *self._folder.glob(f"*{_UNFINISHED}")]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        used = [snapshot for snapshot in found.values() if snapshot is not None]
        return sorted(used, key=lambda snapshot: _last_use(snapshot.path))

    def write(self, snapshot: Snapshot) -> None:
        state = snapshot.state
        assert state is not None, "what is not in memory cannot be written"
        self._jobs.put(lambda: self._deliver(Written(snapshot, self._write(snapshot, state))))

    def fetch(self, snapshot: Snapshot) -> None:
        self._jobs.put(lambda: self._deliver(Fetched(snapshot, self._read(snapshot))))

    def remove(self, snapshot: Snapshot) -> None:
        path = snapshot.path
        assert path is not None, "what was never written cannot be removed"
        self._jobs.put(lambda: path.unlink(missing_ok=True))

    def close(self, patience: float) -> None:
        """Finish what was asked for, as far as there is time."""
        self._jobs.put(None)
        self._thread.join(patience)
        os.close(self._hold)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError as error:
                logger.warning("snapshot.failed cause=%s", error)

    def _hold_again(self) -> None:
        """The folder as it is now: who cleans up by hand does not ask."""
        if not _is_at(self._hold, self._folder):
            lost, self._hold = self._hold, _held(self._folder)
            os.close(lost)

    def _new_path(self, snapshot: Snapshot) -> Path:
        """Never an old one: its file may still have to be removed."""
        name = f"{owner_prefix(snapshot.owner)}{secrets.token_hex(16)}{_SUFFIX}"
        return self._folder / name

    def _write(self, snapshot: Snapshot, state: State) -> Path | None:
        """Whole or not at all; a full disk costs the snapshot, nothing else."""
        path = self._new_path(snapshot)
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            self._hold_again()
            with unfinished.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(_header(snapshot, _digest(state.data)))
                file.write(snapshot.tokens)
                file.write(state.data)
            unfinished.rename(path)
        except OSError as error:
            logger.warning("snapshot.not_written cause=%s", error)
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            return None
        return path

    def _read(self, snapshot: Snapshot) -> State | None:
        path = snapshot.path
        if path is None:  # removed since it was asked for
            return None
        try:
            with path.open("rb") as file:
                held = _contents(file)
                if held is None or not held.are(snapshot):
                    return None
                state = np.fromfile(file, np.uint8)
            os.utime(path)
        except OSError as error:
            logger.warning("snapshot.not_read cause=%s", error)
            return None
        return state if _digest(state.data) == held.digest else None


def owner_prefix(owner: str) -> str:
    """How the names of an owner's files begin."""
    if owner == SHARED:
        return f"{_NOBODY}."
    if _PLAIN.fullmatch(owner) and owner != _NOBODY:
        return f"{owner}."
    return f"{_digest(owner.encode())}."


def forget_files(folders: Iterable[Path], owners: Iterable[str]) -> None:
    """Remove owners' snapshots in the folders of models, loaded or not."""
    prefixes = set(map(owner_prefix, owners))
    for path in (path for folder in folders for path in _entries(folder)):
        if f"{_owner_of(path)}." in prefixes:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # the user asked for it: whoever runs the server must know
                logger.warning("snapshot.not_removed cause=%s", error)


def owners_in(root: Path) -> set[str]:
    """The owners that have files below `root`, as the names of their files begin."""
    return {_owner_of(path) for path in root.glob(f"*/*{_SUFFIX}")} - {_NOBODY}


def _owner_of(path: Path) -> str:
    return path.name.partition(".")[0]


def shrink(root: Path, limit: int) -> None:
    """Remove the longest unused files of models that are not loaded, until the rest fits.

    Without this, each new version of a model would leave its predecessor's files for ever. Others
    may be doing the same: what they have removed already, and what is no file, is passed over.
    Whoever loads one of these models meanwhile waits.
    """
    with contextlib.ExitStack() as claims:
        abandoned = [each for each in root.glob("*/") if claims.enter_context(_abandoned(each))]
        _remove_oldest([file for folder in abandoned for file in _files_in(folder)], limit)
        for folder in abandoned:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()


def _remove_oldest(files: Iterable[Path], limit: int) -> None:
    kept = 0
    for file in sorted(files, key=_last_use, reverse=True):
        kept += _size(file)
        if kept > limit:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Whether it is there, and no process has this model loaded; none has it meanwhile, then."""
    try:
        descriptor = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _held(folder: Path) -> int:
    """A descriptor of the folder that keeps `shrink` off; it is made if it is not there."""
    while True:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it was removed before it could be held
            descriptor = _lock(folder, fcntl.LOCK_SH)
            if _is_at(descriptor, folder):
                return descriptor
            os.close(descriptor)  # the lock is on a folder that has no name any more


def _lock(folder: Path, how: int) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, folder: Path) -> bool:
    """Whether this is the folder that has the name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError:
        return False


def _files_in(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _header(snapshot: Snapshot, digest: str) -> bytes:
    fields = _fields(snapshot.scope, snapshot.owner, snapshot.size, digest)
    header = orjson.dumps(fields | {"check": _check(fields, snapshot.tokens)})
    return _HEAD.pack(_MAGIC, len(header)) + header


def _fields(scope: str, owner: str, size: int, digest: str) -> dict[str, str | int]:
    return {"scope": scope, "owner": owner, "bytes": size, "digest": digest}


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a file says that it holds: all before the state."""

    scope: str
    owner: str
    tokens: array[int]
    size: int  # of the state, which is the rest of the file
    digest: str  # of the state

    def are(self, snapshot: Snapshot) -> bool:
        mine = (self.scope, self.owner, self.tokens)
        return mine == (snapshot.scope, snapshot.owner, snapshot.tokens)


def _contents(file: BinaryIO) -> _Contents | None:
    """None unless they are as they were written, and the state is as long."""
    match _read_header(file):
        case {
            "scope": str(scope),
            "owner": str(owner),
            "bytes": int(size),
            "digest": str(digest),
            "check": str(check),
        }:
            fields = _fields(scope, owner, size, digest)
        case _:
            return None
    rest = os.fstat(file.fileno()).st_size - file.tell()
    if not 0 <= size <= rest:
        return None
    tokens = array("i")
    if (rest - size) % tokens.itemsize:
        return None
    tokens.frombytes(file.read(rest - size))
    if check != _check(fields, tokens):
        return None
    return _Contents(scope, owner, tokens, size, digest)


def _read_header(file: BinaryIO) -> object:
    """None if there is none."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, length = _HEAD.unpack(head)
    if magic != _MAGIC or length > _LONGEST_HEADER:
        return None
    try:
        return orjson.loads(file.read(length))
    except orjson.JSONDecodeError:
        return None


def _listed(path: Path) -> Snapshot | None:
    """What a file holds; its state is checked when it is fetched."""
    try:
        with path.open("rb") as file:
            held = _contents(file)
    except OSError:
        return None
    if held is None or not path.name.startswith(owner_prefix(held.owner)):
        return None  # under another name it could not be forgotten
    return Snapshot(held.scope, held.owner, held.tokens, held.size, path=path)


def _check(fields: dict[str, str | int], tokens: array[int]) -> str:
    return _digest(orjson.dumps(fields), tokens)


def _digest(*parts: Buffer) -> str:
    """SHA-256: processors have instructions for it, and a gigabyte must not take a second."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _last_use(path: Path | None) -> float:
    try:
        return path.stat().st_mtime if path is not None else 0.0
    except OSError:
        return 0.0
