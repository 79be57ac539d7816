"""Finds what of a rendered prompt is content, so that content can never become a control token.

A template is rendered twice: with the texts themselves, and with a random word in place of each.
Where the second, its words replaced by the texts again (as they are, or escaped as JSON), gives
the first exactly, the words show where the content stands, and the prompt is exactly what a plain
rendering gives. A text that the template looks into or changes breaks this. It is then rendered
openly, and is harmless all the same: it holds none of the punctuation that control strings are
made of, or else they are broken up in it.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import product

from server.chat.errors import TemplateError, TemplateRefused, TemplateStopped
from server.chat.values import Piece

Draw = Callable[[Callable[[str], str]], str]  # renders the prompt, each content passed through
Link = tuple["Link | None", Piece]  # pieces found so far, the newest first

MAX_TRIALS = 24  # of finding which texts a template changes; the rest count as changed
EDGES = frozenset("<>[]|")  # what control strings begin and end with, whatever the vocabulary
ORDINARY = frozenset("_.,:;'\"!?-()")  # too common in prose to make a text suspect
LIKE_CONTROL = r"<[|｜][^<>\s]{1,40}[|｜]>"  # nobody writes this and means something else
WORD_LETTERS = 5
LETTERS = bytes(ord("a") + byte % 26 for byte in range(256))


def split_content(draw: Draw, markers: Markers) -> list[Piece]:
    """Render by `draw` and tell the template's text from the content.

    A template may refuse texts that hold control strings; it is given them broken up.
    """
    try:
        return _told_apart(draw, markers)
    except TemplateRefused:
        return _told_apart(_softened(draw, markers.broken), markers)


def _told_apart(draw: Draw, markers: Markers) -> list[Piece]:
    plain, texts = _plain(draw)
    risky = [text for text in texts if markers.touched_by(text)]
    for candidates in (texts, risky):
        pieces = _verified(draw, plain, candidates)
        if pieces is not None:
            return pieces
    return _neutralised(draw, markers, risky, _survivors(draw, plain, risky))


class Markers:
    """The control strings of a model, and what text could turn into one of them."""

    def __init__(self, control: Collection[str]) -> None:
        known = sorted((text for text in control if len(text.strip()) > 1), key=len, reverse=True)
        ends = {character for text in known for character in (text.strip()[0], text.strip()[-1])}
        self._known = re.compile("|".join([*map(re.escape, known), LIKE_CONTROL]))
        self._edges = EDGES | {c for c in ends if not c.isalnum() and c not in ORDINARY}

    def touched_by(self, text: str) -> bool:
        """Whether `text` holds a control string, or could be a part of one."""
        return self._known.search(text) is not None or not self._edges.isdisjoint(text)

    def broken(self, text: str) -> str:
        """`text` with a space inside each control string."""
        return self._known.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def blotted(self, text: str) -> str:
        """`text` without the punctuation that control strings begin and end with."""
        return self.broken("".join(" " if c in self._edges else c for c in text))

    def count(self, pieces: Iterable[Piece]) -> int:
        return sum(len(self._known.findall(piece.text)) for piece in pieces if piece.is_template)


def _plain(draw: Draw) -> tuple[str, list[str]]:
    """The rendered prompt, and the texts that went into it, each once, without their margins."""
    texts: dict[str, None] = {}

    def note(text: str) -> str:
        if core := text.strip():
            texts[core] = None
        return text

    return draw(note), list(texts)


def _verified(draw: Draw, plain: str, texts: Sequence[str]) -> list[Piece] | None:
    """The pieces of `plain`, if a rendering with `texts` marked shows them exactly."""
    nonce = "q" + secrets.token_bytes(11).translate(LETTERS).decode()
    words = dict(zip(sorted(texts), _words(nonce), strict=False))
    try:
        marked = draw(lambda text: _core_replaced(text, lambda core: words.get(core, core)))
    except TemplateStopped:
        raise
    except TemplateError:  # it looks into a text, and finds a word there that it does not like
        return None
    return _aligned(plain, _parts(marked, nonce), {word: core for core, word in words.items()})


def _words(nonce: str) -> Iterator[str]:
    """Words that sort as they come, so that a template that sorts keys sorts these alike."""
    for letters in product(string.ascii_lowercase, repeat=WORD_LETTERS):
        yield nonce + "".join(letters)


def _parts(marked: str, nonce: str) -> list[str]:
    """By turns template text and a word."""
    text, *rest = marked.split(nonce)
    parts = [text]
    for part in rest:
        parts += nonce + part[:WORD_LETTERS], part[WORD_LETTERS:]
    return parts


def _core_replaced(text: str, change: Callable[[str], str]) -> str:
    """White space at the ends stays: templates trim it."""
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    return text[:start] + change(core) + text[start + len(core) :]


def _aligned(plain: str, parts: Sequence[str], texts: dict[str, str]) -> list[Piece] | None:
    """Lay `parts`, by turns template text and a word, along `plain`; nothing if they do not fit.

    A word may stand for several spellings of its text, so all positions that can be reached are
    kept; there are seldom two.
    """
    reached: dict[int, Link | None] = {0: None}
    for index, part in enumerate(parts):
        is_word = index % 2 == 1
        forms = _spellings(texts.get(part, part)) if is_word else [part]
        reached = {
            position + len(form): (link, Piece(form, not is_word))
            for position, link in reached.items()
            for form in forms
            if plain.startswith(form, position)
        }
    return _merged(reached[len(plain)]) if len(plain) in reached else None


def _spellings(text: str) -> list[str]:
    quoted = (json.dumps(text, ensure_ascii=False), json.dumps(text), repr(text))
    return list(dict.fromkeys([text, *(form[1:-1] for form in quoted)]))


def _merged(link: Link | None) -> list[Piece]:
    backwards: list[Piece] = []
    while link is not None:
        link, piece = link
        if backwards and backwards[-1].is_template == piece.is_template:
            backwards[-1] = Piece(piece.text + backwards[-1].text, piece.is_template)
        elif piece.text:
            backwards.append(piece)
    return backwards[::-1]


def _survivors(draw: Draw, plain: str, texts: Sequence[str]) -> list[str]:
    """The texts that the template leaves alone, found by halving."""
    kept: list[str] = []
    waiting = _halves(texts)
    for _ in range(MAX_TRIALS):
        if not waiting:
            break
        group = waiting.pop()
        if _verified(draw, plain, [*kept, *group]) is not None:
            kept.extend(group)
        else:
            waiting.extend(_halves(group))
    return kept


def _halves(texts: Sequence[str]) -> list[Sequence[str]]:
    middle = len(texts) // 2
    return [texts[:middle], texts[middle:]] if middle else []


def _neutralised(
    draw: Draw, markers: Markers, risky: Collection[str], kept: Sequence[str]
) -> list[Piece]:
    """Pieces with the risky texts defused that could not be marked.

    A template may put a control string together out of what was none, say by taking something
    out of the middle. Then there are more of them than when the texts hold no such punctuation.
    """
    changed = set(risky) - set(kept)
    defused = _defused(draw, changed, kept, markers.broken)
    without = _defused(draw, changed, kept, markers.blotted)
    if defused is None or without is None:
        return _neutralised(draw, markers, risky, [])
    return defused if markers.count(defused) == markers.count(without) else without


def _defused(
    draw: Draw, changed: Collection[str], kept: Sequence[str], defuse: Callable[[str], str]
) -> list[Piece] | None:
    softly = _softened(draw, lambda core: defuse(core) if core in changed else core)
    return _verified(softly, _plain(softly)[0], kept)


def _softened(draw: Draw, soften: Callable[[str], str]) -> Draw:
    """The same rendering of other texts."""

    def softly(mark: Callable[[str], str]) -> str:
        return draw(lambda text: mark(_core_replaced(text, soften)))

    return softly
