"""Word documents: the text as it reads when all changes are accepted, and the notes behind it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import BinaryIO, Final

from server.search.formats.draft import Draft
from server.search.formats.package import Listener, Package
from server.search.formats.story import Story

_HEADING: Final = re.compile(r"(?:heading ([1-6])|title)$", re.IGNORECASE)
_LIST: Final = re.compile(r"list\b", re.IGNORECASE)
_DEEPEST: Final = 8  # levels of lists
_NOTES: Final = ("footnotes", "endnotes")
_NOTE: Final = frozenset({"footnote", "endnote"})
_UNMARKED: Final = frozenset(
    {"del", "moveFrom"}
)  # a paragraph whose end was deleted, or moved away


def read_docx(file: BinaryIO, draft: Draft) -> None:
    package = Package(file)
    document = package.main("word")
    styles = _Styles()
    for part in package.linked(document, "styles"):
        package.read(part, styles)
    package.read(document, _Text(draft, styles.names))
    for kind in _NOTES:
        for part in package.linked(document, kind):
            package.read(part, _Text(draft, styles.names))


class _Styles(Listener):
    """Gathers the names of styles, which are English, by their ids, which need not be."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._style = ""

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "style":
            self._style = attributes.get("styleId", "")
        elif name == "name":
            self.names.setdefault(self._style, attributes.get("val", ""))


class _Text(Story):
    """Knows what a paragraph is by its style, its numbering, or its level in the outline."""

    def __init__(self, draft: Draft, styles: Mapping[str, str]) -> None:
        super().__init__(draft)
        self._styles = styles
        self._is_item = False  # of a list, this paragraph
        self._follows_item = False
        self._fields: list[bool] = []  # open in this paragraph: whether what they show has begun

    def begin_other(self, name: str, attributes: dict[str, str]) -> None:
        if name == "p":
            self._is_item = False
            self._fields.clear()  # one that never ends hides no other paragraph
        elif name == "fldChar":
            self._part_field(attributes.get("fldCharType"))
        elif not all(self._fields):  # a field's code, and what fields in it show
            return
        elif name in _NOTE and attributes.get("type", "normal") != "normal":  # a line above notes
            self.hide()
        super().begin_other(name, attributes)

    def set(self, name: str, attributes: dict[str, str]) -> None:
        value = attributes.get("val", "")
        if name == "pStyle":
            self._apply(self._styles.get(value, value))
        elif name == "outlineLvl" and value in {*"012345"}:
            self.mark = "#" * (int(value) + 1) + " "
        elif name == "numPr" and not self.mark.startswith("#"):  # headings can be numbered
            self._is_item, self.mark = True, "- "
        elif name == "ilvl" and self._is_item and value.isdecimal():
            self.mark = "  " * min(int(value[:2]), _DEEPEST) + "- "
        elif name == "numId" and self._is_item and value == "0":  # in no list, whatever its style
            self._is_item, self.mark = False, ""
        elif name in _UNMARKED:
            self.goes_on = True

    def separate(self) -> None:
        if self._is_item and self._follows_item:
            self.draft.line()
        else:
            self.draft.block()
        self._follows_item = self._is_item

    def _part_field(self, kind: str | None) -> None:
        if kind == "begin":
            self._fields.append(False)
        elif kind == "separate" and self._fields:
            self._fields[-1] = True
        elif kind == "end" and self._fields:
            self._fields.pop()

    def _apply(self, style: str) -> None:
        if heading := _HEADING.match(style):
            self.mark = "#" * int(heading[1] or 1) + " "
        elif _LIST.match(style):
            self._is_item, self.mark = True, "- "
