"""Bytes to text, in whatever encoding they are."""

from __future__ import annotations

import codecs
import encodings
import re
import unicodedata
from contextlib import suppress
from itertools import islice
from pkgutil import iter_modules
from typing import Final

import chardet
from chardet import EncodingEra
from chardet.models import get_language_norms, get_language_scale, get_rowmax
from chardet.pipeline.confusion import load_confusion_data

from server.search.formats.draft import Unreadable

_ERAS: Final = ~(EncodingEra.MAINFRAME | EncodingEra.LEGACY_MAC) & EncodingEra.ALL
_EXTINCT: Final = ("hp-roman8",)
_ASCII: Final = bytes(range(128))
_ESCAPE: Final = b"\x1b"  # begins the escapes of ISO 2022, which is ASCII otherwise
_HEAD: Final = 4096  # bytes in which a text says its encoding
_KANA: Final = re.compile("[\u3040-\u30ff]")
_WORDS: Final = 200  # that tell whether a language has such words
_LONGEST: Final = 50  # characters of a word that are looked at
_ALPHABETS: Final = ("LATIN", "GREEK", "CYRILLIC", "HEBREW", "ARABIC")
# Of a word each capital is U, each small letter L, beyond ASCII u and l; a sign there is x, a
# control character c. A capital behind a small letter is odd, and a sign between letters.
_ODD: Final = re.compile("lU|[lL]u|[uUlL]x[uUlL]|c")
_PIECE: Final = 2**16
_SAMPLE: Final = 2**18  # bytes that tell an encoding
_BEFORE: Final = 256  # of them that are ASCII; many more hide the others from statistics

for _module in iter_modules(encodings.__path__):
    with suppress(LookupError):  # some are another system's
        codecs.lookup(_module.name)
for _load in (get_rowmax, get_language_norms, get_language_scale, load_confusion_data):
    _load()  # what the library keeps in files, and keeps in memory from now on


def decoded(data: bytes) -> str:
    """The text. Raises Unreadable if it is none.

    UTF-8 may have a few broken characters. Whatever is not UTF-8 is what it looks like: statistics
    tell, and can be wrong where there is little text.
    """
    looks_like_utf8 = b"\0" not in data and _is_mostly_utf8(data)
    if looks_like_utf8 and not (data.isascii() and _ESCAPE in data):
        return data.decode("utf-8-sig", "replace")
    sample = _telling(data)
    found = _found(sample)
    if found is None and _ESCAPE in sample:  # colours of a terminal, in each line
        found = _found(sample.replace(_ESCAPE, b""))
    if found is None and not looks_like_utf8:
        raise Unreadable("The file is not text, as its name says.")
    return data.decode(found or "utf-8-sig", "replace")


def _telling(data: bytes) -> bytes:
    """What is about where a text begins to be more than ASCII, behind a head that says something.

    No character of four bytes is cut.
    """
    at = max(0, _first_beyond_ascii(data) - _BEFORE) // 4 * 4
    says = _found(data[:_HEAD]) != "ascii"
    return data[: min(at, _HEAD) if says else 0] + data[at : at + _SAMPLE]


def _first_beyond_ascii(data: bytes) -> int:
    """Where the first byte is that is not ASCII's, or else begins an escape."""
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        if not piece.isascii():
            return at + len(piece) - len(piece.lstrip(_ASCII))
    return data.find(_ESCAPE)


def _found(sample: bytes) -> str | None:
    """The likeliest encoding, by statistics of its letters and by what words it makes."""
    best, most = None, -1.0
    for found in chardet.detect_all(
        sample,
        encoding_era=_ERAS,
        exclude_encodings=_EXTINCT,
        ignore_threshold=True,
        compat_names=False,
    ):
        encoding, confidence = found["encoding"], found["confidence"]
        if encoding is None or confidence <= most:
            break
        likely = confidence * (1 - _oddness(sample.decode(encoding, "replace")))
        if likely > most:
            best, most = encoding, likely
    return best or _japanese(sample)


def _oddness(text: str) -> float:
    """The share of words that no language has, among the first beyond ASCII."""
    beyond = (word[:_LONGEST] for word in text.split() if not word.isascii())
    words = list(islice(beyond, _WORDS))
    return sum(map(_is_odd, words)) / max(1, len(words))


def _is_odd(word: str) -> bool:
    """Whether it is of two alphabets, or has a capital or a sign where no language has one."""
    alphabets = {unicodedata.name(character, "").partition(" ")[0] for character in word}
    if len(alphabets.intersection(_ALPHABETS)) > 1:
        return True
    return _ODD.search("".join(map(_kind, word))) is not None


def _kind(character: str) -> str:
    """A letter for it, as `_ODD` has them."""
    category = unicodedata.category(character)
    if category in ("Lu", "Ll"):
        kind = category[1]
        return kind.upper() if character.isascii() else kind.lower()
    if character.isascii():
        return "."
    if category in ("Cc", "Co", "Cn"):
        return "c"
    is_at_home = category in ("Pd", "Pf", "Cf") or category[0] in "LM" or character in "·‘…"
    return "." if is_at_home else "x"


def _japanese(sample: bytes) -> str | None:
    """Which UTF-16 it is that has no mark and no ASCII: Japanese tells by its syllables."""
    for encoding in ("utf-16-le", "utf-16-be"):
        text = sample.decode(encoding, "replace")
        if 4 * len(_KANA.findall(text)) > len(text):
            return encoding
    return None


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether more characters beyond ASCII are whole than broken, or there are none."""
    text = data.decode("utf-8", "replace")
    beyond = len(text) - (len(data) - len(data.translate(None, _ASCII)))
    broken = text.count("\ufffd")
    return broken == 0 or beyond - broken > broken
