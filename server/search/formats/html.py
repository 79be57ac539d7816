"""HTML to text: what a reader sees at first or later, marked as in Markdown.

No tree is built, so how deep elements are nested does not matter.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import BinaryIO, Final

from server.search.formats.draft import Draft
from server.search.formats.text import text_of

_SPACE: Final = re.compile(r"[ \t\n\r\f]+")
_UNSEEN: Final = frozenset({"script", "style", "template", "noscript", "svg"})
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_CELLS: Final = frozenset({"td", "th"})
_PARAGRAPHS: Final = frozenset({"p", "div"})  # which do not end a row of a table
_LINES: Final = frozenset({"li", "tr", "dt", "dd", "option", "caption", "figcaption"})
_BLOCKS: Final = re.compile(
    "address|article|aside|blockquote|body|details|div|dl|fieldset|figure|footer|form|h[1-6]|head"
    "|header|hr|main|nav|ol|p|pre|section|summary|table|title|ul"
)


def read_html(file: BinaryIO, draft: Draft) -> None:
    page = _Page(draft)
    page.feed(text_of(file, draft.most))
    page.close()


class _Page(HTMLParser):
    """Writes the draft while elements begin and end."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(convert_charrefs=True)
        self._draft = draft
        self._unseen = 0  # elements that are open and not shown
        self._verbatim = 0  # elements that are open and keep their spaces
        self._cells = 0  # of this row of a table
        self._mark = ""  # before the text that comes next

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._part(tag)
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _HEADINGS:
            self._mark = _HEADINGS[tag]
        elif tag == "pre":
            self._verbatim += 1
        elif tag == "li":
            self._mark = "- "
        elif tag == "tr":
            self._cells = 0
        elif tag in _CELLS:
            self._begin_cell()
        elif tag == "br":
            self._draft.line()
        elif tag == "img":
            self.handle_data(f" {dict(attrs).get('alt') or ''} ")

    def handle_endtag(self, tag: str) -> None:
        self._part(tag)
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag == "li" or tag in _HEADINGS:
            self._mark = ""
        elif tag == "pre":
            self._verbatim = max(0, self._verbatim - 1)

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if self._verbatim:
            data = data.lstrip("\n") if self._draft.begins_line else data
        else:
            data = _SPACE.sub(" ", data)
            if self._draft.begins_line or self._draft.ends_with_space:
                data = data.lstrip(" ")
        if data:
            self._draft.add(self._mark + data)
            self._mark = ""

    def _part(self, tag: str) -> None:
        """Where an element begins or ends, what comes next may begin a line."""
        if tag in _PARAGRAPHS and self._cells:
            self.handle_data(" ")
        elif _BLOCKS.fullmatch(tag):
            self._draft.block()
        elif tag in _LINES:
            self._draft.line()
        if tag == "table":
            self._cells = 0
            self._draft.block()

    def _begin_cell(self) -> None:
        if self._cells:
            self.handle_data(" | ")
        self._cells += 1
