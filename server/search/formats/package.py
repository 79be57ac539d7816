"""Office Open XML packages: the parts of a zip archive, and how they refer to each other.

Parts are parsed while they are inflated, into events and not into trees, and no more is inflated
than documents have.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from posixpath import basename, dirname, join, normpath
from typing import BinaryIO, Final
from xml.etree.ElementTree import XMLParser
from zipfile import BadZipFile, ZipFile

from server.search.formats.draft import Unreadable

_PIECE: Final = 2**16
_MOST_XML: Final = 2**28  # bytes that are parsed of one document
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_IS_ENCRYPTED: Final = 1  # of a zip entry's flags

codecs.lookup("cp437")  # of names in archives


class Listener:
    """Hears the elements of a part, by their names and their attributes' without namespaces."""

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def write(self, text: str) -> None:
        """There is text, perhaps a part of it."""


@dataclass(frozen=True, slots=True)
class Link:
    """How a part refers to another one, or to what is outside of the package."""

    id: str
    kind: str  # the last word of the relationship's type
    target: str  # the name of a part


class Package:
    """An open archive."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises Unreadable."""
        try:
            self._archive = ZipFile(file)
        except BadZipFile:
            raise Unreadable(_no_archive(file)) from None
        self._left = _MOST_XML

    def main(self, kind: str) -> str:
        """The part that is the document, and its last folder: `word`, `ppt`. Raises Unreadable."""
        for link in self.links(""):
            if link.kind == "officeDocument" and link.target.startswith(f"{kind}/"):
                return link.target
        raise Unreadable("The file is a document of another format than its name says.")

    def links(self, part: str) -> list[Link]:
        """In the order in which they are written; none where a part has none."""
        relationships = _Relationships(dirname(part))
        name = join(dirname(part), "_rels", f"{basename(part)}.rels")
        if self.has(name):
            self.read(name, relationships)
        return relationships.links

    def linked(self, part: str, kind: str) -> list[str]:
        """The parts that one refers to as this kind."""
        return [link.target for link in self.links(part) if link.kind == kind]

    def has(self, part: str) -> bool:
        return part in self._archive.NameToInfo

    def read(self, part: str, listener: Listener) -> None:
        """Have a part heard. Raises Unreadable, and what zipfile and the XML parser raise."""
        if not self.has(part):
            raise Unreadable("The file is broken: a part of it is missing.")
        if self._archive.getinfo(part).flag_bits & _IS_ENCRYPTED:
            raise Unreadable("The file is encrypted.")
        parser = XMLParser(target=_Target(listener))
        with self._archive.open(part) as file:
            while piece := file.read(_PIECE):
                self._left -= len(piece)
                if self._left < 0:
                    raise Unreadable("The file has too much in it once it is unpacked.")
                parser.feed(piece)
        parser.close()


class _Target:
    """What the XML parser calls."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """The standard forbids them, and entities could make much of little."""
        raise Unreadable("The file is broken: it declares a document type.")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        known = {_attribute(name): value for name, value in attributes.items()}
        self._listener.begin(_local(tag), known)

    def end(self, tag: str) -> None:
        self._listener.end(_local(tag))

    def data(self, text: str) -> None:
        self._listener.write(text)

    def close(self) -> None: ...


class _Relationships(Listener):
    """Gathers the links of a part that is in this folder."""

    def __init__(self, folder: str) -> None:
        self.links: list[Link] = []
        self._folder = folder

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            target = normpath(join("/", self._folder, attributes["Target"])).lstrip("/")
            kind = attributes["Type"].rpartition("/")[2]
            self.links.append(Link(attributes["Id"], kind, target))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(name: str) -> str:
    """Links have ids, and so has what links: theirs is called `r:id`, as it is mostly written."""
    namespace, _, local = name.rpartition("}")
    return f"r:{local}" if namespace.endswith("/relationships") else local


def _no_archive(file: BinaryIO) -> str:
    """What it is: Office encrypts a document by putting it into a container of another kind.

    That has names at multiples of 128 bytes, so none is in two pieces.
    """
    file.seek(0)
    piece = file.read(_PIECE)
    is_container = piece.startswith(_OLE)
    while is_container and piece:
        if _ENCRYPTED in piece:
            return "The file is encrypted."
        piece = file.read(_PIECE)
    return "The file is no document of the format that its name says, or it is broken."
