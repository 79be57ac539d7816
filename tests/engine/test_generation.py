"""A generation as its caller reads it."""

from __future__ import annotations

from server.engine.generation import WorkerGeneration
from server.engine.protocol import Finished, Request, Sampling, Tokens


class SilentFeed:
    """An engine that is asked for nothing more."""

    def join(self, generation: WorkerGeneration) -> None:
        generation.mark_sent()

    def leave(self, generation: WorkerGeneration) -> None: ...

    def cancel(self, generation: WorkerGeneration) -> None: ...


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
