"""A document's text while it is read: blocks, lines and pages, with the gaps between them."""

from __future__ import annotations

from typing import Final

_SOFT: Final = ("\0", "\u00ad", "\ufeff")  # what nobody sees, and would hide a word from a search


class Unreadable(Exception):
    """A document that cannot be read; the text is a sentence for its owner."""


class TooMuchText(Unreadable):
    """A document that has more text than is taken."""


class Draft:
    """Text that grows. A gap is written when text follows it, and never at the beginning."""

    def __init__(self, most: int) -> None:
        """Takes `most` bytes of UTF-8 at most."""
        self.most = most
        self._parts: list[str] = []
        self._length = 0  # in characters, as all that follows
        self._gap = 0  # line ends before what comes next
        self._new_pages = 0  # that begin with what comes next
        self._pages: list[int] = []

    @property
    def begins_line(self) -> bool:
        """Whether what comes next is the first of its line."""
        return self._gap > 0 or not self._parts

    @property
    def ends_with_space(self) -> bool:
        return not self.begins_line and self._parts[-1][-1].isspace()

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def pages(self) -> list[int]:
        """Where each page begins; those that have nothing begin where the next one does."""
        return self._pages + self._new_pages * [self._length]

    def add(self, text: str) -> None:
        """Write on. Raises TooMuchText."""
        text = cleaned(text)
        if not text or (self.begins_line and text.isspace()):
            return
        if self._gap and self._parts:
            self._trim()
            self._append("\n" * self._gap)
        self._gap = 0
        self._pages += self._new_pages * [self._length]
        self._new_pages = 0
        self._append(text)

    def line(self) -> None:
        """What comes next begins a line."""
        self._gap = max(self._gap, 1)

    def block(self) -> None:
        """What comes next stands apart."""
        self._gap = 2

    def page(self) -> None:
        """What comes next is on a new page."""
        self.block()
        self._new_pages += 1

    def _trim(self) -> None:
        """Leave no spaces at the end of a line."""
        begins = self._pages[-1] if self._pages else 0
        while self._length > begins:
            last = self._parts.pop()
            kept = last.rstrip(" \t")
            self._length -= len(last) - len(kept)
            if kept:
                self._parts.append(kept)
                return

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
        if self._length > self.most:  # in bytes it is no less
            raise TooMuchText(too_much(self.most))


def cleaned(text: str) -> str:
    """With line ends of one kind, and without what cannot be seen."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for character in _SOFT:
        text = text.replace(character, "")
    return text


def too_much(most: int) -> str:
    return f"The file has more than {most:,} bytes of text."
