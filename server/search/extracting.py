"""The child that reads one document: `python -m server.search.extracting EXTENSION …`.

The document is its standard input; what it says is its standard output: a line of JSON, and the
text if there is any. It is confined before it reads a byte. Imports no more than it needs, since
every document pays for that.
"""

from __future__ import annotations

import json
import os
import sys
from typing import BinaryIO, Final

from server.confinement import die_with
from server.search.confinement import confine, limit
from server.search.formats import Draft, Read, Unreadable, reader_of, too_much

NO_TEXT: Final = "The file has no text."
BROKEN: Final = "The file is broken, or no document of the format that its name says."
TOO_MUCH_MEMORY: Final = "The file takes too much memory to read."


def main(extension: str, parent: int, memory: int, seconds: int, text_bytes: int) -> None:
    die_with(parent)
    limit(memory=memory, seconds=seconds)
    read = reader_of(extension)
    confined = confine()
    with os.fdopen(0, "rb", closefd=False) as document:
        said, text = extracted(read, document, text_bytes)
    header = json.dumps({**said, "confined": confined, "bytes": len(text)})
    with os.fdopen(1, "wb", closefd=False) as out:
        out.write(header.encode() + b"\n")
        out.write(text)
    os._exit(0)  # past destructors, which could still meet what is broken


def extracted(read: Read, document: BinaryIO, most: int) -> tuple[dict[str, object], bytes]:
    """What is said of the document, and its text, of at most so many bytes."""
    draft = Draft(most)
    try:
        read(document, draft)
        text = draft.text
        written = text.encode("utf-8", "replace")
    except Unreadable as reason:
        return {"refused": str(reason)}, b""
    except MemoryError:
        return {"refused": TOO_MUCH_MEMORY}, b""
    except Exception as fault:  # noqa: BLE001, whatever a broken document does to a parser
        return {"refused": BROKEN, "fault": _place_of(fault)}, b""
    if not text.strip():
        return {"refused": NO_TEXT}, b""
    if len(written) > most:
        return {"refused": too_much(most)}, b""
    return {"pages": draft.pages}, written


def _place_of(fault: Exception) -> str:
    """Where it was raised, without its words, which may be the document's."""
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
    return f"{type(fault).__name__} at {place.rpartition('/')[2]}"


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
