"""What a GGUF file says of itself: its metadata, and how large its tensors are.

Read without llama.cpp, so that a model can be judged before anything is loaded. Knows the format,
and nothing of what a model needs when it runs.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...] | None  # None: an array that is too long to be kept

MAGIC: Final = b"GGUF"
READ_SIZE: Final = 1 << 20
LARGEST_VALUE: Final = 1 << 28  # bytes; beyond it the file is broken
LONGEST_ARRAY: Final = 1024  # one value a layer is kept, one a token is not
LARGEST_NUMBER: Final = (1 << 31) - 1  # of what is counted; llama.cpp counts no further
_SAMPLES: Final = 256
_SAMPLE: Final = 1 << 14  # bytes
_NUMBERS: Final = dict(enumerate(["<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?"])) | {
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING: Final = 8
_ARRAY: Final = 9
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


class NotGGUF(Exception):
    """The file cannot be read as GGUF; the text is a sentence that names it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a file stands among those that one model was split into."""

    stem: str
    number: int = 1
    count: int = 1

    @classmethod
    def of(cls, path: Path) -> Part:
        found = _PART.fullmatch(path.stem)
        if found is None:
            return cls(path.stem)
        return cls(found["stem"], int(found["number"]), int(found["count"]))


@dataclass(frozen=True, slots=True)
class GGUF:
    """A model's header. `tensors` is the size of each in bytes, `lengths` that of each array."""

    path: Path
    metadata: Mapping[str, Value]
    lengths: Mapping[str, int]
    tensors: Mapping[str, int]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def number(self, key: str, default: int = 0) -> int:
        """A number of this architecture; of one that differs by layer, the largest.

        Raises NotGGUF, as `numbers` does.
        """
        return max(self.numbers(key, default), default=default)

    def numbers(self, key: str, default: int = 0) -> tuple[int, ...]:
        """A number of this architecture for each layer, or the one that all have.

        Raises NotGGUF if the file has something there that counts nothing.
        """
        name = f"{self.architecture}.{key}"
        value = self.metadata.get(name, default)
        values = value if isinstance(value, tuple) else (value,)
        counts = tuple(each for each in map(_count, values) if each is not None)
        if len(counts) < len(values):
            raise NotGGUF(f"{self.path} is broken: its {name} is not a number that can be.")
        return counts


def _count(value: Value) -> int | None:
    """A value as a number of things, if it is one. Neither infinity nor NaN is."""
    if not isinstance(value, int | float) or not 0 <= value <= LARGEST_NUMBER:
        return None
    return int(value) if value == int(value) else None


def read_gguf(path: Path) -> GGUF:
    """The header of a model, with the tensors of all its parts. Raises NotGGUF."""
    first = _read_file(path)
    tensors = dict(first.tensors)
    for other in parts_of(path)[1:]:
        tensors |= _read_file(other).tensors
    return GGUF(path, first.metadata, first.lengths, tensors)


def parts_of(path: Path) -> list[Path]:
    """The files of a model, of which this is the first, or the only one."""
    part = Part.of(path)
    names = (f"{part.stem}-{n:05}-of-{part.count:05}.gguf" for n in range(2, part.count + 1))
    return [path, *map(path.with_name, names)]


def _read_file(path: Path) -> GGUF:
    try:
        with open(path, "rb", opener=_at_once) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise NotGGUF(f"{path} is not a GGUF file.")
            return _Header(path, file, os.fstat(file.fileno()).st_size).read()
    except FileNotFoundError:
        raise NotGGUF(f"There is no file {path}.") from None
    except OSError as error:
        raise NotGGUF(f"{path} cannot be read: {error.strerror}.") from None
    except (struct.error, ValueError, KeyError, IndexError):
        raise NotGGUF(f"{path} is broken: its header cannot be read.") from None


