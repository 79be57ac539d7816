"""One model call as its caller sees it: what the worker reports of it, as an async iteration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from server.engine.protocol import EngineError, EngineUnavailable, Finished, Request, Tokens


class Feed(Protocol):
    """The engine, as far as a generation needs it."""

    def join(self, generation: WorkerGeneration) -> None:
        """Send it to the worker, now or when there is one again."""
        ...

    def leave(self, generation: WorkerGeneration) -> None:
        """Its caller is done with it, read to the end or not."""
        ...

    def cancel(self, generation: WorkerGeneration) -> None: ...


class WorkerGeneration:
    """Starts when it is iterated; what several steps wrote meanwhile comes as one.

    Owned by the engine's loop. The engine feeds it, one caller iterates it; what is not read is
    bounded by `max_tokens`.
    """

    def __init__(self, feed: Feed, number: int, request: Request, patience: float) -> None:
        self.number = number
        self.request = request
        self.sent = False
        self._feed = feed
        self._patience = patience  # how long to wait for a worker that is not there
        self._ids: list[int] = []
        self._data = bytearray()
        self._end: Finished | EngineError | None = None
        self._news = asyncio.Event()

    def cancel(self) -> None:
        if self.sent:
            self._feed.cancel(self)
        else:
            self.end(Finished("cancelled", len(self.request.prompt), 0, 0))

    def mark_sent(self) -> None:
        self.sent = True
        self._news.set()

    def add(self, token: int, data: bytes) -> None:
        self._ids.append(token)
        self._data += data
        self._news.set()

    def end(self, end: Finished | EngineError, rest: bytes = b"") -> None:
        """Whatever comes first stands. `rest` was held back until then."""
        self._data += rest if self._end is None else b""
        self._end = self._end or end
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Tokens | Finished]:
        if self._end is None:
            self._feed.join(self)
        try:
            while True:
                await self._hear()
                while (
                    self._data or self._ids
                ):  # more may come, and the end, while the caller is busy with these
                    yield self._take()
                if isinstance(self._end, EngineError):
                    raise self._end
                if self._end is not None:
                    yield self._end
                    return
        finally:
            self._feed.leave(self)

    async def _hear(self) -> None:
        try:
            async with asyncio.timeout(None if self.sent else self._patience):
                await self._news.wait()
        except TimeoutError:
            self.end(EngineUnavailable("The model's worker died and has not come back yet."))
        self._news.clear()

    def _take(self) -> Tokens:
        taken = Tokens(tuple(self._ids), bytes(self._data))
        self._ids.clear()
        self._data.clear()
        return taken
