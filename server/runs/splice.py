"""A model's own words given back to it as the tokens it wrote.

Tokenized again, an answer's text seldom gives the ids that the model chose, and from the first
other id on nothing that was kept of the thread can be used. So where a prompt holds an earlier turn
just behind the very prompt that it once followed, its own ids stand for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from server.chat.conversation import json_object
from server.chat.dialects import Dialect
from server.chat.turn import TurnParser
from server.chat.values import Piece, ToolSpec
from server.engine.protocol import Span
from server.runs.turns import WrittenTurn


def digest_of(prompt: str) -> str:
    """What tells one rendered prompt from another."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def splice(
    pieces: Sequence[Piece],
    turns: Sequence[WrittenTurn],
    *,
    turn_ends: Collection[str],
    dialect: Dialect,
    tools: Sequence[ToolSpec] = (),
    markers: Mapping[str, int] | None = None,
) -> list[Span]:
    """The spans of a prompt, with the ids of those turns that stand in it as they were written.

    `markers` are the tokens that no text may turn into. A model that nothing holds back may write
    them; then they are in its message as they are spelled, and do not come back as what they were.
    """
    prompt = _Prompt(pieces, turn_ends, dialect, tools, markers or {})
    spans: list[Span] = []
    done = 0
    for turn in _in_place(prompt.text, turns):
        end = prompt.end_of(turn)
        if turn.prompt_length >= done and end is not None:
            spans += prompt.spans(done, turn.prompt_length)
            spans.append(Span(prompt.text[turn.prompt_length : end], False, turn.token_ids))
            done = end
    return spans + prompt.spans(done, len(prompt.text))


def _in_place(text: str, turns: Sequence[WrittenTurn]) -> Iterator[WrittenTurn]:
    """The turns whose prompts this text begins with, the shortest first."""
    digest = hashlib.sha256()
    done = 0
    for turn in sorted(turns, key=lambda turn: turn.prompt_length):
        if turn.prompt_length > len(text) or not turn.token_ids:
            continue
        digest.update(text[done : turn.prompt_length].encode("utf-8", "surrogatepass"))
        done = turn.prompt_length
        if digest.hexdigest() == turn.prompt_digest:
            yield turn


class _Meaning(NamedTuple):
    """What a turn says and calls, however it is spelled."""

    text: str
    reasoning: str
    is_cut_off: bool
    calls: Sequence[tuple[str, object]]


class _Prompt:
    """A rendered prompt: its text, and where in it the template's own pieces are."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        turn_ends: Collection[str],
        dialect: Dialect,
        tools: Sequence[ToolSpec],
        markers: Mapping[str, int],
    ) -> None:
        self.text = "".join(piece.text for piece in pieces)
        self._turn_ends = turn_ends
        self._dialect = dialect
        self._tools = tools
        self._markers = {token: marker for marker, token in markers.items()}
        self._pieces: list[tuple[int, Piece]] = []
        start = 0
        for piece in pieces:
            self._pieces.append((start, piece))
            start += len(piece.text)

    def spans(self, start: int, end: int) -> list[Span]:
        """What lies between two places."""
        cut = [
            (piece.text[max(0, start - at) : max(0, end - at)], piece.is_template)
            for at, piece in self._pieces
        ]
        return [Span(text, is_template) for text, is_template in cut if text]

    def end_of(self, turn: WrittenTurn) -> int | None:
        """Where the turn ends as the template tells it; None if it does not tell what was written.

        White space at the ends is the template's affair, and so is how calls are spelled: the same
        words and the same calls are the same turn. But what somebody spells in a message is words.
        """
        start = turn.prompt_length
        end = self._next_turn_end(start)
        if end is None:
            return None
        told = self.text[start:end]
        by_template = "".join(span.text for span in self.spans(start, end) if span.is_template)
        if self._spells_markers(told, by_template) or self._has_markers(turn, by_template):
            return None
        if self._dialect.call_open not in turn.text and told.strip() == turn.text.strip():
            return end
        alike = turn.complete and self._meaning(told) == self._meaning(turn.text)
        return end if alike else None

    def _spells_markers(self, told: str, by_template: str) -> bool:
        """Whether somebody's words look like markers, for which a model's tokens must not stand."""
        return any(by_template.count(m) != told.count(m) for m in self._dialect.markers)

    def _has_markers(self, turn: WrittenTurn, by_template: str) -> bool:
        """Whether it has more tokens of markers than the template writes in its place.

        A turn of calls may have more of its dialect's: that is a matter of spelling.
        """
        tokens = (token for token in turn.token_ids if token in self._markers)
        written = Counter(self._markers[token] for token in tokens)
        more = {marker for marker, count in written.items() if by_template.count(marker) < count}
        if not more:
            return False
        return not (more.issubset(self._dialect.markers) and self._meaning(turn.text).calls)

    def _meaning(self, text: str) -> _Meaning:
        parser = TurnParser(self._dialect, self._tools)
        parser.feed(text)
        parser.finish()
        calls = [(name, json_object(arguments) or arguments) for _, name, arguments in parser.calls]
        return _Meaning(parser.text.strip(), parser.reasoning, parser.unfinished_call, calls)

    def _next_turn_end(self, start: int) -> int | None:
        """Where, from a place on, the template next says that a turn is over."""
        found = (
            at + place
            for at, piece in self._pieces
            if piece.is_template
            for end in self._turn_ends
            if (place := piece.text.find(end, max(0, start - at))) >= 0
        )
        return min(found, default=None)
