"""What a function's schema says of one parameter, as far as it decides how its value is written.

Where values stand between tags, a string is written as it is, and anything else as JSON. So is a
string that has to keep rules: what JSON's grammar cannot say of bare text, it can say of a string.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from server.chat.json_schema import usable
from server.chat.values import ToolSpec
from server.schemas.satisfiable import COUNTS, LENGTHS, NUMBERS, kind_of, listed
from server.schemas.schema_tree import ALONE, DEFINITIONS, referred, resolve, walk

Types = frozenset[str]

MOST_PARTS: Final = 64  # of a schema that are looked at for one parameter
ANYTHING: Types = frozenset()
ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}

_ELSEWHERE: Final = frozenset({"anyOf", "oneOf", "$ref"})  # where a schema says more of a value
_RULES: Final = frozenset(
    (*ALONE, *COUNTS, *NUMBERS, *LENGTHS, "multipleOf", "pattern", "format")
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
    def is_json(self) -> bool:
        """Whether it can be nothing but JSON: its types are known, and bare text is not of them."""
        return bool(self.types) and not self.is_bare and not self.takes_any_text

    @property
    def takes_any_text(self) -> bool:
        """Whether whatever stands between its tags is a value of it, in JSON or not."""
        return self.free and (not self.types or "string" in self.types)


def parameters_of(tool: ToolSpec, *, loose: bool = False) -> Mapping[str, Any]:
    """The schema that a function's arguments are held to: of no other is one that is strict."""
    if tool.strict:
        return {"additionalProperties": False, **referred(tool.schema)}
    return referred(usable(ANY_OBJECT if loose else {**tool.schema, **ANY_OBJECT}))


def parameter_of(schema: Mapping[str, Any], key: str) -> Parameter:
    """The parameter of this name, of a function with these parameters."""
    properties = schema.get("properties")
    part = properties.get(key) if isinstance(properties, Mapping) else None
    if choices := _choices(part):
        return Parameter(frozenset({"string"}), False, choices)
    found: set[str] = set()
    free, known = True, True
    for number, each in enumerate(_parts(part, schema)):
        free = free and not _has_rules(each)
        known = known and number < MOST_PARTS and (bool(_kinds(each)) or bool(_branches(each, {})))
        found |= _kinds(each)
    return Parameter(frozenset(found) if known else ANYTHING, free)


def schema_of(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The parameter's schema on its own: its references lead where they did."""
    if not isinstance(schema["properties"][key], dict):
        return {}
    part = _alone(schema["properties"][key])
    places: dict[str, str] = {}
    moved: dict[str, Any] = {}
    waiting = [part]
    while waiting:
        for reference, node in _references(waiting.pop()):
            if reference not in places:
                places[reference] = name = f"{len(places)}"
                moved[name] = _alone(resolve(schema, reference))
                waiting.append(moved[name])
            node["$ref"] = f"#/$defs/{places[reference]}"
    return {**part, "$defs": moved} if moved else part


def _alone(schema: Any) -> Any:
    """A copy without what it only defines."""
    copied = orjson.loads(orjson.dumps(schema))
    if not isinstance(copied, dict):
        return copied
    return {word: value for word, value in copied.items() if word not in DEFINITIONS}


def _references(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for node in walk(schema):
        if isinstance(node.schema, dict) and "$ref" in node.schema:
            yield node.schema["$ref"], node.schema


def _choices(part: Any) -> tuple[str, ...]:
    shape = part if isinstance(part, Mapping) else {}
    if shape.keys() & (_RULES | _ELSEWHERE) not in ({"enum"}, {"const"}):
        return ()
    if "string" not in listed(shape.get("type", "string")):
        return ()
    choices = shape.get("enum", [shape.get("const")])
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


def _has_rules(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    return bool(part.keys() & (_RULES | _ELSEWHERE if "type" in part else _RULES))


def _kinds(part: Any) -> set[str]:
    if not isinstance(part, Mapping):
        return set()
    if "type" in part:
        return set(map(str, listed(part["type"])))
    values = listed(part["enum"]) if "enum" in part else [part["const"]] if "const" in part else []
    return {kind_of(value) for value in values}
