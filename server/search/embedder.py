"""Texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy
from numpy.typing import NDArray

Vector = NDArray[numpy.float32]


class Embedder(Protocol):
    """Makes vectors of length 1; `window` is how many tokens it reads at once, 0 for any."""

    fingerprint: str
    dimensions: int
    window: int

    async def embed(self, texts: Sequence[str], *, query: bool) -> list[Vector]: ...
