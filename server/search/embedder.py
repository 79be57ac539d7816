"""What makes vectors of texts, as the index sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.engine.vectors import Vector


class Embedder(Protocol):
    """Texts to vectors, which are near each other where the texts are alike."""

    @property
    def fingerprint(self) -> str:
        """Another one wherever the same text may have another vector."""
        ...

    @property
    def dimensions(self) -> int: ...

    @property
    def window(self) -> int:
        """Tokens of a text that are read, from its beginning; 0: all of them."""
        ...

    async def embed(self, texts: Sequence[str], *, query: bool) -> list[Vector]:
        """A vector of length 1 for each text: of a question, or of a passage.

        Raises EngineError.
        """
        ...
