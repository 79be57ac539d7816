"""A vocabulary that reads grammars, without a worker: what a text is under one, and what it may be.

One for each file, for the whole session: llguidance takes its time to learn a vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from server.engine.constraint import Constraint, Mask
from server.engine.grammars import Grammars
from server.engine.llama import ErrorLog, Model, ModelVocabulary
from server.engine.settings import EngineSettings


class GrammarVocabulary:
    def __init__(self, vocabulary: ModelVocabulary, model: Model | None = None) -> None:
        self._vocabulary, self._model = vocabulary, model  # which is the vocabulary's owner
        self._grammars = Grammars(self._vocabulary.for_grammars)
        self.tags = vocabulary.tags
        self._ends = [t for t in range(vocabulary.size) if vocabulary.ends_turn(t)]

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

    def written(
        self, grammar: str, seed: object, scraps: Sequence[str] = (), most: int = 800
    ) -> str | None:
        """What somebody writes who takes any token that is allowed; None if it has no end.

        One who knows some scraps writes them as often, as far as they are allowed.
        """
        rules, dice = self.begin(grammar), random.Random(str(seed))
        text = b""
        for _ in range(most):
            mask = rules.mask()
            if self._may_end(mask) and dice.random() < 0.2:
                return text.decode()
            wanted = self._wanted(dice, scraps)
            for token in wanted if wanted and _allows(mask, wanted[0]) else [_any(dice, mask)]:
                if self._vocabulary.ends_turn(token):
                    return text.decode()
                if not self.allows(rules, token):
                    break
                rules.accept(token)
                text += self._vocabulary.text(token)
        return None

    def _wanted(self, dice: random.Random, scraps: Sequence[str]) -> list[int]:
        if not scraps or dice.random() < 0.3:
            return []
        return self._vocabulary.tokenize(dice.choice(scraps), special=dice.random() < 0.5)

    def _may_end(self, mask: Mask) -> bool:
        return any(_allows(mask, token) for token in self._ends)


@cache
def grammar_vocabulary(path: Path) -> GrammarVocabulary:
    """That of this file."""
    model = Model(str(path), EngineSettings(), ErrorLog())
    return GrammarVocabulary(model.vocabulary, model)


def _any(dice: random.Random, mask: Mask) -> int:
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    return int(dice.choice(bits.nonzero()[0]))


def _follows(rules: Constraint, tokens: list[int]) -> bool:
    for token in tokens:
        if not _allows(rules.mask(), token):
            return False
        rules.accept(token)
    return True


def _allows(mask: Mask, token: int) -> bool:
    return bool(mask[token // 32] >> (token % 32) & 1)
