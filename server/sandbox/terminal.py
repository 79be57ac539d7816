"""The streams that a session reads and prints on, whatever its code does to them.

Runs inside the session. Imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STREAMS: Final = ("stdin", "stdout", "stderr")
_OUTPUT: Final = 1


class Terminal:
    """Standard input and output. Code may close, replace or redirect them, for its own call."""

    def __init__(self) -> None:
        output = os.dup(_OUTPUT)
        self._files = (os.dup(0), output, output)
        self._streams = [_opened(number) for number in range(len(_STREAMS))]
        self._put_back()

    def say(self, text: str) -> None:
        """Print what the code itself does not."""
        self.restore()
        self._streams[_OUTPUT].write(text)
        self._streams[_OUTPUT].flush()

    def flush(self) -> None:
        """Print all that the code's streams still hold."""
        for name in (*_STREAMS, *map(_first, _STREAMS)):
            with contextlib.suppress(BaseException):  # the code may have put anything there
                getattr(sys, name).flush()

    def restore(self) -> None:
        """Have all streams as they were, but for what was set on them."""
        self.flush()
        self._put_back()  # a stream of the code's may close what is below it when it goes
        for number, file in enumerate(self._files):
            with contextlib.suppress(OSError):
                os.dup2(file, number)
        self._streams = [
            stream if _works(stream) else _opened(number)
            for number, stream in enumerate(self._streams)
        ]
        self._put_back()

    def _put_back(self) -> None:
        for name, stream in zip(_STREAMS, self._streams, strict=True):
            setattr(sys, name, stream)
            setattr(sys, _first(name), stream)


def _first(name: str) -> str:
    """Where Python keeps the stream that it began with."""
    return f"__{name}__"


def _opened(number: int) -> TextIO:
    """A stream that leaves its file open when it is closed.

    Nothing that is printed waits, or it would come behind what others print on the same file.
    """
    if number == 0:
        return open(number, encoding="utf-8", errors="replace", closefd=False)
    file = _Unheld(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(file, "utf-8", "backslashreplace", write_through=True)


class _Unheld(io.BufferedWriter):
    """Writes all at once, unlike a file without a buffer that is interrupted."""

    def write(self, data: ReadableBuffer, /) -> int:
        size = super().write(data)
        self.flush()
        return size


def _works(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):  # it is closed, or what it was made of was taken from it
        return False
    return True
