"""The folder of blobs, on its own."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server import failpoints
from server.files.blobs import CHUNK, Blob, BlobStore, StorageFull


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    """An empty folder."""
    store = BlobStore(tmp_path / "blobs")
    yield store
    store.close()


@pytest.fixture
def fails_at() -> Iterator[Callable[[str, int], None]]:
    """Have the disk fail with an error number at a failpoint."""
    armed: list[str] = []

    def arm(name: str, number: int) -> None:
        def fail() -> None:
            raise OSError(number, os.strerror(number))

        armed.append(name)
        failpoints.arm(name, fail)

    yield arm
    for name in armed:
        failpoints.disarm(name)


def files_in(folder: Path) -> set[str]:
    """The paths of all files, from the folder on."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def placed(store: BlobStore, *pieces: bytes) -> Blob:
    """A new blob."""
    async with store.receive() as sent:
        for piece in pieces:
            await sent.write(piece)
        blob = await sent.seal()
        await store.place(sent, blob)
    return blob


@pytest.mark.parametrize("pieces", [[b"a"], [b"a" * CHUNK, b"b"], [b"", b"ab" * CHUNK, b""]])
async def test_a_blob_is_named_by_its_digest(
    store: BlobStore, tmp_path: Path, pieces: list[bytes]
) -> None:
    """In a folder named by the digest's beginning; it has the bytes that were written."""
    blob = await placed(store, *pieces)
    whole = b"".join(pieces)
    assert blob == Blob(hashlib.sha256(whole).hexdigest(), len(whole))
    assert files_in(tmp_path) == {f"blobs/{blob.digest[:2]}/{blob.digest}"}
    with await store.open(blob.digest) as source:
        assert await source.read(len(whole) + 1) == whole
        assert await source.read(1) == b""
    assert store.path(blob.digest).stat().st_mode & 0o077 == 0


async def test_the_same_bytes_are_kept_once(store: BlobStore, tmp_path: Path) -> None:
    """However they were cut."""
    first, second = await placed(store, b"ab"), await placed(store, b"a", b"b")
    assert first == second
    assert len(files_in(tmp_path)) == 1


async def test_what_is_not_placed_is_gone(store: BlobStore, tmp_path: Path) -> None:
    """Also if it was written out, also if it was sealed."""
    async with store.receive() as sent:
        await sent.write(b"x" * CHUNK)
        assert len(files_in(tmp_path)) == 1
    async with store.receive() as sent:
        await sent.write(b"x")
        await sent.seal()
    assert files_in(tmp_path) == set()


async def test_hashes_read_along(store: BlobStore) -> None:
    """All that is written, also out of another file."""
    checksum = hashlib.md5(usedforsecurity=False)
    blob = await placed(store, b"ab" * CHUNK)
    async with store.receive(checksum) as sent:
        await sent.write(b"begin")
        with await store.open(blob.digest) as source:
            await sent.write_from(source)
        sealed = await sent.seal()
    whole = b"begin" + b"ab" * CHUNK
    assert sealed.digest == hashlib.sha256(whole).hexdigest()
    assert checksum.hexdigest() == hashlib.md5(whole, usedforsecurity=False).hexdigest()


async def test_a_blob_that_is_being_read_can_be_removed(store: BlobStore) -> None:
    """Whoever has it open reads it to its end; to remove it again does nothing."""
    blob = await placed(store, b"abc")
    with await store.open(blob.digest) as source:
        await store.remove(blob.digest)
        await store.remove(blob.digest)
        assert await source.read(4) == b"abc"
    with pytest.raises(FileNotFoundError):
        await store.open(blob.digest)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("point", ["blob.write", "blob.rename.before"])
async def test_a_full_disk_leaves_nothing(
    store: BlobStore, tmp_path: Path, fails_at: Callable[[str, int], None], point: str, number: int
) -> None:
    """It is told as such, whichever way it is full; afterwards all is as before."""
    fails_at(point, number)
    with pytest.raises(StorageFull):
        await placed(store, b"x" * CHUNK, b"y")
    assert files_in(tmp_path) == set()
    failpoints.disarm(point)
    await placed(store, b"x")


async def test_another_fault_of_the_disk_is_none_of_space(
    store: BlobStore, tmp_path: Path, fails_at: Callable[[str, int], None]
) -> None:
    """It is passed on as it is, and leaves nothing either."""
    fails_at("blob.write", errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        await placed(store, b"x" * CHUNK)
    assert files_in(tmp_path) == set()


async def test_what_a_crash_has_left_is_removed(store: BlobStore, tmp_path: Path) -> None:
    """What never became whole, and what no row names; what is not ours stays."""
    kept, stray = await placed(store, b"kept"), await placed(store, b"stray")
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"x")
    (store.path(kept.digest).parent / "notes.txt").write_bytes(b"somebody's own")

    async def known(digests: set[str]) -> set[str]:
        return digests & {kept.digest}

    assert await store.keep_only(known) == 1
    assert not store.path(stray.digest).exists()
    folder = f"blobs/{kept.digest[:2]}"
    assert files_in(tmp_path) == {f"{folder}/{kept.digest}", f"{folder}/notes.txt"}
    await placed(store, b"more")
