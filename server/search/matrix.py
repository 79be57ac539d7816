"""Vectors in a file: rows of float32, read through a memory map.

Rows are only appended; which of them count is known elsewhere, and what is behind these is what a
crash has left. A checksum tells whether rows are still what was written.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from server import failpoints
from server.files.blobs import told_when_full

Vectors = npt.NDArray[np.float32]  # one in each row

NUMBER: Final = np.dtype("<f4")


class Matrix:
    """The file. One thread at a time appends; views may be read by any, also when it is closed."""

    def __init__(self, path: Path, dimensions: int) -> None:
        """Make the file if it is not there. Raises OSError."""
        self.path = path
        self._dimensions = dimensions
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(handle, "r+b", buffering=0)

    def close(self) -> None:
        self._file.close()

    def append(self, at: int, pieces: Iterable[Vectors]) -> None:
        """Write rows from number `at` on, where nothing counts yet; they are then on the disk.

        Raises StorageFull, OSError.
        """
        with told_when_full():
            self._file.seek(at * self._width)
            for piece in pieces:
                left = _bytes(piece)
                while left:
                    left = left[self._file.write(left) :]
            self._file.truncate()
            failpoints.hit("index.vectors.before")
            os.fsync(self._file.fileno())
        failpoints.hit("index.vectors.after")

    def cut(self, rows: int) -> None:
        """Have no more than so many rows. Nobody may have a view of more."""
        if self._rows() > rows:
            self._file.truncate(rows * self._width)

    def view(self, rows: int) -> Vectors:
        """The first rows, or as many as there are."""
        rows = min(rows, self._rows())
        if rows == 0:
            return np.empty((0, self._dimensions), NUMBER)
        shape = (rows, self._dimensions)
        return np.asarray(np.memmap(self.path, NUMBER, mode="r", shape=shape))

    @property
    def _width(self) -> int:
        """Bytes of a row."""
        return self._dimensions * NUMBER.itemsize

    def _rows(self) -> int:
        return os.fstat(self._file.fileno()).st_size // self._width


def checksum(vectors: Vectors) -> int:
    return zlib.crc32(_bytes(vectors))


def _bytes(vectors: Vectors) -> memoryview:
    return np.ascontiguousarray(vectors, NUMBER).reshape(-1).view(np.uint8).data
