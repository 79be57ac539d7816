"""Pieces of a text that search finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text[start:end]`, in characters; `page` counts from 1, None where there are no pages."""

    start: int
    end: int
    tokens: int
    page: int | None
