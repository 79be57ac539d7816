"""A generation as its caller reads it."""

from __future__ import annotations

from server.engine.generation import WorkerGeneration
from server.engine.protocol import Finished, Request, Sampling, Tokens


class SilentFeed:
    """An engine that says nothing; `cancelled` are the numbers that it was to end."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []

    def join(self, generation: WorkerGeneration) -> None:
        generation.mark_sent()

    def leave(self, generation: WorkerGeneration) -> None: ...

    def cancel(self, generation: WorkerGeneration) -> None:
        self.cancelled.append(generation.number)


async def test_end_comes_after_all_tokens() -> None:
    """Tokens that arrive together with the end, while the caller is busy, are not lost."""
    generation = WorkerGeneration(SilentFeed(), 1, Request([1], 9, Sampling()), patience=1.0)
    generation.add(1, b"a")
    heard: list[Tokens | Finished] = []
    async for item in generation:
        heard.append(item)
        if len(heard) == 1:
            generation.add(2, b"b")
            generation.add(3, b"c")
            generation.end(Finished("stop", 1, 4, 0))
    assert heard == [Tokens((1,), b"a"), Tokens((2, 3), b"bc"), Finished("stop", 1, 4, 0)]


async def test_only_what_goes_on_is_cancelled() -> None:
    """The worker hears of a cancel before the end, and not of one after it."""
    feed = SilentFeed()
    for number, finished in ((1, False), (2, True)):
        generation = WorkerGeneration(feed, number, Request([1], 9, Sampling()), patience=1.0)
        generation.mark_sent()
        if finished:
            generation.end(Finished("stop", 1, 1, 0))
        generation.cancel()
    assert feed.cancelled == [1]
