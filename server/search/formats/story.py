"""Paragraphs and tables, which Word and PowerPoint name alike, to text."""

from __future__ import annotations

from typing import Final

from server.search.formats.draft import Draft
from server.search.formats.formula import Formula
from server.search.formats.package import Listener

# What was deleted or moved away or is an earlier form, and what newer programs do not look at.
_UNSEEN: Final = frozenset({"del", "moveFrom", "pPrChange", "Fallback"})
_PROPERTIES: Final = "pPr"  # of a paragraph; tabs, for one, are called alike in them and in text
_BREAKS: Final = frozenset({"br", "cr"})
_CHARACTERS: Final = {"tab": "\t", "ptab": "\t", "noBreakHyphen": "-"}


class Story(Listener):
    """Writes the draft. Rows of tables are lines, whose cells have their paragraphs in a row."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.mark = ""  # before the text of this paragraph
        self.goes_on = False  # the next paragraph is the rest of this one
        self._begins = True  # the paragraph has no text yet
        self._is_text = False
        self._unseen = 0  # open elements, from one on that is not shown
        self._properties = 0  # open elements, from a paragraph's properties on
        self._rows: list[int] = []  # of the open tables: the cells that their row has so far
        self._cell_is_empty = True
        self._formula: Formula | None = None  # that is open
        self._last = ""  # character that was written

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if self._unseen or name in _UNSEEN:
            if self._properties and not self._unseen:
                self.set(name, attributes)
            self._unseen += 1
        elif self._formula:
            self._formula.begin(name, attributes)
        elif self._properties or name == _PROPERTIES:
            self._properties += 1
            self.set(name, attributes)
        elif self._rows and name in {"tr", "tc"}:
            self._begin_in_table(name)
        elif name == "tbl":
            self._rows.append(0)
            self.draft.block()
        else:
            self.begin_other(name, attributes)

    def begin_other(self, name: str, attributes: dict[str, str]) -> None:
        """What is not about tables."""
        if name == "p":
            self._begin_paragraph()
        elif name == "t":
            self._is_text = True
        elif name == "oMath":
            self._formula = Formula()
        elif name in _CHARACTERS and not (self._begins and _CHARACTERS[name].isspace()):
            self._write(_CHARACTERS[name])
        elif not self._begins and name in _BREAKS:
            self._break()

    def end(self, name: str) -> None:
        if self._unseen:
            self._unseen -= 1
        elif self._formula:
            self._end_in_formula(self._formula)
        elif self._properties:
            self._properties -= 1
        elif name == "t":
            self._is_text = False
        elif name == "p" and not self.goes_on:  # one in a text box is inside another
            self._begins, self.mark = True, ""
        elif name == "tbl" and self._rows:
            self._rows.pop()
            self.draft.block()

    def write(self, text: str) -> None:
        if self._formula and not self._unseen:
            self._formula.write(text)
        elif self._is_text and not self._unseen:
            self._write(text)

    def hide(self) -> None:
        """Show nothing of the element that begins."""
        self._unseen = 1

    def set(self, name: str, attributes: dict[str, str]) -> None:
        """Hear of an element of the paragraph's properties."""

    def separate(self) -> None:
        """Say how this paragraph stands to what was before it."""
        self.draft.block()

    def _begin_paragraph(self) -> None:
        self._begins, self.goes_on = self._begins or not self.goes_on, False
        self.mark = ""

    def _write(self, text: str) -> None:
        if self._begins:
            if not self._rows:
                self.separate()
            elif not self._cell_is_empty:
                self.draft.add(" ")
            text = self.mark + text
        self.draft.add(text)
        self._last = text[-1:]
        self._begins, self.mark, self._cell_is_empty = False, "", False

    def _break(self) -> None:
        if self._rows:
            self._write(" ")
        else:
            self.draft.line()

    def _end_in_formula(self, formula: Formula) -> None:
        if not formula.is_over:
            formula.end()
            return
        self._formula = None
        text = formula.text
        follows = not self._begins and not self.draft.begins_line
        if follows and self._last.isdigit() and text[:1].isdigit():
            text = f" {text}"  # two and a half is no 21/2
        if text:
            self._write(text)

    def _begin_in_table(self, name: str) -> None:
        if name == "tr":
            self._rows[-1] = 0
            self.draft.line()
            return
        if self._rows[-1]:
            self.draft.add(" | ")
        self._rows[-1] += 1
        self._cell_is_empty = True
