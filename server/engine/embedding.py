"""Texts to vectors, or pairs to scores: packs what requests wait for into batches, one by one.

Works on token ids. Knows nothing of HTTP, nor of processes and sockets.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from server.engine.messages import Embedded, Unread
from server.engine.vectors import Vector, normalised, packed

WARM_UP: Final = 32  # tokens; fewer say nothing of how fast the machine reads


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
        """Tokens of all texts in one batch; a longer text is one of its own."""
        ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def ranks(self) -> bool:
        """Whether it makes scores, which are to stay as they are."""
        ...

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]: ...


@dataclass(frozen=True, slots=True)
class Texts:
    """What an Embed or a Rank asks for, as ids."""

    number: int
    texts: list[list[int]]
    project: str = ""


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
    """Owned by one thread. Projects take turns text by text, and so do the requests of each.

    So a small request is soon done, whatever else its project or others have asked for.
    """

    def __init__(
        self, backend: EmbeddingBackend, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._waiting: dict[str, deque[_Request]] = {}  # by project, the next one first
        self.pace = 0.0  # seconds a token, in the last batch that was large enough to tell

    @property
    def idle(self) -> bool:
        return not self._waiting

    def submit(self, request: Texts) -> Unread | None:
        """Queue a request, or say why it cannot be served."""
        for index, text in enumerate(request.texts):
            if problem := self._problem(text):
                return Unread(request.number, f"Text {index} {problem}")
        requests = self._waiting.setdefault(request.project, deque())
        requests.append(_Request(request.number, request.texts))
        return None

    def cancel(self, number: int) -> None:
        """Read no more of a request's texts, if any are left."""
        self._waiting = {
            project: left
            for project, requests in self._waiting.items()
            if (left := deque(request for request in requests if request.number != number))
        }

    def warm_up(self) -> None:
        """Read something that nobody wants, to see how fast this machine is."""
        for _ in range(2):  # the first time, weights come from the disk
            self._compute([[0] * min(WARM_UP, self._backend.context)])

    def step(self) -> list[Embedded]:
        """Compute one batch; what it gave to each request."""
        places, texts = self._pack()
        computed = self._compute(texts)
        return [
            Embedded(
                number=place.number,
                index=place.text,
                vector=packed(vector if self._backend.ranks else normalised(vector)),
                tokens=len(text),
                last=place.last,
                pace=self.pace,
            )
            for place, text, vector in zip(places, texts, computed, strict=True)
        ]

    def _compute(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        started = self._clock()
        vectors = self._backend.embed(texts)
        size = sum(map(len, texts))
        if size >= min(WARM_UP, self._backend.context):
            self.pace = (self._clock() - started) / size
        return vectors

    def _pack(self) -> tuple[list[_Place], list[list[int]]]:
        """The next texts that fit one batch, and where each is from."""
        places: list[_Place] = []
        texts: list[list[int]] = []
        room = self._backend.batch
        while self._waiting and len(texts) < self._backend.slots:
            project, requests = next(iter(self._waiting.items()))
            request = requests[0]
            if texts and len(request.texts[request.done]) > room:
                break
            place, text = request.take()
            places.append(place)
            texts.append(text)
            room -= len(text)
            requests.popleft()
            if not place.last:
                requests.append(request)
            del self._waiting[project]
            if requests:
                self._waiting[project] = requests
        return places, texts

    def _problem(self, text: list[int]) -> str | None:
        if not text:
            return "is empty."
        if len(text) > self._backend.context:
            return f"has {len(text)} tokens; the model reads {self._backend.context} at most."
        if min(text) < 0 or max(text) >= self._backend.vocabulary:
            return "has a token that the model does not know."
        return None
