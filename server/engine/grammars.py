"""Grammars as constraints on a model's tokens, made by llguidance.

A grammar is text, in llguidance's variant of Lark. What it is for, and who wrote it, is not known
here; so it may not cost more than so much, neither when it is read nor at any token.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from server.engine.constraint import Compiled, Constraint, ConstraintBroken, Mask

LONGEST_GRAMMAR: Final = 4 << 20  # characters
REMEMBERED: Final = 32  # grammars: an assistant's is the same in each of its runs

# What reading a grammar, and then each token, may take: half a second, some tens of milliseconds,
# and for the states of its lexer some tens of megabytes. Symbols have numbers of 16 bits.
_LIMITS: Final = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    max_grammar_size=60_000,
    max_lexer_states=50_000,
    max_items_in_row=10_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    verbose_errors=False,
)


class GrammarConstraint:
    """A grammar, and how far a sequence has come in it. An end of turn is allowed at its end."""

    def __init__(self, matcher: LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._words = (vocabulary + 31) // 32

    def mask(self) -> Mask:
        mask = np.zeros(self._words, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error() or not mask.any():
            raise ConstraintBroken(_problem(self._matcher))
        return mask

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise ConstraintBroken(_problem(self._matcher))


class Grammars:
    """Reads the grammars of one model.

    Owned by a thread of its own: to have the whole vocabulary in llguidance's form takes a second.
    """

    def __init__(self, tokenizer: Callable[[], LLTokenizer]) -> None:
        self._make_tokenizer = tokenizer
        self._tokenizer: LLTokenizer | None = None
        self._read: OrderedDict[str, LLMatcher] = OrderedDict()

    def compile(self, grammar: str) -> Constraint:
        """A constraint at the grammar's beginning. Raises ConstraintBroken if it is refused."""
        if len(grammar) > LONGEST_GRAMMAR:
            raise ConstraintBroken(f"it is longer than {LONGEST_GRAMMAR} characters")
        tokenizer = self.prepare()
        return GrammarConstraint(
            self._matcher(grammar, tokenizer).deep_copy(), tokenizer.vocab_size
        )

    def prepare(self) -> LLTokenizer:
        """Do what takes so long, if it is not done. Raises ConstraintBroken."""
        if self._tokenizer is None:
            try:
                self._tokenizer = self._make_tokenizer()
            except ValueError as problem:
                raise ConstraintBroken(f"the vocabulary cannot be read: {problem}") from problem
        return self._tokenizer

    def _matcher(self, grammar: str, tokenizer: LLTokenizer) -> LLMatcher:
        if grammar not in self._read:
            matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
            if matcher.is_error():
                raise ConstraintBroken(_problem(matcher))
            self._read[grammar] = matcher
            if len(self._read) > REMEMBERED:
                self._read.popitem(last=False)
        self._read.move_to_end(grammar)
        return self._read[grammar]


def compile_all(
    grammars: Grammars, asked: SimpleQueue[tuple[int, str]], deliver: Callable[[Compiled], None]
) -> None:
    """The life of the thread that owns them.

    It begins with the vocabulary, as soon as there is a model: half of that holds up all threads,
    and nobody streams yet.
    """
    with contextlib.suppress(ConstraintBroken):  # whoever has a grammar is told
        grammars.prepare()
    while True:
        number, grammar = asked.get()
        try:
            compiled = Compiled(number, grammars.compile(grammar))
        except ConstraintBroken as problem:
            compiled = Compiled(number, None, str(problem))
        deliver(compiled)


def _problem(matcher: LLMatcher) -> str:
    """The first line of what llguidance says; the rest repeats the grammar."""
    return matcher.get_error().partition("\n")[0] or "no token can follow"
