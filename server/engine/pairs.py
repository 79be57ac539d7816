"""A query and a text, as a model that ranks wants them told together.

Works on a vocabulary. What stands in a query or a text never becomes a control token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from server.engine.protocol import Span
from server.engine.vocabulary import Vocabulary

SPARE: Final = 2  # tokens that two pieces may have more together than apart
LONGEST_TOKEN: Final = 32  # characters; hardly any token has so many
_PLACES = re.compile(r"(\{query\}|\{document\})")


@dataclass(frozen=True, slots=True)
class PairForm:
    """A template with places for `{query}` and `{document}`, or tokens between both and at the end.

    A start token comes first if the vocabulary wants one.
    """

    template: str | None
    between: Sequence[int] = ()
    end: Sequence[int] = ()

    def spans(self, query: str, text: str) -> list[Span]:
        if self.template is None:
            between = Span("", is_template=True, ids=self.between)
            end = Span("", is_template=True, ids=self.end)
            return [Span(query, is_template=False), between, Span(text, is_template=False), end]
        told = {"{query}": query, "{document}": text}
        parts = _PLACES.split(self.template)
        return [Span(told.get(part, part), is_template=part not in told) for part in parts]


class Pairs:
    """Pairs to ids, `context` at most: of a longer query or text the beginning. Immutable."""

    def __init__(self, vocabulary: Vocabulary, form: PairForm, context: int) -> None:
        self._vocabulary = vocabulary
        self._form = form
        self._context = context

    def tokenize(self, query: str, text: str) -> list[int]:
        query = self._beginning(query, self._context // 2)
        room = self._context - len(self._ids(query, "")) - SPARE
        return self._ids(query, self._beginning(text, room))[: self._context]

    def _ids(self, query: str, text: str) -> list[int]:
        return self._vocabulary.tokenize(self._form.spans(query, text))

    def _beginning(self, text: str, most: int) -> str:
        """So many tokens of it."""
        if most <= 0:
            return ""
        text = text[: most * LONGEST_TOKEN]
        ends = self._vocabulary.token_ends(text)
        return text if len(ends) <= most else text[: ends[most - 1]]
