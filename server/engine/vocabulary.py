"""A prompt's spans to token ids, so that what a user writes can never become a control token.

Markers are looked for in the template's own text only. What lies between two markers, template and
content together, goes to llama.cpp as one piece, since cutting it at the border would change the
ids of an honest conversation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from server.engine.protocol import Span

SpecialKind = Literal["control", "unknown", "user_defined"]

_SPACE = " \t\n\v\f\r"  # what C calls space

LONGEST_WORD: Final = 100_000  # letters, or spaces, that the worker's stack surely has room for
_WORD = re.compile(r"\S+")
_WORDS = re.compile(rf"\S{{1,{LONGEST_WORD}}}|\s{{1,{LONGEST_WORD}}}")


@dataclass(frozen=True, slots=True)
class Special:
    """A token that is matched by its spelling before anything else is tokenized."""

    id: int
    text: str
    kind: SpecialKind
    strips_left: bool = False
    strips_right: bool = False

    @property
    def is_marker(self) -> bool:
        """Whether it says something to the model that text must not say.

        Vocabularies also keep runs of spaces and escape pairs as user-defined tokens; those are
        ordinary text.
        """
        if self.kind != "user_defined":
            return True
        return self.is_tag or (len(self.text) > 2 and any(map(str.isalnum, self.text)))

    @property
    def is_tag(self) -> bool:
        """Whether it is never text, but a sign by its id: as llguidance tells them apart."""
        if self.kind == "user_defined":
            return self.text.startswith("<") and self.text.endswith(">")
        return self.kind == "control"


class RawTokenizer(Protocol):
    """What llama.cpp offers: it ignores control tokens in the text, but not user-defined ones."""

    @property
    def bos(self) -> int | None: ...

    @property
    def adds_bos(self) -> bool: ...

    def specials(self) -> list[Special]: ...

    def tokenize(self, text: str) -> list[int]: ...

    def text(self, token: int) -> bytes: ...


class Vocabulary:
    """Tokenizes prompts of one model. Immutable, so any thread may use it."""

    def __init__(self, raw: RawTokenizer) -> None:
        self._raw = raw
        markers = [special for special in raw.specials() if special.is_marker and special.text]
        # llama.cpp looks for the longest first, over the whole text, before it tries a shorter one.
        self._markers = sorted(markers, key=lambda marker: -len(marker.text.encode()))
        visible = [marker.text for marker in self._markers if marker.kind == "user_defined"]
        self._visible_starts = _starts_of(visible)
        self._all_starts = _starts_of([marker.text for marker in self._markers])
        self._forbidden = frozenset(m.id for m in self._markers if m.kind != "unknown")

    def tokenize(self, spans: Iterable[Span]) -> list[int]:
        """The ids of a prompt; a start token comes first if the model wants one."""
        spans = list(spans)
        ids: list[int] = []
        for has_ids, group in groupby(spans, key=lambda span: bool(span.ids)):
            if has_ids:
                ids += [token for span in group for token in span.ids]
            else:
                ids += self._tokenize(group)
        if self._raw.adds_bos and any(span.is_template for span in spans):
            bos = self._raw.bos
            return ids if bos is None or ids[:1] == [bos] else [bos, *ids]
        return ids

    def token_ends(self, text: str) -> list[int]:
        """For each token of what a user wrote, the offset in characters at which it ends.

        Where the tokens' own text is another one (small letters, no accents), that is known of the
        ends of words only, and guessed between them.
        """
        ends = _ends_within(text, self._pieces(text))
        if ends is not None:
            return ends
        words = _WORD.finditer(text)
        return [
            word.start() + end
            for word in words
            for end in _spread(self._pieces(word.group()), word.end() - word.start())
        ]

    def _pieces(self, text: str) -> list[bytes]:
        return list(map(self._raw.text, self._tokenize([Span(text, False)])))

    def _tokenize(self, spans: Iterable[Span]) -> list[int]:
        runs = _merge(spans)
        template = [run.text for run in runs if run.is_template]
        written = "\0".join(template)
        markers = [marker for marker in self._markers if marker.text in written]
        ids: list[int] = []
        for part in _strip(_join(_parts(runs, markers))):
            ids += [part.id] if isinstance(part, Special) else self._plain(part)
        return ids

    def _plain(self, text: str) -> list[int]:
        """Text without markers. One that is spelled in it is cut in two, so that it is not one."""
        ids = self._tokenize_pieces(_cut(text, self._visible_starts))
        if self._forbidden.isdisjoint(ids):
            return ids
        # Some vocabularies reach a control token by merging plain pieces of its spelling.
        ids = self._tokenize_pieces(_cut(text, self._all_starts))
        return [token for token in ids if token not in self._forbidden]

    def _tokenize_pieces(self, pieces: Iterable[str]) -> list[int]:
        return [token for piece in pieces for token in self._raw.tokenize(piece)]


def utf8_offsets(text: str) -> npt.NDArray[np.int64]:
    """The offset in bytes of each character, and of the end."""
    points = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    sizes = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))


def _ends_within(text: str, pieces: Sequence[bytes]) -> list[int] | None:
    """Where the pieces end that together are the text; None if they are not.

    SentencePiece puts a space before it.
    """
    data, joined = text.encode("utf-8", "replace"), b"".join(pieces)
    if joined not in {data, b" " + data}:
        return None
    added = len(joined) - len(data)
    ends = np.cumsum([0, *map(len, pieces)])[1:] - added
    found: list[int] = np.searchsorted(utf8_offsets(text), ends).tolist()
    return found


def _spread(pieces: Sequence[bytes], length: int) -> list[int]:
    """Their ends in so many characters, if these are as long as their shares of the bytes."""
    size = max(1, sum(map(len, pieces)))
    return [math.ceil(read * length / size) for read in accumulate(map(len, pieces))]


def divide_words(text: str) -> list[str]:
    """The text, cut where letters or spaces go on for longer than LONGEST_WORD."""
    if len(text) <= LONGEST_WORD:
        return [text]
    words = ((word.start(), word.end()) for word in _WORDS.finditer(text))
    cuts = [end for start, end in words if end - start == LONGEST_WORD and end < len(text)]
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Neighbours of one kind as one span: a marker may be written in two steps by a template."""
    present = (span for span in spans if span.text)
    return [
        Span("".join(span.text for span in group), is_template)
        for is_template, group in groupby(present, key=lambda span: span.is_template)
    ]


