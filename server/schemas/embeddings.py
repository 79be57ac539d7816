"""Embeddings of texts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import Field, Tag

from server.schemas.common import Given, Shown, one_of

MOST_TEXTS = 2048

NonEmpty = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[int], Field(min_length=1, fail_fast=True)]


def _kind(value: Any) -> str | None:
    """A list is what its first item says; the others are held to it."""
    if isinstance(value, str):
        return "<string>"
    if not isinstance(value, list):
        return None
    if value and isinstance(value[0], str | list):
        return "<strings>" if isinstance(value[0], str) else "<arrays>"
    return "<tokens>"


class CreateEmbedding(Given):
    """The body of `POST /embeddings`."""

    model: str
    input: Annotated[
        Annotated[NonEmpty, Tag("<string>")]
        | Annotated[
            list[NonEmpty],
            Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True),
            Tag("<strings>"),
        ]
        | Annotated[Tokens, Tag("<tokens>")]
        | Annotated[
            list[Tokens],
            Field(min_length=1, max_length=MOST_TEXTS, fail_fast=True),
            Tag("<arrays>"),
        ],
        one_of(expected="one of a string or an array", member=_kind),
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None

    def texts(self) -> list[str | list[int]]:
        """Each text, as text or as token ids."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [self.input]
        return list(cast("list[str | list[int]]", self.input))


class Embedding(Shown):
    """The vector of one text, as numbers or as base64 of 32-bit ones."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Shown):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Shown):
    """The answer to `POST /embeddings`."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
