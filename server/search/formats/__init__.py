"""How documents of each format are read. Runs in the child that `extraction` starts.

Imports nothing of the server but itself: every module that is loaded makes the child slower to
start. When a document is read no file can be opened any more, so each module looks up beforehand
what Python would look for in one: modules and, which are easily overlooked, codecs. What cannot be
read is `Unreadable`; whatever else is raised says the same less well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from server.search.formats.draft import Draft, Unreadable, too_much

Read = Callable[[BinaryIO, Draft], None]

TEXT: Final = (
    *(".c", ".cpp", ".cs", ".css", ".go", ".java", ".js", ".json", ".md"),
    *(".php", ".py", ".rb", ".sh", ".tex", ".ts", ".txt"),
)
SUPPORTED: Final = frozenset({*TEXT, ".doc", ".docx", ".html", ".pdf", ".pptx"})

__all__ = ["SUPPORTED", "Draft", "Read", "Unreadable", "reader_of", "too_much"]


def reader_of(extension: str) -> Read:
    """What reads files with this extension, which is one of SUPPORTED.

    Imported here, so that a child loads the libraries of one format.
    """
    match extension:
        case ".pdf":
            from server.search.formats.pdf import read_pdf

            return read_pdf
        case ".docx":
            from server.search.formats.word import read_docx

            return read_docx
        case ".pptx":
            from server.search.formats.slides import read_pptx

            return read_pptx
        case ".doc":
            from server.search.formats.old_word import read_doc

            return read_doc
        case ".html":
            from server.search.formats.html import read_html

            return read_html
        case ".json":
            from server.search.formats.text import read_json

            return read_json
        case _:
            from server.search.formats.text import read_text

            return read_text
