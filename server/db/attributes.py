"""Filters over files' attributes, as conditions for SQL; every key and value is bound.

A value compares with values of its own kind only: a number never equals a text, nor true one. What
a file does not have is neither equal to anything nor among anything, so `ne` and `nin` are true.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, exists, false, func, literal, not_, or_, select, true

from server.db import tables
from server.db.tables import core
from server.schemas import ComparisonFilter, CompoundFilter, Filter

_attributes = core(tables.VectorStoreFile).c.attributes

ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
NUMBERS = ("integer", "real")
LARGEST = 2**63 - 1


def matches(filter: Filter) -> ColumnElement[bool]:
    """Whether the filter is true of a file in a vector store."""
    if isinstance(filter, CompoundFilter):
        parts = map(matches, filter.filters)
        return and_(true(), *parts) if filter.type == "and" else or_(false(), *parts)
    if filter.type in ("ne", "nin"):
        return not_(_has(filter, "eq" if filter.type == "ne" else "in"))
    return _has(filter, filter.type)


def _has(filter: ComparisonFilter, type: str) -> ColumnElement[bool]:
    """The file has an attribute of that name of which it is true."""
    attribute = func.json_each(_attributes).table_valued("key", "value", "type")
    compare = _among if type == "in" else _compared
    return exists().where(attribute.c.key == filter.key, *compare(attribute.c, type, filter.value))


def _among(attribute: Any, _: str, values: Any) -> list[ColumnElement[bool]]:
    wanted = func.json_each(orjson.dumps(values).decode()).table_valued("value")
    return [attribute.type.in_(("text", *NUMBERS)), attribute.value.in_(select(wanted.c.value))]


def _compared(attribute: Any, type: str, value: Any) -> list[ColumnElement[bool]]:
    if isinstance(value, bool):
        return [attribute.type == ("true" if value else "false")]
    kinds = ("text",) if isinstance(value, str) else NUMBERS
    return [attribute.type.in_(kinds), ORDERS[type](attribute.value, literal(_bound(value)))]


def _bound(value: str | int | float) -> str | int | float:
    """What of JSON's integers SQLite's cannot hold is a float in its JSON."""
    return float(value) if isinstance(value, int) and abs(value) > LARGEST else value
