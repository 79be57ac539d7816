"""Where the tokens of a long text end: as a model's vocabulary has it, or by estimate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from server.engine.pool import ModelPool
from server.engine.protocol import Engine, EngineError
from server.engine.vocabulary import utf8_offsets

log = logging.getLogger(__name__)

TokenEnds = npt.NDArray[np.int64]  # an offset in characters for each token, in their order

# As much as is asked of a model at once: what others ask of it waits as long as this takes.
SLICE: Final = 2**16  # characters

PATIENCE: Final = 600.0  # seconds to wait for a model that has to be loaded

# As runs assume of models behind an endpoint before they know better: most tokens are longer.
BYTES_A_TOKEN: Final = 3


class TokenCounter(Protocol):
    """Somebody's tokens."""

    async def token_ends(self, text: str) -> TokenEnds:
        """For each token of the text, the offset in characters at which it ends.

        One that ends inside a character ends where the character does.
        """
        ...


class ModelTokens:
    """Those of a loaded model. A long text is cut at line ends, which seldom costs a token."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def token_ends(self, text: str) -> TokenEnds:
        """Raises EngineError."""
        found = [np.empty(0, np.int64)]
        for start, end in slices(text):
            ends = await self._engine.token_ends(text[start:end])
            found.append(np.array(ends, np.int64) + start)
        return np.concatenate(found)


class PooledTokens:
    """Those of a model that is loaded for it; estimated ones where it cannot be."""

    def __init__(self, pool: ModelPool, model_id: str, engine: Engine) -> None:
        self._pool = pool
        self._model_id = model_id
        self._tokens = ModelTokens(engine)

    async def token_ends(self, text: str) -> TokenEnds:
        try:
            async with self._pool.using(self._model_id, PATIENCE):
                return await self._tokens.token_ends(text)
        except EngineError as error:
            log.warning("tokens_estimated", extra={"model": self._model_id, "reason": str(error)})
            return await EstimatedTokens().token_ends(text)


class EstimatedTokens:
    """Those of a vocabulary that cannot be asked: of three bytes each, which is rather short."""

    async def token_ends(self, text: str) -> TokenEnds:
        return await asyncio.to_thread(estimated_ends, text)


def estimated_ends(text: str) -> TokenEnds:
    offsets = utf8_offsets(text)
    size = int(offsets[-1])
    ends = np.arange(BYTES_A_TOKEN, size + BYTES_A_TOKEN, BYTES_A_TOKEN)
    return np.searchsorted(offsets, np.minimum(ends, size)).astype(np.int64)


def slices(text: str) -> Iterator[tuple[int, int]]:
    """The borders of pieces that a model can be asked of one by one."""
    start = 0
    while len(text) - start > SLICE:
        end = _cut(text, start, start + SLICE)
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


def _cut(text: str, start: int, most: int) -> int:
    """Behind a line's end; else before a space, since tokens begin with one; else anywhere."""
    line = text.rfind("\n", start, most) + 1
    space = text.rfind(" ", start + 1, most)
    return line if line > start else space if space > start else most
