"""Whether a JSON Schema leaves anything: between its bounds, and of its choices within them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from math import ceil, inf
from typing import Any, Final

from server.schemas.patterns import lengths
from server.schemas.schema_tree import Schema, resolve

LENGTHS: Final = ("minLength", "maxLength")
COUNTS: Final = ("minItems", "maxItems")
NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")

LONGEST_LEAST: Final = 16  # characters that a text with a pattern or a format must have

_NUMERIC: Final = frozenset({"integer", "number"})
_SIZES: Final = {"string": LENGTHS, "array": COUNTS}
_BOUNDED: Final = {
    COUNTS: frozenset({"array"}),
    LENGTHS: frozenset({"string"}),
    ("minimum", "maximum"): _NUMERIC,
    ("minimum", "exclusiveMaximum"): _NUMERIC,
    ("exclusiveMinimum", "maximum"): _NUMERIC,
    ("exclusiveMinimum", "exclusiveMaximum"): _NUMERIC,
}
"""Bounds that go together, and the types that they are of."""

_FORMATTED: Final = {
    "date": (10, 10),
    "date-time": (20, inf),
    "time": (9, inf),
    "duration": (3, inf),
    "email": (3, inf),
    "hostname": (1, 253),
    "ipv4": (7, 15),
    "ipv6": (2, 45),
    "uuid": (36, 36),
}
"""How many characters texts in these formats have, at least and at most."""


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


def empty_bounds(schema: Schema) -> Iterator[tuple[str, str]]:
    """The pairs of bounds between which nothing is.

    All bounds must be numbers, and a pattern a plain one.
    """
    types = listed(schema.get("type", list(_NUMERIC | {"array", "string"})))
    if "string" in types:
        yield from _empty_texts(schema)
    for (low, high), kinds in _BOUNDED.items():
        if low in schema and high in schema and not kinds.isdisjoint(types):
            step = _step(schema, types) if kinds is _NUMERIC else None
            if _is_empty(schema, low, high, step):
                yield low, high


def _empty_texts(schema: Schema) -> Iterator[tuple[str, str]]:
    """The rules for texts of which those of the one are all too short or too long for the other."""
    widths = {}
    if "pattern" in schema and not schema.keys().isdisjoint({*LENGTHS, "format"}):
        widths["pattern"] = lengths(schema["pattern"])
    if "format" in schema:
        widths["format"] = _FORMATTED.get(schema["format"], (0, inf))
    for word, (least, most) in widths.items():
        if schema.get("minLength", least) > most:
            yield "minLength", word
        if schema.get("maxLength", most) < least:
            yield "maxLength", word
    if len(widths) > 1 and max(low for low, _ in widths.values()) > min(
        high for _, high in widths.values()
    ):
        yield "pattern", "format"


def has_short_least(schema: Schema) -> bool:
    """Whether it can soon be told that some text is as long as it must be, by all its rules."""
    if schema.keys().isdisjoint({"pattern", "format"}):
        return True
    always = 0 if "pattern" in schema else _FORMATTED.get(schema["format"], (0, inf))[0]
    return bool(schema.get("minLength", 0) <= max(LONGEST_LEAST, always))


def has_choice(schema: Schema) -> bool:
    """Whether one of its choices, if it gives any, is of its type and within its bounds.

    All bounds must be numbers.
    """
    if "const" in schema:
        constant = schema["const"]
        choices = [constant] if _is_among(constant, schema.get("enum", [constant])) else []
    elif "enum" in schema:
        choices = schema["enum"]
    else:
        return True
    types = listed(schema.get("type", []))
    return any(is_of(choice, types) and _is_within(choice, schema) for choice in choices)


def has_member(root: Schema, schema: Schema) -> bool:
    """Whether a member of its `anyOf`, if it has any, may be of its type."""
    types, members = _kinds(schema), schema.get("anyOf")
    if not types or not members:
        return True
    shapes = (
        resolve(root, each["$ref"]) if "$ref" in each else each
        for each in members
        if isinstance(each, Mapping)
    )
    kinds = [_kinds(shape) for shape in shapes if isinstance(shape, Mapping)]
    return len(kinds) < len(members) or any(not each or each & types for each in kinds)


def _kinds(schema: Schema) -> set[str]:
    """The types that it names, or those of the values; whole numbers are numbers, too."""
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        return set(map(kind_of, values))
    kinds = {kind for kind in listed(schema.get("type")) if isinstance(kind, str)}
    return kinds | {"integer"} if "number" in kinds else kinds


def _is_among(value: Any, values: Collection[Any]) -> bool:
    return any(each == value and kind_of(each) == kind_of(value) for each in values)


def _is_within(value: Any, schema: Schema) -> bool:
    kind = kind_of(value)
    if kind in _SIZES:
        least, most = _SIZES[kind]
        return bool(schema.get(least, 0) <= len(value) <= schema.get(most, len(value)))
    return kind not in _NUMERIC or (_is_between(value, schema) and _is_multiple(value, schema))


def _is_between(value: float, schema: Schema) -> bool:
    return bool(
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or schema["exclusiveMinimum"] < value)
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
    )


def _is_multiple(value: float, schema: Schema) -> bool:
    if "multipleOf" not in schema:
        return True
    return Fraction(repr(value)) % Fraction(repr(schema["multipleOf"])) == 0


def _step(schema: Schema, types: list[Any]) -> Fraction | None:
    """What all its numbers are multiples of."""
    factor = Fraction(repr(schema["multipleOf"])) if "multipleOf" in schema else None
    if "number" in types:
        return factor
    return Fraction(factor.numerator if factor else 1)


def _is_empty(schema: Schema, low: str, high: str, step: Fraction | None) -> bool:
    above, below = low.startswith("exclusive"), high.startswith("exclusive")
    if step is None:
        least, most = schema[low], schema[high]
        return bool(least >= most if above or below else least > most)
    least, most = (Fraction(repr(schema[bound])) for bound in (low, high))
    first = ceil(least / step) * step
    if above and first == least:
        first += step
    return first >= most if below else first > most
