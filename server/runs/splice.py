"""A model's own words given back to it as the tokens it wrote.

Tokenized again, an answer's text seldom gives the ids that the model chose, and from the first
other id on nothing that was kept of the thread can be used. So where a prompt holds an earlier turn
just behind the very prompt that it once followed, its own ids stand for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence

from server.chat.conversation import json_object
from server.chat.dialects import Dialect
from server.chat.turn import TurnParser
from server.chat.values import Piece
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
    tools: Collection[str] = (),
) -> list[Span]:
    """The spans of a prompt, with the ids of those turns that stand in it as they were written."""
    prompt = _Prompt(pieces, turn_ends, dialect, tools)
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


class _Prompt:
    """A rendered prompt: its text, and where in it the template's own pieces are."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        turn_ends: Collection[str],
        dialect: Dialect,
        tools: Collection[str],
    ) -> None:
        self.text = "".join(piece.text for piece in pieces)
        self._turn_ends = turn_ends
        self._dialect = dialect
        self._tools = tools
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
        if not self._has_calls(turn.text):
            return end if told.strip() == turn.text.strip() else None
        by_template = "".join(span.text for span in self.spans(start, end) if span.is_template)
        marker = self._dialect.call_open
        if not turn.complete or by_template.count(marker) != told.count(marker):
            return None
        return end if self._meaning(told) == self._meaning(turn.text) else None

    def _has_calls(self, text: str) -> bool:
        return self._dialect.has_calls and self._dialect.call_open in text

    def _meaning(self, text: str) -> tuple[object, ...]:
        """What a turn says and calls, however it is spelled."""
        parser = TurnParser(self._dialect, self._tools)
        parser.feed(text)
        parser.finish()
        calls = [(name, json_object(arguments) or arguments) for _, name, arguments in parser.calls]
        return parser.text.strip(), parser.reasoning, parser.unfinished_call, calls

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
