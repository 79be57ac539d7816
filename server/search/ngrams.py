"""Texts to vectors without a model: words and pieces of words, hashed.

Texts are near each other that share words, words of one stem, or words that are nearly spelled
alike; what words mean is not known. A text has the same vector in every process and on every
machine. All texts of a call are worked on at once, as arrays of their characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from server.search.words import COMMON_WORDS

DIMENSIONS: Final = 768
VERSION: Final = 1  # changes whenever vectors do
PIECES: Final = (3, 4)  # characters, with one for each end of the word
WHOLE: Final = 0.4  # of a word's weight, that is on the word; the rest is on its pieces
LONG: Final = 6  # characters; shorter words weigh less: few of them tell what a text is about
COMMON: Final = 0.2  # what the commonest words weigh of that

_OTHER, _LETTER, _IDEOGRAPH, _MARK = range(4)
_IDEOGRAPHS: Final = (  # their scripts put no spaces between words, so that each counts as one
    (0x3040, 0x3100),  # Hiragana, Katakana
    (0x31F0, 0x3200),
    (0x3400, 0xA000),  # Han
    (0x20000, 0x323B0),
)
_LETTERS_END: Final = 0x323B0  # beyond the last letter that there is
_END: Final = 32  # stands for the ends of a word

Numbers = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """A row for each text, of length 1; all zeros for one without a letter or digit."""
    size = len(texts) * DIMENSIONS
    places, values = [np.zeros(0, np.int64)], [np.zeros(0)]
    for found, text, weight in _features(_words(texts)):
        mixed = _mixed(found)
        places.append(text * DIMENSIONS + (mixed % np.uint64(DIMENSIONS)).astype(np.int64))
        values.append(np.where(mixed >> np.uint64(63), weight, -weight))
    sums = np.bincount(np.concatenate(places), np.concatenate(values), size)
    rows = sums.reshape(len(texts), DIMENSIONS)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Words:
    """Each word of each text once: its hash, where it is from, how often it is there.

    Its characters are those of `characters` from `start` on.
    """

    characters: Numbers
    hash: Hashes
    text: Numbers
    start: Numbers
    length: Numbers
    count: Numbers

    @property
    def weight(self) -> Numbers:
        """A word that is repeated tells more, but not as much more."""
        rarity = np.where(np.isin(self.hash, _common_words()), COMMON, 1.0)
        weight: Numbers = rarity * np.sqrt(np.minimum(self.length / LONG, 1) * self.count)
        return weight


def _words(texts: Sequence[str]) -> _Words:
    found = _characters(texts)
    start = np.flatnonzero(found.begins)
    length = np.diff(np.append(start, len(found.codes)))
    place = np.arange(len(found.codes)) - np.repeat(start, length)
    spelled = _mixed(found.codes + (place.astype(np.uint64) << np.uint64(32)))
    sums = np.append(np.zeros(1, np.uint64), np.cumsum(spelled, dtype=np.uint64))
    hash = sums[start + length] - sums[start]
    pairs = np.flatnonzero(found.pairs)
    start, length = np.append(start, pairs), np.append(length, np.full(len(pairs), 2))
    hash = np.append(hash, _mixed(spelled[pairs]) + spelled[pairs + 1])
    text = found.text[start]
    of_text = _mixed(hash + _mixed(text.astype(np.uint64)))
    _, first, count = np.unique(of_text, return_index=True, return_counts=True)
    return _Words(found.codes, hash[first], text[first], start[first], length[first], count)


@dataclass(frozen=True, slots=True)
class _Characters:
    """Those of all words: the code of each, the text it is from, and whether a word begins there.

    `pairs` is true of an ideograph that another one follows: both together are a word, too.
    """

    codes: Hashes
    text: Numbers
    begins: Numbers
    pairs: Numbers


def _characters(texts: Sequence[str]) -> _Characters:
    folded = [_folded(text) for text in texts]
    joined = "\0".join([*folded, ""]).encode("utf-32-le", "replace")
    codes = np.frombuffer(joined, "<u4")
    lengths = np.array([len(each) + 1 for each in folded], np.int64)
    text, kinds = np.repeat(np.arange(len(texts)), lengths), _kinds()[codes]
    if np.any(marks := kinds == _MARK):
        codes, text, kinds = codes[~marks], text[~marks], kinds[~marks]
    inside, ideograph = kinds != _OTHER, kinds == _IDEOGRAPH
    begins, pairs = inside.copy(), ideograph.copy()
    begins[1:] &= ~inside[:-1] | ideograph[1:] | ideograph[:-1]
    pairs[:-1] &= ideograph[1:]
    return _Characters(codes[inside].astype(np.uint64), text[inside], begins[inside], pairs[inside])


def _folded(text: str) -> str:
    """Without what letters differ by that are the same: case, width, and accents as marks."""
    text = text.casefold()
    return text if text.isascii() else unicodedata.normalize("NFKD", text)


def _features(words: _Words) -> Iterator[tuple[Hashes, Numbers, Numbers]]:
    """What is hashed: words and pieces, each with its text and how much it weighs there."""
    weight = words.weight
    yield words.hash, words.text, weight * np.sqrt(WHOLE)
    pieces = [_pieces(words, size) for size in PIECES]
    word = np.concatenate([owner for _, owner in pieces])
    shares = np.bincount(word, minlength=len(weight))[word]
    parts = np.concatenate([piece for piece, _ in pieces])
    yield parts, words.text[word], weight[word] * np.sqrt((1 - WHOLE) / shares)


def _pieces(words: _Words, size: int) -> tuple[Hashes, Numbers]:
    """All pieces of so many characters, and the number of the word that each is from."""
    padded = words.length + 2
    word = np.repeat(np.arange(len(padded)), padded)
    place = np.arange(len(word)) - np.repeat(np.cumsum(padded) - padded, padded)
    inside = (place > 0) & (place <= words.length[word])
    codes = np.full(len(word), _END, np.uint64)
    codes[inside] = words.characters[(words.start[word] + place - 1)[inside]]
    begins = np.flatnonzero(place + size <= padded[word])
    pieces = np.full(len(begins), size, np.uint64)
    for offset in range(size):
        pieces = _mixed(pieces + codes[begins + offset])
    return pieces, word[begins]


def _mixed(numbers: Hashes) -> Hashes:
    """Each number's bits, spread over all of its 64 (as in SplitMix64)."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Of every character: whether it is a letter or digit, an ideograph, a mark, or none of it."""
    letters = {"L": _LETTER, "N": _LETTER, "M": _MARK}
    categories = (unicodedata.category(chr(code)) for code in range(_LETTERS_END))
    kinds = np.full(0x110000, _OTHER, np.uint8)
    kinds[:_LETTERS_END] = [letters.get(category[0], _OTHER) for category in categories]
    for first, end in _IDEOGRAPHS:
        script = kinds[first:end]
        script[script == _LETTER] = _IDEOGRAPH
    return kinds


@cache
def _common_words() -> Hashes:
    return _words([COMMON_WORDS]).hash
