"""Writes GGUF files, of version 3. Knows the format, and nothing of what a model needs in it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

ALIGNMENT: Final = 32  # bytes
BLOCK: Final = 32  # numbers that share a scale in Q8_0
_STRING, _ARRAY = 8, 9

Value = str | bool | int | float | np.uint16 | np.int32
Metadata = Mapping[str, Value | Sequence[Value]]


@dataclass(frozen=True, slots=True)
class Q8:
    """A tensor as Q8_0: of each 32 numbers of a row a scale of 16 bits and 32 signed bytes."""

    shape: tuple[int, ...]
    blocks: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, tensor: npt.NDArray[np.float32]) -> Q8:
        """As llama.cpp rounds them. Rows must be a multiple of 32 long."""
        blocks = tensor.reshape(-1, BLOCK)
        scales = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
        with np.errstate(divide="ignore"):
            scaled = blocks * np.where(scales > 0, 1 / scales, 0)
        rounded = np.copysign(_rounded(np.abs(scaled)), scaled).astype(np.int8)
        parts = (scales.astype("<f2").view(np.uint8), rounded.view(np.uint8))
        return cls(tensor.shape, np.concatenate(parts, axis=1))


def _rounded(sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Halves go up, as in C."""
    whole = np.floor(sizes)
    return whole + np.floor(2 * (sizes - whole))


Tensor = npt.NDArray[np.float32] | npt.NDArray[np.float16] | Q8


def write_gguf(path: Path, metadata: Metadata, tensors: Mapping[str, Tensor]) -> None:
    """The file, with whole numbers as uint32 and arrays of them as int32. Raises OSError."""
    head, at = b"", 0
    for name, tensor in tensors.items():
        kind, size = _stored_as(tensor)
        shape = tensor.shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", kind, at)
        at += size + -size % ALIGNMENT
    values = b"".join(_string(key) + _value(value) for key, value in metadata.items())
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    with path.open("wb") as file:
        file.write(_padded(start + values + head))
        for tensor in tensors.values():
            file.write(_padded(_data(tensor)))


def _stored_as(tensor: Tensor) -> tuple[int, int]:
    """The number of its type, and its bytes."""
    if isinstance(tensor, Q8):
        return 8, tensor.blocks.nbytes
    return {"f4": 0, "f2": 1}[tensor.dtype.str[1:]], tensor.nbytes


def _data(tensor: Tensor) -> bytes:
    if isinstance(tensor, Q8):
        return tensor.blocks.tobytes()
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value | Sequence[Value]) -> bytes:
    if isinstance(value, Sequence) and not isinstance(value, str):
        kind, _ = _scalar(value[0], signed=True)
        items = b"".join(_scalar(item, signed=True)[1] for item in value)
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + items
    kind, data = _scalar(value)
    return struct.pack("<I", kind) + data


def _scalar(value: Value, *, signed: bool = False) -> tuple[int, bytes]:
    """The number of its type, and its bytes."""
    if isinstance(value, str):
        return _STRING, _string(value)
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return (5, struct.pack("<i", value)) if signed else (4, struct.pack("<I", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    kind = {"u2": 2, "i4": 5}[value.dtype.str[1:]]
    return kind, value.astype(value.dtype.newbyteorder("<")).tobytes()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
