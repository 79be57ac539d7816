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
        self._news: asyncio.Future[None] | None = None  # while the caller waits for some

    def cancel(self) -> None:
        if not self.sent:
            self.end(Finished("cancelled", len(self.request.prompt), 0, 0))
        elif self._end is None:
            self._feed.cancel(self)

    def mark_sent(self) -> None:
        self.sent = True
        self._tell()

    def add(self, token: int, data: bytes) -> None:
        self._ids.append(token)
        self._data += data
        self._tell()

    def end(self, end: Finished | EngineError) -> None:
        """Whatever comes first stands."""
        self._end = self._end or end
        self._tell()

    async def __aiter__(self) -> AsyncIterator[Tokens | Finished]:
        if self._end is None:
            self._feed.join(self)
        try:
            while True:
                # More may come, and the end, while the caller is busy with these.
                while self._data or self._ids:
                    yield self._take()
                if isinstance(self._end, EngineError):
                    raise self._end
                if self._end is not None:
                    yield self._end
                    return
                await (self._hear() if self.sent else self._hear_of_a_worker())
        finally:
            self._feed.leave(self)

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _hear(self) -> asyncio.Future[None]:
        self._news = asyncio.get_running_loop().create_future()
        return self._news

    async def _hear_of_a_worker(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._hear()
        except TimeoutError:
            self.end(EngineUnavailable("The model's worker died and has not come back yet."))

    def _take(self) -> Tokens:
        taken = Tokens(tuple(self._ids), bytes(self._data))
        self._ids.clear()
        self._data.clear()
        return taken
