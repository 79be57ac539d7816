"""Whether a JSON Schema leaves anything: between its bounds, and of its choices for its type."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from math import ceil
from typing import Any, Final

LENGTHS: Final = ("minLength", "maxLength")
COUNTS: Final = ("minItems", "maxItems")
NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")

_NUMERIC: Final = frozenset({"integer", "number"})
_BOUNDED: Final = {
    COUNTS: frozenset({"array"}),
    LENGTHS: frozenset({"string"}),
    ("minimum", "maximum"): _NUMERIC,
    ("minimum", "exclusiveMaximum"): _NUMERIC,
    ("exclusiveMinimum", "maximum"): _NUMERIC,
    ("exclusiveMinimum", "exclusiveMaximum"): _NUMERIC,
}
"""Bounds that go together, and the types that they are of."""


def kind_of(value: Any) -> str:
    """The type that a value has in JSON Schema."""
    if isinstance(value, float) and value.is_integer():
        return "integer"
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


def is_of(value: Any, types: Collection[str]) -> bool:
    """Whether a value is of one of these types: of any, if there are none."""
    kind = kind_of(value)
    return not types or kind in types or (kind == "integer" and "number" in types)


def listed(value: Any) -> list[Any]:
    """Several of what may also stand alone, such as types."""
    return value if isinstance(value, list) else [value]


def empty_bounds(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The pairs of bounds between which nothing is. All bounds must be numbers."""
    types = listed(schema.get("type", list(_NUMERIC | {"array", "string"})))
    for (low, high), kinds in _BOUNDED.items():
        if low in schema and high in schema and not kinds.isdisjoint(types):
            step = _step(schema, types) if kinds is _NUMERIC else None
            if _is_empty(schema, low, high, step):
                yield low, high


def has_choice(schema: Mapping[str, Any]) -> bool:
    """Whether one of its choices, if it gives any, is of its type."""
    if "const" in schema:
        constant = schema["const"]
        choices = [constant] if constant in schema.get("enum", [constant]) else []
    elif "enum" in schema:
        choices = schema["enum"]
    else:
        return True
    types = listed(schema.get("type", []))
    return any(is_of(choice, types) for choice in choices)


def _step(schema: Mapping[str, Any], types: list[Any]) -> Fraction | None:
    """What all its numbers are multiples of."""
    factor = Fraction(repr(schema["multipleOf"])) if "multipleOf" in schema else None
    if "number" in types:
        return factor
    return Fraction(factor.numerator if factor else 1)


def _is_empty(schema: Mapping[str, Any], low: str, high: str, step: Fraction | None) -> bool:
    above, below = low.startswith("exclusive"), high.startswith("exclusive")
    if step is None:
        least, most = schema[low], schema[high]
        return bool(least >= most if above or below else least > most)
    least, most = (Fraction(repr(schema[bound])) for bound in (low, high))
    first = ceil(least / step) * step
    if above and first == least:
        first += step
    return first >= most if below else first > most
