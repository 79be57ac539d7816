"""A vocabulary that reads grammars, without a worker: what a text is under one, and what it may be.

One for each file, for the whole session: llguidance takes its time to learn a vocabulary.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np

from server.engine.constraint import Constraint, Mask
from server.engine.grammars import Grammars
from server.engine.llama import ErrorLog, Model
from server.engine.settings import EngineSettings


class GrammarVocabulary:
    def __init__(self, path: Path) -> None:
        self._model = Model(str(path), EngineSettings(), ErrorLog())
        self._vocabulary = self._model.vocabulary
        self._grammars = Grammars(self._vocabulary.for_grammars)
        self.tags = self._vocabulary.tags

    def begin(self, grammar: str) -> Constraint:
        return self._grammars.compile(grammar)

    def accepts(self, grammar: str, text: str, *, spelled: bool = False) -> bool:
        """Whether the whole text may be written, and the turn end there.

        A text that is spelled has no other tokens than those of plain text.
        """
        rules = self.begin(grammar)
        tokens = self._vocabulary.tokenize(text, special=not spelled)
        return _follows(rules, tokens) and self._may_end(rules.mask())

    def letter(self, letter: str) -> int:
        (token,) = self._vocabulary.tokenize(letter)
        return token

    def allows(self, rules: Constraint, token: int) -> bool:
        return _allows(rules.mask(), token)

    def begins(self, grammar: str, text: str) -> bool:
        """Whether this may be the beginning of what is written."""
        return _follows(self.begin(grammar), self._vocabulary.tokenize(text, special=True))

    def written(self, grammar: str, seed: int, most: int = 2000) -> str | None:
        """What somebody writes who takes any token that is allowed; None if it has no end."""
        rules, dice = self.begin(grammar), random.Random(seed)
        text = b""
        for _ in range(most):
            mask = rules.mask()
            if self._may_end(mask) and dice.random() < 0.5:
                return text.decode()
            token = dice.choice(_allowed(mask))
            if self._vocabulary.ends_turn(token):
                return text.decode()
            rules.accept(token)
            text += self._vocabulary.text(token)
        return None

    def _may_end(self, mask: Mask) -> bool:
        return any(self._vocabulary.ends_turn(token) for token in _allowed(mask))


@cache
def grammar_vocabulary(path: Path) -> GrammarVocabulary:
    """That of this file."""
    return GrammarVocabulary(path)


def _follows(rules: Constraint, tokens: list[int]) -> bool:
    for token in tokens:
        if not _allows(rules.mask(), token):
            return False
        rules.accept(token)
    return True


def _allows(mask: Mask, token: int) -> bool:
    return bool(mask[token // 32] >> (token % 32) & 1)


def _allowed(mask: Mask) -> list[int]:
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    return [int(token) for token in bits.nonzero()[0]]
