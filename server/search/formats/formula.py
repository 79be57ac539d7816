"""Formulas, which Word and PowerPoint write alike, to a line: `(a+b)/2`, `x^2`, `a_i`, `√(2 x)`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_SIGNS: Final = {"den": "/", "sup": "^", "sub": "_"}
_PARTS: Final = frozenset({"num", *_SIGNS})
_SCRIPTS: Final = frozenset({"sSup", "sSub", "sSubSup", "sPre"})
_SIMPLE: Final = re.compile(r"[\d.,]+|.|\([^()]*\)", re.DOTALL)  # needs no brackets
_EDGE: Final = "\0"  # of a part; XML has no such character
_GLUED: Final = re.compile(rf"(?<=[^\W_]){_EDGE}+(?=[^\W_])")
_AROUND: Final = {"d": ("(", ")"), "nary": ("∫", "")}  # where the formula says nothing else


@dataclass(slots=True)
class _Element:
    name: str
    left: str = ""
    right: str = ""
    text: str = ""

    def set(self, name: str, value: str) -> None:
        """Hear of a property."""
        if name == "begChr" or (name == "chr" and self.name == "nary"):
            self.left = value
        elif name == "endChr":
            self.right = value


class Formula:
    """Hears the elements of one formula."""

    def __init__(self) -> None:
        self._open = [_Element("")]

    @property
    def text(self) -> str:
        return _without_edges(self._open[0].text)

    @property
    def is_over(self) -> bool:
        return len(self._open) == 1

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > 1:
            self._open[-2].set(name, attributes.get("val", ""))  # its properties are between them
        self._open.append(_Element(name, *_AROUND.get(name, ("", ""))))

    def end(self) -> None:
        element = self._open.pop()
        self._open[-1].text += _written(element, self._open[-1].name)

    def write(self, text: str) -> None:
        if self._open[-1].name == "t":
            self._open[-1].text += text


def _written(element: _Element, around: str) -> str:
    """An element's text as a part of the one around it."""
    name, text = element.name, element.text
    if name in {"r", "t"} or not text:
        return text
    text = element.left + text + element.right
    if name in _PARTS or (name == "e" and around in _SCRIPTS | {"rad"}):
        text = text if _SIMPLE.fullmatch(_without_edges(text)) else f"({text})"
    sign = "√" if name == "e" and around == "rad" else _SIGNS.get(name, "")
    return f"{_EDGE}{sign}{text}{_EDGE}"


def _without_edges(text: str) -> str:
    """Two parts are apart where they would make another number or word."""
    return _GLUED.sub(" ", text).replace(_EDGE, "")
