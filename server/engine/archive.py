"""Snapshots as files: written behind, checked when they are read, bounded by whoever keeps them.

One folder a model, as it was loaded. A file that was cut short, changed, or written by another
version or for another model is not an error: it is as if it were not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import struct
from array import array
from collections.abc import Callable
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
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread = Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def stored(self) -> list[Snapshot]:
        """What earlier processes left, the longest unused first. What a crash left is removed."""
        for unfinished in self._folder.glob(f"*{_UNFINISHED}"):
            unfinished.unlink(missing_ok=True)
        snapshots = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            snapshot = _listed(path)
            if snapshot is not None and self._path(snapshot) == path:
                snapshots.append(snapshot)
            else:
                path.unlink(missing_ok=True)
        return sorted(snapshots, key=_last_change)

    def write(self, snapshot: Snapshot) -> None:
        state = snapshot.state
        assert state is not None, "what is not in memory cannot be written"
        self._jobs.put(lambda: self._deliver(Written(snapshot, self._write(snapshot, state))))

    def fetch(self, snapshot: Snapshot) -> None:
        self._jobs.put(lambda: self._deliver(Fetched(snapshot, self._read(snapshot))))

    def remove(self, snapshot: Snapshot) -> None:
        path = self._path(snapshot)
        self._jobs.put(lambda: path.unlink(missing_ok=True))

    def close(self, patience: float) -> None:
        """Finish what was asked for, as far as there is time."""
        self._jobs.put(None)
        self._thread.join(patience)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError as error:
                logger.warning("snapshot.failed cause=%s", error)

    def _path(self, snapshot: Snapshot) -> Path:
        what = _digest(snapshot.scope.encode(), snapshot.tokens)
        return self._folder / f"{owner_prefix(snapshot.owner)}{what}{_SUFFIX}"

    def _write(self, snapshot: Snapshot, state: State) -> Path | None:
        """Whole or not at all; a full disk costs the snapshot, nothing else."""
        path = self._path(snapshot)
        unfinished = path.with_suffix(_UNFINISHED)
        try:
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
        path = self._path(snapshot)
        try:
            with path.open("rb") as file:
                header = _read_header(file)
                if header is None or header["tokens"] != len(snapshot.tokens):
                    return None
                file.seek(len(snapshot.tokens) * snapshot.tokens.itemsize, os.SEEK_CUR)
                state = np.fromfile(file, np.uint8)
            os.utime(path)
        except OSError as error:
            logger.warning("snapshot.not_read cause=%s", error)
            return None
        whole = len(state) == header["bytes"] and _digest(state.data) == header["digest"]
        return state if whole else None


def owner_prefix(owner: str) -> str:
    """How the names of an owner's files begin."""
    if owner == SHARED:
        return f"{_NOBODY}."
    if _PLAIN.fullmatch(owner) and owner != _NOBODY:
        return f"{owner}."
    return f"{_digest(owner.encode())}."


def forget_files(root: Path, owner: str) -> None:
    """Remove an owner's snapshots of every model below `root`, loaded or not."""
    for path in root.glob(f"*/{owner_prefix(owner)}*"):
        path.unlink(missing_ok=True)


def owners_in(root: Path) -> set[str]:
    """The owners that have files below `root`, as the names of their files begin."""
    return {path.name.partition(".")[0] for path in root.glob(f"*/*{_SUFFIX}")} - {_NOBODY}


def _header(snapshot: Snapshot, digest: str) -> bytes:
    fields = {
        "scope": snapshot.scope,
        "owner": snapshot.owner,
        "tokens": len(snapshot.tokens),
        "bytes": snapshot.size,
        "digest": digest,
    }
    fields["check"] = _check(fields, snapshot.tokens)
    header = orjson.dumps(fields)
    return _HEAD.pack(_MAGIC, len(header)) + header


def _read_header(file: BinaryIO) -> dict[str, object] | None:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, length = _HEAD.unpack(head)
    if magic != _MAGIC or length > _LONGEST_HEADER:
        return None
    try:
        fields = orjson.loads(file.read(length))
    except orjson.JSONDecodeError:
        return None
    return fields if isinstance(fields, dict) else None


def _listed(path: Path) -> Snapshot | None:
    """What a file holds, by its header and its tokens; its state is checked when it is fetched."""
    tokens = array("i")
    try:
        with path.open("rb") as file:
            fields = _read_header(file)
            if fields is None:
                return None
            tokens.fromfile(file, int(fields["tokens"]))  # type: ignore[call-overload]
            rest = os.fstat(file.fileno()).st_size - file.tell()
        given = fields.pop("check")
        if given != _check(fields, tokens) or rest != fields["bytes"]:
            return None
        return Snapshot(str(fields["scope"]), str(fields["owner"]), tokens, rest, path=path)
    except (OSError, EOFError, KeyError, ValueError, TypeError):
        return None


def _check(fields: dict[str, object], tokens: array[int]) -> str:
    return _digest(orjson.dumps(fields), tokens)


def _digest(*parts: Buffer) -> str:
    """SHA-256: processors have instructions for it, and a gigabyte must not take a second."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def _last_change(snapshot: Snapshot) -> float:
    assert snapshot.path is not None, "it was just listed"
    try:
        return snapshot.path.stat().st_mtime
    except OSError:
        return 0.0
