"""A file as an answer, to clients that read it, and that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Send

from server.api.download import PIECE, Download
from server.files.blobs import BlobStore, Reader

SIZE = 3 * PIECE


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Reader]:
    """An open blob of three pieces."""
    store = BlobStore(tmp_path)
    async with store.receive() as sent:
        await sent.write(b"x" * SIZE)
        blob = await sent.seal()
        await store.place(sent, blob)
    yield await store.open(blob.digest)
    store.close()


async def ends(source: Reader, receive: Receive, send: Send) -> None:
    """The answer is over, and the blob closed."""
    async with asyncio.timeout(10):
        await Download(source, SIZE, "a.txt")({"type": "http"}, receive, send)
    with pytest.raises(ValueError, match="closed"):
        await source.read(1)


async def never(*_: object) -> Message:
    """The client says nothing, or takes nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_client_that_leaves_is_not_read_for(source: Reader) -> None:
    """However long its connection would have taken the rest."""
    sending = asyncio.Event()

    async def leave() -> Message:
        await sending.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sending.set()
            await never()

    await ends(source, leave, send)


async def test_the_whole_is_sent_piece_by_piece(source: Reader) -> None:
    """And then its end."""
    pieces: list[Message] = []

    async def send(message: Message) -> None:
        pieces.append(message)

    await ends(source, never, send)
    assert [len(each["body"]) for each in pieces[1:]] == [PIECE, PIECE, PIECE, 0]
    assert [each.get("more_body", False) for each in pieces[1:]] == [True, True, True, False]
