"""Prompts of a known number of tokens, no two of which begin alike.

Made of words that are one token each, drawn at random: no server can reuse what it read before.
"""

from __future__ import annotations

import random
from collections.abc import Sequence


class Prompts:
    """Writes prompts out of a vocabulary's words."""

    def __init__(self, words: Sequence[str], seed: int) -> None:
        self._words = words
        self._draw = random.Random(seed)
        self.frame = 0  # tokens that the model's template puts around a first message

    def first(self, tokens: int) -> str:
        """A first message that makes a prompt of `tokens` tokens, template and all."""
        return self.of(tokens - self.frame)

    def of(self, tokens: int) -> str:
        """A text of `tokens` tokens."""
        return " ".join(self._draw.choices(self._words, k=max(0, tokens)))
