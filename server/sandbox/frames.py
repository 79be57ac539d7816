"""What a session and its host say to each other: a length, a line of JSON, and raw bytes.

The host believes nothing of it: whoever runs inside can write what he likes. Imports nothing but
the standard library, since the other end of it runs inside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

Head = dict[str, Any]
Frame = tuple[Head, bytes]

LENGTH_BYTES: Final = 4
MOST_HEAD: Final = 2**20  # bytes; the names of a thousand files fit
MOST_RAW: Final = 2**23
MOST_NAMES: Final = 1000  # of files that one answer tells of
CHUNK: Final = 2**18  # bytes of a file that go together

# Those of Unicode, of which Python calls only one printable.
_SPACES: Final = dict.fromkeys((0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " ")


class Forged(Exception):
    """This is no frame of ours."""


def can_be_told(name: str) -> bool:
    """Whether a file's name has nothing but what is printed, and spaces of any kind."""
    return name.isprintable() or name.translate(_SPACES).isprintable()


def encode(head: Head, raw: bytes = b"") -> bytes:
    text = json.dumps({**head, "raw": len(raw)}).encode()
    return len(text).to_bytes(LENGTH_BYTES, "big") + text + raw


def raw_length(head: object) -> int:
    """Of the bytes behind a frame's head. Raises Forged."""
    length = head.get("raw") if isinstance(head, dict) else None
    if type(length) is not int or not 0 <= length <= MOST_RAW:
        raise Forged("a frame has a wrong length")
    return length


def parse(text: bytes) -> Head:
    """Raises Forged."""
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Forged("a frame is no JSON") from error
    raw_length(head)
    found: Head = head
    return found


class FrameReader:
    """Frames out of pieces, holding no more than one of them."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._head: Head | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises Forged."""
        self._held += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        if self._head is None:
            self._head = self._parsed_head()
        if self._head is None or len(self._held) < raw_length(self._head):
            return None
        head, self._head = self._head, None
        return head, self._taken(raw_length(head))

    def _parsed_head(self) -> Head | None:
        if len(self._held) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._held[:LENGTH_BYTES], "big")
        if length > MOST_HEAD:
            raise Forged("a frame is too long")
        if len(self._held) < LENGTH_BYTES + length:
            return None
        self._taken(LENGTH_BYTES)
        return parse(self._taken(length))

    def _taken(self, length: int) -> bytes:
        taken = bytes(self._held[:length])
        del self._held[:length]
        return taken
