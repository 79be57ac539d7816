"""Word documents as they were before 2007: their text and footnotes, without styles."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from struct import unpack_from
from typing import BinaryIO, Final

from olefile import OleFileIO

from server.search.formats.draft import Draft, Unreadable

# Offsets in the file information block, and flags (MS-DOC, 2.5.1 and after).
_MAGIC: Final = 0xA5EC
_FLAGS: Final = 0x0A
_IS_ENCRYPTED: Final = 0x0100
_USES_SECOND_TABLE: Final = 0x0200
_LENGTHS: Final = 0x4C  # of the text and of its footnotes, in characters
_PIECES: Final = 0x01A2  # where the list of pieces is in the table stream, and its size

_LIST_OF_PIECES: Final = 2
_IS_COMPRESSED: Final = 1 << 30  # a piece with one byte a character

_FIELD: Final = re.compile(r"\x13[^\x13-\x15]*(?:\x14([^\x13-\x15]*))?\x15")  # code, then result
_CHARACTERS: Final = str.maketrans(
    {"\x07": " | ", "\x0b": "\n", "\x0c": "\n", "\x1e": "-", "\x1f": None}
    | dict.fromkeys(map(chr, (*range(1, 7), 8, 0x13, 0x14, 0x15)))
)

for _encoding in ("cp1252", "utf-16-le"):
    codecs.lookup(_encoding)


def read_doc(file: BinaryIO, draft: Draft) -> None:
    if file.read(8) != b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise Unreadable("The file is no Word document, as its name says.")
    file.seek(0)
    text = _text_of(OleFileIO(file))
    while (simpler := _FIELD.sub(r"\1", text)) != text:  # fields may be in fields
        text = simpler
    for paragraph in text.replace("\x07\x07", "\r").split("\r"):
        draft.block()
        draft.add(paragraph.translate(_CHARACTERS).strip())


def _text_of(container: OleFileIO) -> str:
    if not container.exists("WordDocument"):
        raise Unreadable("The file is no Word document, as its name says.")
    document = container.openstream("WordDocument").read()
    magic, flags = unpack_from("<H", document)[0], unpack_from("<H", document, _FLAGS)[0]
    if magic != _MAGIC:
        raise Unreadable("The file was written by a version of Word that is too old.")
    if flags & _IS_ENCRYPTED:
        raise Unreadable("The file is encrypted.")
    table = container.openstream("1Table" if flags & _USES_SECOND_TABLE else "0Table").read()
    start, size = unpack_from("<II", document, _PIECES)
    text = "".join(_pieces(document, table[start : start + size]))
    return text[: sum(unpack_from("<II", document, _LENGTHS))]


def _pieces(document: bytes, listed: bytes) -> Iterator[str]:
    """The pieces of text that the document was edited to, in their order."""
    at = 0
    while listed[at] != _LIST_OF_PIECES:  # before it are lists of properties
        at += 3 + unpack_from("<H", listed, at + 1)[0]
    count = (unpack_from("<I", listed, at + 1)[0] - 4) // 12
    borders = unpack_from(f"<{count + 1}I", listed, at + 5)
    for number in range(count):
        length = borders[number + 1] - borders[number]
        (place,) = unpack_from("<I", listed, at + 5 + 4 * (count + 1) + 8 * number + 2)
        if place & _IS_COMPRESSED:
            begins = (place & ~_IS_COMPRESSED) // 2
            yield document[begins : begins + length].decode("cp1252", "replace")
        else:
            yield document[place : place + 2 * length].decode("utf-16-le", "replace")
