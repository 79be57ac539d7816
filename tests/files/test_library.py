"""Rows and blobs: neither is without the other, however many come and go at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from server import failpoints
from server.db.database import Database, DatabaseBusy, DatabaseFull
from server.errors import WireError
from server.files.blobs import BlobStore
from server.files.library import Library
from server.schemas import CompleteUpload, CreateUpload
from tests.api.wire import answer_of
from tests.files.conftest import add, digests_in_rows, digests_on_disk
from tests.forms import FORM, PURPOSE, file, form
from tests.support import LiveServer, live_server

Settled = Callable[[], Awaitable[set[str]]]


async def test_files_of_the_same_bytes_share_a_blob(server: LiveServer, settled: Settled) -> None:
    """Of whatever project; it goes with the last of them."""
    library = server.services.files
    mine, again = await add(library, b"same"), await add(library, b"same")
    theirs = await add(library, b"same", "other")
    assert len(await settled()) == 1
    await library.delete("default", mine)
    await library.delete("other", theirs)
    assert len(await settled()) == 1
    await library.delete("default", again)
    assert await settled() == set()


async def test_the_last_delete_and_an_upload_at_once(server: LiveServer, settled: Settled) -> None:
    """Whichever comes first, the upload's bytes are there."""
    library = server.services.files
    for _ in range(30):
        last = await add(library, b"same")
        _, first, second = await asyncio.gather(
            library.delete("default", last), add(library, b"same"), add(library, b"same")
        )
        assert len(await settled()) == 1
        await asyncio.gather(library.delete("default", first), library.delete("default", second))
        assert await settled() == set()


@pytest.mark.parametrize("turn", ["upload", "delete"])
async def test_the_bytes_of_an_upload_are_not_removed_under_it(
    server: LiveServer, settled: Settled, monkeypatch: pytest.MonkeyPatch, turn: str
) -> None:
    """Held at the worst moment: one has placed or found the blob, the other has not yet acted."""
    library, held, go_on = server.services.files, asyncio.Event(), asyncio.Event()
    name = {"upload": "place", "delete": "remove"}[turn]
    real: Any = getattr(BlobStore, name)

    async def slowly(store: BlobStore, *given: Any) -> None:
        held.set()
        await go_on.wait()
        await real(store, *given)

    last = await add(library, b"same")
    monkeypatch.setattr(BlobStore, name, slowly)
    works = [add(library, b"same"), library.delete("default", last)]
    first = asyncio.create_task(works.pop(turn == "delete"))
    await held.wait()
    second = asyncio.create_task(works.pop())
    monkeypatch.setattr(BlobStore, name, real)
    await asyncio.wait({second}, timeout=0.05)
    go_on.set()
    await asyncio.gather(first, second)
    assert len(await settled()) == 1


