"""Text that is read as it stands: plain, in Markdown or TeX, of programs, or JSON."""

from __future__ import annotations

import re
from typing import BinaryIO, Final

from server.search.formats.draft import Draft, TooMuchText, Unreadable, too_much
from server.search.formats.encodings import decoded

_OTHER_FORMATS: Final = (b"%PDF-", rb"{\rtf")  # that can be nothing but printable characters
_ESCAPES: Final = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|.)",
    re.DOTALL,
)


def read_text(file: BinaryIO, draft: Draft) -> None:
    draft.add(text_of(file, draft.most))


def read_json(file: BinaryIO, draft: Draft) -> None:
    """As it stands, also if it is not valid, but with letters where they are escaped."""
    draft.add(_ESCAPES.sub(_unescaped, text_of(file, draft.most)))


def text_of(file: BinaryIO, most: int) -> str:
    """All of a text file. Raises Unreadable; TooMuchText if it surely has more than `most` bytes.

    In UTF-16, text may take twice the bytes that it has in UTF-8.
    """
    data = file.read(2 * most + 1)
    if len(data) > 2 * most:
        raise TooMuchText(too_much(most))
    if data.startswith(_OTHER_FORMATS):
        raise Unreadable("The file is a document of another format than its name says.")
    return decoded(data)


def _unescaped(escape: re.Match[str]) -> str:
    """A letter that somebody may look for; what JSON needs escaped stays so."""
    high, low, single = escape.groups()
    if high is not None:
        return bytes.fromhex(high + low).decode("utf-16-be")
    character = chr(int(single, 16)) if single is not None else ""
    return character if character > "\x7f" and character.isprintable() else escape.group()
