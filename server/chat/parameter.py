"""What a function's schema says of one parameter, as far as it decides how its value is written.

Where values stand between tags, a string is written as it is, and anything else as JSON. So is a
string that has to keep rules: what JSON's grammar cannot say of bare text, it can say of a string.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from server.schemas.json_schema import ALONE, resolve, walk
from server.schemas.satisfiable import COUNTS, LENGTHS, NUMBERS, kind_of

Types = frozenset[str]

MOST_PARTS: Final = 64  # of a schema that are looked at for one parameter
ANYTHING: Types = frozenset()

_WHOLE: Final = "#/$defs/whole"
_RULES: Final = frozenset(
    (*ALONE, *COUNTS, *LENGTHS, *NUMBERS, "multipleOf", "pattern", "format")
) | {"enum", "const", "properties", "patternProperties", "prefixItems", "required", "allOf"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """`types` are empty if they cannot be told. One that is `free` has no rules but its types."""

    types: Types = ANYTHING
    free: bool = True
    choices: tuple[str, ...] = ()  # if it is one of some strings

    @property
    def is_bare(self) -> bool:
        """Whether its value is a string, written as it is."""
        return bool(self.choices) or (self.free and self.types == {"string"})

    @property
    def takes_any_text(self) -> bool:
        """Whether whatever stands between its tags is a value of it, in JSON or not."""
        return self.free and (not self.types or "string" in self.types)


def parameter_of(schema: Mapping[str, Any], key: str) -> Parameter:
    """The parameter of this name, of a function with these parameters."""
    properties = schema.get("properties")
    part = properties.get(key) if isinstance(properties, Mapping) else None
    if choices := _choices(part):
        return Parameter(frozenset({"string"}), False, choices)
    found: set[str] = set()
    free, known = True, True
    for number, each in enumerate(_parts(part, schema)):
        free = free and not (isinstance(each, Mapping) and _RULES & each.keys())
        known = known and number < MOST_PARTS and (bool(_kinds(each)) or bool(_branches(each, {})))
        found |= _kinds(each)
    return Parameter(frozenset(found) if known else ANYTHING, free)


def schema_of(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The parameter's schema on its own: its references lead where they did."""
    part = schema["properties"][key]
    if not isinstance(part, dict):
        return {}
    if not any(isinstance(node.schema, dict) and "$ref" in node.schema for node in walk(part)):
        return part
    whole = orjson.loads(orjson.dumps(schema))
    for node in walk(whole):
        if isinstance(node.schema, dict) and "$ref" in node.schema:
            node.schema["$ref"] = _WHOLE + node.schema["$ref"].removeprefix("#")
    return {**whole["properties"][key], "$defs": {"whole": whole}}


def _choices(part: Any) -> tuple[str, ...]:
    shape = part if isinstance(part, Mapping) else {}
    choices = shape.get("enum", [shape["const"]] if "const" in shape else [])
    if isinstance(choices, list) and all(isinstance(choice, str) for choice in choices):
        return tuple(choices)
    return ()


def _parts(part: Any, root: Mapping[str, Any]) -> Iterator[Any]:
    """The schema and those that it may be instead, and one too many if there are too many."""
    waiting = [part]
    for _ in range(MOST_PARTS + 1):
        if not waiting:
            return
        part = waiting.pop()
        yield part
        waiting += _branches(part, root)


def _branches(part: Any, root: Mapping[str, Any]) -> list[Any]:
    if not isinstance(part, Mapping) or "type" in part:
        return []
    if "$ref" in part:
        return [resolve(root, part["$ref"])]
    branches = part.get("anyOf") or part.get("oneOf")
    return branches if isinstance(branches, list) else []


def _kinds(part: Any) -> set[str]:
    if not isinstance(part, Mapping):
        return set()
    if "type" in part:
        return set(map(str, _listed(part["type"])))
    values = _listed(part["enum"]) if "enum" in part else [part["const"]] if "const" in part else []
    return {kind_of(value) for value in values}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