def _parts(runs: Iterable[Span], markers: Sequence[Special]) -> Iterator[Special | str]:
    """The runs in order, the template's ones cut at its markers."""
    for run in runs:
        parts: list[Special | str] = [run.text]
        for marker in markers if run.is_template else ():
            parts = [piece for part in parts for piece in _divide(part, marker)]
        yield from parts


def _divide(part: Special | str, marker: Special) -> Iterator[Special | str]:
    if isinstance(part, Special):
        yield part
        return
    for number, piece in enumerate(part.split(marker.text)):
        if number:
            yield marker
        if piece:
            yield piece


def _join(parts: Iterable[Special | str]) -> list[Special | str]:
    """All text between two markers as one piece."""
    joined: list[Special | str] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _strip(parts: Sequence[Special | str]) -> Iterator[Special | str]:
    """Some markers swallow the white space beside them."""
    before: Special | str = ""
    for part, after in zip(parts, [*parts, ""][1:], strict=True):
        if isinstance(part, str):
            part = part.lstrip(_SPACE) if _strips(before, right=True) else part
            part = part.rstrip(_SPACE) if _strips(after, right=False) else part
        before = part
        if part != "":
            yield part


def _strips(part: Special | str, *, right: bool) -> bool:
    if isinstance(part, str):
        return False
    return part.strips_right if right else part.strips_left


def _starts_of(texts: Sequence[str]) -> re.Pattern[str] | None:
    """Matches, without width, wherever one of the texts begins, also inside another."""
    if not texts:
        return None
    return re.compile("(?=" + "|".join(map(re.escape, texts)) + ")")


def _cut(text: str, starts: re.Pattern[str] | None) -> list[str]:
    """Cut behind the first character of every match: none is whole afterwards."""
    if starts is None:
        return [text]
    cuts = [match.start() + 1 for match in starts.finditer(text)]
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)]) if start < end]
