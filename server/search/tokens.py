"""Where the tokens of a text end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol


class TokenCounter(Protocol):
    """Somebody's tokens."""

    async def token_ends(self, text: str) -> Sequence[int]:
        """For each token of the text, the offset in characters at which it ends."""
        ...


class EstimatedTokens:
    """Takes words for tokens."""

    async def token_ends(self, text: str) -> Sequence[int]:
        ends = [match.end() for match in re.finditer(r"\S+\s*|^\s+", text)]
        return ends or [len(text)]