async def test_a_row_that_cannot_be_written_leaves_no_blob(
    server: LiveServer, settled: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that somebody else has: that stays."""
    library = server.services.files
    await add(library, b"kept")
    with monkeypatch.context() as patched:
        patched.setattr("server.files.library.insert_file", full)
        for content in (b"new", b"kept"):
            with pytest.raises(DatabaseFull):
                await add(library, content)
    assert len(await settled()) == 1


def full(*_: Any) -> None:
    """A unit that finds no room."""
    raise DatabaseFull("no")


@pytest.mark.parametrize("point", ["blob.write", "blob.rename.before", "blob.rename.after"])
async def test_a_full_disk_is_told_as_such(
    server: LiveServer, http: httpx.AsyncClient, settled: Settled, point: str
) -> None:
    """503, which the SDKs do not repeat; then there is room again."""

    def no_space() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sent = form(PURPOSE, file(b"x" * 2**21))
    failpoints.arm(point, no_space)
    try:
        answer = await http.post("/v1/files", content=sent, headers=FORM)
    finally:
        failpoints.disarm(point)
    error = answer_of(answer, 503)["error"]
    assert error["message"] == "The server's disk is full; nothing was written."
    assert error["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "false"
    assert await settled() == set()
    answer_of(await http.post("/v1/files", content=sent, headers=FORM))
    assert len(await settled()) == 1


async def test_a_blob_that_cannot_be_removed_goes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is deleted all the same."""

    async def refuse(*_: Any) -> None:
        raise PermissionError("no")

    async with live_server(tmp_path) as server:
        library = server.services.files
        made = await add(library, b"stubborn")
        kept = await add(library, b"kept")
        with monkeypatch.context() as patched:
            patched.setattr(BlobStore, "remove", refuse)
            await library.delete("default", made)
        assert len(digests_on_disk(tmp_path)) == 2
    async with live_server(tmp_path) as server:
        rows = await server.services.db.read(digests_in_rows)
        assert digests_on_disk(tmp_path) == rows
        assert len(rows) == 1
        await server.services.files.delete("default", kept)
    assert digests_on_disk(tmp_path) == set()


async def test_the_sweep_goes_on_after_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails does not end it."""
    swept, fail = asyncio.Event(), [RuntimeError("a fault"), DatabaseFull("no")]

    async def sweep(_: Library) -> None:
        if fail:
            raise fail.pop()
        swept.set()

    monkeypatch.setattr(Library, "sweep", sweep)
    async with live_server(tmp_path, files__sweep_interval=0.001):
        async with asyncio.timeout(10):
            await swept.wait()


async def test_the_sweep_ends_many_at_a_time(server: LiveServer, settled: Settled) -> None:
    """More than one unit of work takes."""
    library = server.services.files
    for number in range(60):
        async with library.receive() as sent:
            await sent.write(b"%d" % (number % 7))
            await library.add("default", sent, "a.txt", "vision", 0)
    assert len(await settled()) == 7
    await library.sweep()
    assert await settled() == set()


CONTENTS = (b"a", b"b", b"ab")
ACTIONS = st.sampled_from(("add", "delete", "upload", "part", "complete", "cancel"))
STEPS = st.lists(st.lists(st.tuples(ACTIONS, st.integers(0, 5)), max_size=6), max_size=6)


class Story:
    """Files and uploads that come and go. What an action needs may be gone already."""

    def __init__(self, server: LiveServer) -> None:
        self.library, self.uploads = server.services.files, server.services.uploads
        self.files: list[str] = []
        self.parts: dict[str, list[str]] = {}

    async def act(self, action: str, number: int) -> None:
        """One thing that a client can do."""
        with contextlib.suppress(WireError):  # somebody else was first
            await getattr(self, f"_{action}")(number)

    async def _add(self, number: int) -> None:
        self.files.append(await add(self.library, CONTENTS[number % len(CONTENTS)]))

    async def _delete(self, number: int) -> None:
        if self.files:
            await self.library.delete("default", self.files[number % len(self.files)])

    async def _upload(self, _: int) -> None:
        body = CreateUpload(bytes=2, filename="b", mime_type="text/plain", purpose="vision")
        self.parts[(await self.uploads.create("default", body)).id] = []

    def _some_upload(self, number: int) -> str:
        return list(self.parts)[number % len(self.parts)] if self.parts else "upload_none"

    async def _part(self, number: int) -> None:
        upload = self._some_upload(number)
        async with self.library.receive() as sent:
            await sent.write(CONTENTS[number % 2])
            part = await self.uploads.add_part("default", upload, sent)
        self.parts[upload].append(part.id)

    async def _complete(self, number: int) -> None:
        upload = self._some_upload(number)
        body = CompleteUpload(part_ids=self.parts.get(upload, [])[:2])
        self.files.append((await self.uploads.complete("default", upload, body)).file.id)

    async def _cancel(self, number: int) -> None:
        await self.uploads.cancel("default", self._some_upload(number))


@given(steps=STEPS)
@bounded(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_rows_and_blobs_agree_after_any_story(
    server: LiveServer, settled: Settled, steps: list[list[tuple[str, int]]]
) -> None:
    """What is in one list happens at once, on few different contents."""
    story = Story(server)
    for step in steps:
        await asyncio.gather(*(story.act(*action) for action in step))
        await settled()


async def test_what_nobody_can_tell_is_kept(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not answer does not cost a blob, nor its own error."""
    library, data = server.services.files, server.settings.server.data_dir
    await add(library, b"x")

    async def busy(*_: Any) -> None:
        raise DatabaseBusy("no")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", busy)
        await library.release(digests_on_disk(data))
    assert len(digests_on_disk(data)) == 1
