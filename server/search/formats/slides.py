"""PowerPoint presentations: slide by slide, each with its title, its text and its notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from server.search.formats.draft import Draft
from server.search.formats.package import Listener, Package
from server.search.formats.story import Story

_SHAPES: Final = frozenset({"sp", "graphicFrame"})  # that can hold text
_TITLES: Final = frozenset({"title", "ctrTitle"})
_FURNITURE: Final = frozenset({"dt", "ftr", "hdr", "sldImg", "sldNum"})  # the same on all slides


def read_pptx(file: BinaryIO, draft: Draft) -> None:
    package = Package(file)
    for slide in _slides(package):
        draft.page()
        package.read(slide, _Text(draft))
        for notes in package.linked(slide, "notesSlide"):
            package.read(notes, _Text(draft))


def _slides(package: Package) -> Iterator[str]:
    """The parts in the order in which they are shown."""
    presentation = package.main("ppt")
    order = _Order()
    package.read(presentation, order)
    targets = {link.id: link.target for link in package.links(presentation)}
    return (targets[id] for id in order.ids)


class _Order(Listener):
    """Gathers the ids of the slides."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "sldId" and "r:id" in attributes:  # sections list slides by another id
            self.ids.append(attributes["r:id"])


class _Text(Story):
    """A shape is a block of lines."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self._place = ""  # that the shape takes in the layout
        self._is_first = True  # paragraph of its shape

    def begin_other(self, name: str, attributes: dict[str, str]) -> None:
        if name in _SHAPES:
            self._place, self._is_first = "", True
        elif name == "ph":
            self._place = attributes.get("type", "")
        elif name == "txBody" and self._place in _FURNITURE:
            self.hide()
        super().begin_other(name, attributes)

    def separate(self) -> None:
        if self._is_first:
            self.draft.block()
        else:
            self.draft.line()
        if self._is_first and self._place in _TITLES:
            self.mark = "# "
        self._is_first = False