def _at_once(path: str, flags: int) -> int:
    """Opens a file, and a pipe without waiting for somebody who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


class _Header:
    """Reads one file's header from behind its magic to its end.

    The file is not mapped: one that is cut while it is read would end the process.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._data = bytearray(MAGIC)
        self._at = len(MAGIC)
        self._lengths: dict[str, int] = {}

    def read(self) -> GGUF:
        version = self._number("<I")
        if version not in (2, 3):
            raise NotGGUF(f"{self._path} has version {version} of GGUF, or another byte order.")
        tensors, values = int(self._number("<Q")), int(self._number("<Q"))
        metadata = dict(self._entry() for _ in range(values))
        offsets = dict(self._tensor() for _ in range(tensors))
        return GGUF(self._path, metadata, self._lengths, self._sizes(metadata, offsets))

    def _entry(self) -> tuple[str, Value]:
        key, kind = self._string(), int(self._number("<I"))
        return key, self._array(key) if kind == _ARRAY else self._scalar(kind)

    def _scalar(self, kind: int) -> Scalar:
        return self._string() if kind == _STRING else self._number(_NUMBERS[kind])

    def _array(self, key: str) -> Value:
        kind, length = int(self._number("<I")), int(self._number("<Q"))
        self._lengths[key] = length
        if length <= LONGEST_ARRAY:
            return tuple(self._scalar(kind) for _ in range(length))
        if kind == _STRING:
            self._skip_strings(length)
        else:
            self._skip(length * struct.calcsize(_NUMBERS[kind]))
        return None

    def _tensor(self) -> tuple[str, int]:
        """A tensor's name, and where its data begin."""
        name, dimensions = self._string(), int(self._number("<I"))
        self._skip(8 * dimensions + 4)
        return name, int(self._number("<Q"))

    def _sizes(self, metadata: Mapping[str, Value], offsets: Mapping[str, int]) -> dict[str, int]:
        """From one tensor's start to the next one's, so that no type needs to be known."""
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError(alignment)
        start = -(-self._at // alignment) * alignment
        names = sorted(offsets, key=offsets.__getitem__)
        bounds = [*(offsets[name] for name in names), self._size - start]
        if any(end < begin for begin, end in pairwise(bounds)):
            raise NotGGUF(f"{self._path} is cut off: its last tensors are missing.")
        return {
            name: end - begin for name, (begin, end) in zip(names, pairwise(bounds), strict=True)
        }

    def _number(self, form: str) -> int | float | bool:
        start = self._skip(struct.calcsize(form))
        number: int | float | bool = struct.unpack_from(form, self._data, start)[0]
        return number

    def _string(self) -> str:
        start = self._skip(int(self._number("<Q")))
        return self._data[start : self._at].decode("utf-8", "replace")

    def _skip(self, count: int) -> int:
        """Go on by so many bytes, which are in `_data` then; returns where they begin."""
        start, self._at = self._at, self._at + count
        self._fill(self._at)
        return start

    def _skip_strings(self, count: int) -> None:
        """The same for a whole vocabulary, of which there may be a million strings."""
        length_at, width, at = struct.Struct("<Q").unpack_from, 8, self._at
        for _ in range(count):
            if at + width > len(self._data):
                self._fill(at + width)
            at += width + length_at(self._data, at)[0]
        self._at = at
        self._fill(at)

    def _fill(self, end: int) -> None:
        """Have the file in `_data` up to there."""
        if end > self._size or end - len(self._data) > LARGEST_VALUE:
            raise ValueError("the header says that it goes on beyond its end")
        if end > len(self._data):
            self._data += self._file.read(max(READ_SIZE, end - len(self._data)))


def find_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The models of a folder, by name: one for each file, or for each first part of several.

    One whose name is not UTF-8, or cannot be printed, as one with a line break, is left out: nobody
    could name it.
    """
    for path in sorted(folder.glob("*.gguf")):
        part = Part.of(path)
        if part.number == 1 and part.stem.isprintable():
            yield part.stem, path


def sample_of(path: Path) -> bytes:
    """A digest of a file's size and of pieces of it: hashing a large file whole takes minutes.

    From all over it: a model that was trained a little further may have only some layers changed.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for piece in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE) * piece // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.digest()
