"""Text out of documents."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EXTENSIONS = frozenset(
    [
        "c",
        "cs",
        "cpp",
        "css",
        "docx",
        "go",
        "html",
        "java",
        "js",
        "json",
        "md",
        "pdf",
        "php",
        "pptx",
        "py",
        "rb",
        "sh",
        "tex",
        "ts",
        "txt",
    ]
)


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a document, and the offsets in it at which its pages begin."""

    text: str
    pages: Sequence[int]


class NotExtracted(Exception):
    """A document has no text to be had; a `server_error` may be tried again."""

    def __init__(
        self, code: Literal["unsupported_file", "invalid_file", "server_error"], message: str
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def supported(filename: str) -> bool:
    """Whether files of that name may have text."""
    return Path(filename).suffix.lower().removeprefix(".") in EXTENSIONS


class Extractor:
    """Reads plain text."""

    async def extract(self, path: Path, filename: str) -> Document:
        """Raises NotExtracted, OSError."""
        content = await asyncio.to_thread(path.read_bytes)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise NotExtracted("invalid_file", "The file could not be parsed.") from None
        if not text.strip():
            raise NotExtracted("invalid_file", "The file has no text.")
        return Document(text, ())
