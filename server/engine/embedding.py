"""Texts to vectors: packs what requests wait for into batches, which it computes one by one.

Works on token ids. Knows nothing of HTTP, nor of processes and sockets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from server.engine.messages import Embedded, Unembeddable
from server.engine.vectors import Vector, normalised, packed


class EmbeddingBackend(Protocol):
    """A model that reads texts. Belongs to the thread that computes."""

    @property
    def slots(self) -> int:
        """Texts in one batch."""
        ...

    @property
    def context(self) -> int:
        """Tokens of one text."""
        ...

    @property
    def batch(self) -> int:
        """Tokens in one batch; at least `context`."""
        ...

    @property
    def vocabulary(self) -> int: ...

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]: ...


@dataclass(frozen=True, slots=True)
class Texts:
    """What an Embed asks for, as ids."""

    number: int
    texts: list[list[int]]


class _Place(NamedTuple):
    """Which text of which request it is, and whether it is that one's last."""

    number: int
    text: int
    last: bool


@dataclass(slots=True)
class _Request:
    """One request's texts, of which the first `done` are on their way or done."""

    number: int
    texts: list[list[int]]
    done: int = 0

    def take(self) -> tuple[_Place, list[int]]:
        index, self.done = self.done, self.done + 1
        return _Place(self.number, index, self.done == len(self.texts)), self.texts[index]


class Embedder:
    """Owned by one thread. Requests take turns text by text, so that a small one is soon done."""

    def __init__(self, backend: EmbeddingBackend) -> None:
        self._backend = backend
        self._waiting: deque[_Request] = deque()

    @property
    def idle(self) -> bool:
        return not self._waiting

    def submit(self, request: Texts) -> Unembeddable | None:
        """Queue a request, or say why it cannot be served."""
        for index, text in enumerate(request.texts):
            if problem := self._problem(text):
                return Unembeddable(request.number, index, problem)
        self._waiting.append(_Request(request.number, request.texts))
        return None

    def step(self) -> list[Embedded]:
        """Compute one batch; what it gave to each request."""
        places, texts = self._pack()
        computed = self._backend.embed(texts)
        return [
            Embedded(place.number, place.text, packed(normalised(vector)), len(text), place.last)
            for place, text, vector in zip(places, texts, computed, strict=True)
        ]

    def _pack(self) -> tuple[list[_Place], list[list[int]]]:
        """The next texts that fit one batch, and where each is from."""
        places: list[_Place] = []
        texts: list[list[int]] = []
        room = self._backend.batch
        while self._waiting and len(texts) < self._backend.slots:
            request = self._waiting[0]
            if len(request.texts[request.done]) > room:
                break
            place, text = request.take()
            places.append(place)
            texts.append(text)
            room -= len(text)
            self._waiting.popleft()
            if not place.last:
                self._waiting.append(request)
        return places, texts

    def _problem(self, text: list[int]) -> str | None:
        if not text:
            return "is empty."
        if len(text) > self._backend.context:
            return f"has {len(text)} tokens; the model reads {self._backend.context} at most."
        if min(text) < 0 or max(text) >= self._backend.vocabulary:
            return "has a token that the model does not know."
        return None
