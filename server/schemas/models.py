"""The models that can be named."""

from __future__ import annotations

from typing import Literal

from server.schemas.common import Shown

ModelState = Literal["unloaded", "loading", "ready", "failed"]


class Model(Shown):
    """A model. The last three are this server's own: `error` is why it is in no good state."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int | None
    state: ModelState
    error: str | None


class ModelList(Shown):
    """All models: this list has no pages."""

    object: Literal["list"] = "list"
    data: list[Model]
