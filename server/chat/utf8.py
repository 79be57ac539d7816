"""Bytes as they are generated, to text: a character may be split between two tokens."""

from __future__ import annotations

import codecs


class Utf8Joiner:
    """Gives out text as soon as it is certain; bytes that can never be UTF-8 become U+FFFD.

    One per generation, owned by whoever reads it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What is left: a character cut off at the end is U+FFFD."""
        return self._decoder.decode(b"", final=True)
