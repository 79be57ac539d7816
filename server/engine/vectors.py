"""Vectors of numbers, and how they travel as text."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


def normalised(vector: Vector) -> Vector:
    """Of length 1, unless it is zero."""
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length > 0 else vector


def packed(vector: Vector) -> str:
    """Base64 of its 32-bit numbers, which is also what the wire has."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def unpacked(text: str) -> Vector:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
