"""Wire objects to bytes, as the hosted API writes them."""

from __future__ import annotations

import orjson
from pydantic import BaseModel

from server.schemas.common import JsonObject


def to_wire(model: BaseModel) -> JsonObject:
    """The JSON object of a model, its keys in the wire's order."""
    return model.model_dump(mode="json", by_alias=True)


def pretty(value: BaseModel | JsonObject) -> bytes:
    """The form of response bodies: two spaces of indentation, raw UTF-8, no newline at the end."""
    wire = to_wire(value) if isinstance(value, BaseModel) else value
    return orjson.dumps(wire, option=orjson.OPT_INDENT_2)


def compact(value: BaseModel | JsonObject) -> bytes:
    """The form of stream events: one line, raw UTF-8."""
    return orjson.dumps(to_wire(value) if isinstance(value, BaseModel) else value)
