"""Texts and queries as the index of words takes them.

SQLite's tokenizer splits at whatever is no letter, digit or mark, and takes accents away. Before
that, compatibility forms (ligatures, full width) become plain ones, symbols that are newer than its
tables become spaces, and scripts that put no spaces between words become pairs of neighbouring
characters, as in Lucene's CJKAnalyzer. A query is never an expression of FTS5's: only its words
reach SQLite, each in quotes.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import islice, pairwise
from typing import Final

TOKENIZER: Final = "unicode61 remove_diacritics 2 categories 'L* N* M*'"
FOLDING: Final = f"1/{unicodedata.unidata_version}"  # where it differs, words are indexed anew
# Of some languages; they tell little of what a text is about. Vectors are made by the first list.
COMMON_WORDS: Final = """
the a an and or of to in is it for on as by with at be are was were this that from not what which
who how does do can has have had i you we he she they its if when then than so but there their
will would about into my your
der die das und ist ein eine einer eines einem einen den dem des zu mit von für auf im am als auch
nicht sich es wie wird werden sind war hat was wer wo wenn oder aus bei nach durch über kann man
ich wir sie er nur noch
le la les de du un une et est en dans que qui pour pas sur au aux ce cette il elle on nous vous ne
se sont avec par plus ou où comment quel quelle quels quelles être avoir son sa ses
el los las una y del al por con para es no lo como más pero sus su se qué cómo cuál
il gli uno di che non per sono nel della delle dei degli alla come anche più ma
o os um uma do da dos das em não com ao à é são mais mas se na no nas nos
het een van dat niet met voor aan zijn wordt hoe wat bij ook maar naar
"""
MORE_COMMON_WORDS: Final = """
could should shall may must might did done am been being our his her him them me us where why whom
whose these those here
"""
MOST_WORDS: Final = 64
MOST_CHARACTERS: Final = 10_000

# Thai and Lao, Burmese, Khmer, kana, Han, Hangul; without their punctuation.
_SPACELESS: Final = re.compile(
    "[\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0eff\u1000-\u1049\u1050-\u109f"
    "\u1780-\u17d3\u17d7\u17dc-\u17e9\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)

_MARKS: Final = "".join(
    filter(lambda each: unicodedata.category(each)[0] == "M", map(chr, range(0x300, 0x20000)))
)
_WORD: Final = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_SYMBOLS: Final = re.compile("[\u2190-\u2bff\U0001f000-\U0001fbff]+")


def folded(text: str) -> str:
    """What is given to the tokenizer for a text.

    Of a run without spaces also the last character stands alone, so that each one begins a word.
    """
    if text.isascii():
        return text
    plain = _SYMBOLS.sub(" ", _plain(text))
    return _SPACELESS.sub(lambda run: _spaced([*_pairs(run[0]), run[0][-1]]), plain)


def terms(query: str) -> list[str]:
    """An expression of FTS5's for each word of a query, in the words' order; at most MOST_WORDS."""
    plain = _plain(query[:MOST_CHARACTERS])
    spaced = _SPACELESS.sub(lambda run: _spaced(_pairs(run[0]) or [run[0]]), plain)
    return [_term(word) for word in islice(dict.fromkeys(_WORD.findall(spaced)), MOST_WORDS)]


def is_common(term: str) -> bool:
    """Whether nearly any text has the word."""
    return term in _common_terms()


@cache
def _common_terms() -> frozenset[str]:
    return frozenset(map(_term, f"{COMMON_WORDS} {MORE_COMMON_WORDS}".split()))


def _term(word: str) -> str:
    """A character alone stands for all pairs that it begins."""
    alone = len(word) == 1 and _SPACELESS.fullmatch(word)
    return f'"{word}"*' if alone else f'"{word}"'


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in pairwise(run)]


def _spaced(words: list[str]) -> str:
    return f" {' '.join(words)} "
