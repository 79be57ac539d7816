"""The models that can be named."""

from __future__ import annotations

from typing import Literal

from server.schemas.common import Shown


class Model(Shown):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Shown):
    """All models: this list has no pages."""

    object: Literal["list"] = "list"
    data: list[Model]
