"""What is asked of a worker and answered once: a new worker can be asked again if the first dies.

Owned by the engine's event loop.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from server.engine.messages import (
    Cancel,
    Embed,
    Embedded,
    Locate,
    Located,
    Rank,
    Tokenize,
    Tokenized,
    Unread,
    Unsendable,
    well_formed,
)
from server.engine.process import WorkerProcess
from server.engine.protocol import Embeddings, EngineError, Span, Unreadable
from server.engine.vectors import Vector, unpacked

T = TypeVar("T")
Answer = Tokenized | Located | Embedded | Unread


class Question(ABC, Generic[T]):
    """A message to the worker, and what comes of it."""

    def __init__(self, message: Tokenize | Locate | Embed | Rank) -> None:
        self.message = message
        self.answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.times_asked = 0

    def ask(self, worker: WorkerProcess) -> None:
        self.times_asked += 1
        try:
            worker.send(self.message)
        except Unsendable as error:
            self.fail(error)

    def hear(self, message: Answer) -> None:
        """Take a part of the answer, or all of it."""
        if isinstance(message, Unread):
            self.fail(Unreadable(message.reason))
        elif not self.answer.done():
            self._take(message)

    def fail(self, error: EngineError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def leave(self, worker: WorkerProcess) -> None:
        """Nobody waits for it any more. Most answers are made sooner than that is heard."""

    @abstractmethod
    def _take(self, message: Answer) -> None: ...


class Tokenizing(Question[list[int]]):
    """Text to ids."""

    def __init__(self, number: int, spans: Sequence[Span]) -> None:
        sent = (replace(span, text=well_formed(span.text)) for span in spans)
        super().__init__(Tokenize(number, tuple(sent)))

    def _take(self, message: Answer) -> None:
        if isinstance(message, Tokenized):
            self.answer.set_result(message.ids)


class Locating(Question[list[int]]):
    """Text to where its tokens end."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(Locate(number, well_formed(text)))

    def _take(self, message: Answer) -> None:
        if isinstance(message, Located):
            self.answer.set_result(message.ends)


class Embedding(Question[Embeddings]):
    """Texts to vectors, or to scores, which come one by one."""

    def __init__(self, message: Embed | Rank, charge: Callable[[int], None] | None = None) -> None:
        super().__init__(message)
        self._charge = charge
        self._count = len(message.texts)
        self._found: dict[int, tuple[Vector, int]] = {}

    @classmethod
    def of(
        cls,
        number: int,
        texts: Sequence[str | list[int]],
        project: str,
        *,
        cut: bool,
        most: int | None,
        charge: Callable[[int], None] | None,
    ) -> Embedding:
        sent = (well_formed(text) if isinstance(text, str) else text for text in texts)
        return cls(Embed(number, tuple(sent), cut, most, project), charge)

    @classmethod
    def ranking(cls, number: int, query: str, texts: Sequence[str], project: str) -> Embedding:
        return cls(Rank(number, well_formed(query), tuple(map(well_formed, texts)), project))

    def leave(self, worker: WorkerProcess) -> None:
        """There may be minutes of texts to read."""
        if not self.answer.done():
            worker.send(Cancel(self.message.number))

    def _take(self, message: Answer) -> None:
        if isinstance(message, Embedded):
            if self._charge is not None and message.index not in self._found:
                self._charge(message.tokens)
            self._found[message.index] = (unpacked(message.vector), message.tokens)
            if len(self._found) == self._count:
                self.answer.set_result(self._embeddings())

    def _embeddings(self) -> Embeddings:
        found = [self._found[index] for index in range(self._count)]
        return Embeddings([vector for vector, _ in found], sum(tokens for _, tokens in found))
