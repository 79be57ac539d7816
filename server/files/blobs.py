"""Bytes under their digest: a folder of files that are named by the SHA-256 of what is in them.

What arrives goes into a file beside them, which is renamed once it is whole and on the disk: a blob
is complete or it is not there, whenever the power goes. No name of a client's is ever part of a
path. Knows nothing of rows: who still needs a blob is decided above. The disk is touched in threads
of the store's own, so that a slow one holds up files and nothing else; the rest is owned by one
event loop.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from types import TracebackType
from typing import BinaryIO, Protocol, Self, TypeVar

from server import failpoints

T = TypeVar("T")

CHUNK = 2**20
THREADS = 4
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
DIGEST_LENGTH = 64
HEXADECIMAL = frozenset("0123456789abcdef")


class StorageFull(Exception):
    """The disk, or the part of it that this user may fill, is full; nothing was kept."""


class Hash(Protocol):
    """Something that reads along."""

    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are on the disk: what they are called there, and how many they are."""

    digest: str
    bytes: int


class BlobStore:
    """The folder. Of the same bytes it has one copy, however often they came."""

    def __init__(self, root: Path) -> None:
        """Make the folder if need be; raises OSError."""
        self._root = root
        self._incoming = root / "incoming"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        sync_folder(root.parent)
        self._disk = Disk()

    def close(self) -> None:
        """Return when nothing touches the disk any more."""
        self._disk.close()

    def receive(self, *along: Hash) -> Incoming:
        """A place for bytes that are to come; the hashes are fed with them, too."""
        return Incoming(self._disk, self._incoming, along)

    def path(self, digest: str) -> Path:
        """Where a blob is, if it is there."""
        return path_of(self._root, digest)

    async def open(self, digest: str) -> Reader:
        """Its bytes, to be read to the end even if it is removed. Raises FileNotFoundError."""
        return Reader(self._disk, await self._disk.run(self.path(digest).open, "rb"))

    async def place(self, incoming: Incoming, blob: Blob) -> None:
        """Keep what was sealed under its digest. Raises StorageFull, OSError."""
        await self._disk.run(incoming.move, self.path(blob.digest))

    async def remove(self, digest: str) -> None:
        """Have the blob no more; it may be gone already."""
        await self._disk.run(_unlink, self.path(digest))

    async def keep_only(self, known: Callable[[set[str]], Awaitable[set[str]]]) -> int:
        """Remove what a crash has left: what never became whole, and blobs that are not `known`.

        Returns how many blobs went. Nothing may arrive meanwhile.
        """
        await self._disk.run(_empty, self._incoming)
        removed = 0
        for folder in await self._disk.run(_folders, self._root):
            digests = await self._disk.run(_digests, folder)
            strays = digests - await known(digests)
            for digest in strays:
                await self.remove(digest)
            removed += len(strays)
        return removed


class Disk:
    """The threads that wait for it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")

    async def run(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def close(self) -> None:
        self._threads.shutdown()


class Reader:
    """An open blob, to be closed by whoever has it (`with`)."""

    def __init__(self, disk: Disk, file: BinaryIO) -> None:
        self._disk = disk
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def read(self, most: int) -> bytes:
        """The next bytes, none at the end."""
        return await self._disk.run(self._file.read, most)


class Incoming:
    """Bytes on their way, in a file that is gone when this is closed, unless it was placed.

    They are held until there is a chunk of them, hashed and written in a thread.
    """

    def __init__(self, disk: Disk, folder: Path, along: tuple[Hash, ...]) -> None:
        self.bytes = 0
        self._disk = disk
        self._folder = folder
        self._digest = hashlib.sha256()
        self._hashes: tuple[Hash, ...] = (self._digest, *along)
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self._disk.run(self._discard)

    async def write(self, data: bytes) -> None:
        """Append. Raises StorageFull, OSError."""
        self._held.append(data)
        self._held_bytes += len(data)
        self.bytes += len(data)
        if self._held_bytes >= CHUNK:
            await self._disk.run(self._write_held)

    async def write_from(self, source: Reader) -> None:
        """Append all that is left of a blob. Raises StorageFull, OSError."""
        while data := await source.read(CHUNK):
            await self.write(data)

    async def write_file(self, path: Path) -> None:
        """Append a file of the disk's. Raises StorageFull, OSError."""
        with Reader(self._disk, await self._disk.run(path.open, "rb")) as source:
            await self.write_from(source)

    async def seal(self) -> Blob:
        """All of it, and on the disk. Nothing can be appended then. Raises StorageFull, OSError."""
        await self._disk.run(self._seal)
        return Blob(self._digest.hexdigest(), self.bytes)

    def move(self, target: Path) -> None:
        """Rename it to its place for good; what is there has the same bytes. Blocks."""
        assert self._path is not None, "it was sealed"
        with told_when_full():
            target.parent.mkdir(exist_ok=True)
            failpoints.hit("blob.rename.before")
            self._path.replace(target)
            self._path = None
            failpoints.hit("blob.rename.after")
            for folder in (target.parent, target.parent.parent):
                sync_folder(folder)

    def _write_held(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        with told_when_full():
            file = self._opened()
            for data in held:
                for each in self._hashes:
                    each.update(data)
                failpoints.hit("blob.write")
                file.write(data)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            handle, path = mkstemp(dir=self._folder)
            self._path, self._file = Path(path), os.fdopen(handle, "wb")
        return self._file

    def _seal(self) -> None:
        self._write_held()
        with told_when_full():
            file = self._opened()
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def _discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what it could not write is not wanted any more
                self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@contextmanager
def told_when_full() -> Iterator[None]:
    """Tell of a full disk as StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise StorageFull(str(error)) from error


def path_of(root: Path, digest: str) -> Path:
    """Where a blob is in a folder of blobs, if it is there."""
    return root / digest[:2] / digest


def sync_folder(folder: Path) -> None:
    """Have the names in it on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unlink(path: Path) -> None:
    failpoints.hit("blob.remove.before")
    path.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _folders(root: Path) -> list[Path]:
    return [folder for folder in root.iterdir() if folder.is_dir() and len(folder.name) == 2]


def _digests(folder: Path) -> set[str]:
    """What looks like a blob's name; whatever else somebody has put there stays."""
    names = {path.name for path in folder.iterdir()}
    return {name for name in names if len(name) == DIGEST_LENGTH and HEXADECIMAL.issuperset(name)}
