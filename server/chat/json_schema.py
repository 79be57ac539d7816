"""JSON Schemas made usable: what can be enforced while a model writes is kept, the rest let go.

For schemas that nobody promised to keep to the letter. Knows no grammar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import orjson

from server.schemas.json_schema import (
    MOST_CHARACTERS,
    MOST_SCHEMAS,
    MOST_STEPS_DOWN,
    are_small_multiples,
    are_types,
    characters_of_patterns,
    is_bound,
    is_composed,
    is_constant,
    is_count,
    is_format,
    is_small_multiple,
)
from server.schemas.patterns import is_plain_pattern
from server.schemas.satisfiable import (
    COUNTS,
    LENGTHS,
    NUMBERS,
    empty_bounds,
    has_choice,
    has_member,
    has_short_least,
)
from server.schemas.schema_tree import LISTED, NAMED, circular, deepest, resolve, tangled, walk

JsonObject = dict[str, Any]

LARGEST: Final = 500_000  # bytes; beyond that nothing of a schema is enforced
MOST_COMBINATIONS: Final = 64  # of choices that meet; a request may have 128 functions
MOST_OPTIONAL: Final = 2_000  # of properties, each of which may be the next at any time
REMEMBERED: Final = 16  # a function's is asked for by the grammar of a turn, and by its reader


def usable(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema that accepts whatever the given one does, and can be enforced.

    Of an object that says which properties it has, and nothing of others, no others are accepted.
    """
    text = orjson.dumps(schema)
    return _usable(text) if len(text) <= LARGEST else _type_alone(schema)


@lru_cache(maxsize=REMEMBERED)
def _usable(text: bytes) -> JsonObject:
    schema = orjson.loads(text)
    loosened: JsonObject = orjson.loads(text)
    found = [node.schema for node in islice(walk(loosened), MOST_SCHEMAS + 1)]
    nodes = [node for node in found if isinstance(node, dict)]
    if len(found) > MOST_SCHEMAS or characters_of_patterns(nodes) > MOST_CHARACTERS:
        return _type_alone(schema)
    for node in nodes:
        _loosen(node)
    for node in nodes:
        if not has_member(loosened, node):
            del node["anyOf"]
    _let_go_of_references(loosened, nodes)
    if deepest(loosened) > MOST_STEPS_DOWN or circular(loosened):
        return _type_alone(schema)
    _let_go_of_factors(nodes)
    if (
        _let_go_of_optional(nodes)
        | _let_go_of_tangled(loosened)
        | _let_go_of_combinations(loosened, nodes)
    ):
        nodes = [node.schema for node in walk(loosened) if isinstance(node.schema, dict)]
        _let_go_of_references(loosened, nodes)
    if not any(map(is_composed, nodes)):
        for node in filter(_declares_all, nodes):
            node.setdefault("additionalProperties", False)
    return loosened


def _type_alone(schema: Mapping[str, Any]) -> JsonObject:
    return {"type": "object"} if schema.get("type") == "object" else {}


def _let_go_of_references(root: JsonObject, nodes: list[JsonObject]) -> None:
    """Those that lead nowhere, to what is no schema, or back to themselves."""
    places = set(map(id, nodes))
    for node in nodes:
        if "$ref" in node and id(resolve(root, node["$ref"])) not in places:
            del node["$ref"]
    for found in circular(root):
        found.schema.pop("$ref", None)


def _let_go_of_factors(nodes: list[JsonObject]) -> None:
    """All, where they are too much together: which ones will meet is not looked for."""
    if not are_small_multiples(nodes):
        for node in nodes:
            node.pop("multipleOf", None)


def _let_go_of_optional(nodes: list[JsonObject]) -> bool:
    """The properties of the objects with the most that may be absent, where these are too many.

    Tells whether they were.
    """
    counts = [
        len(node.get("properties", {}).keys() - set(node.get("required", ()))) for node in nodes
    ]
    excess = sum(counts) - MOST_OPTIONAL
    for count, node in sorted(zip(counts, nodes, strict=True), key=itemgetter(0), reverse=True):
        if excess <= 0:
            break
        node.pop("properties", None)
        node.pop("additionalProperties", None)
        excess -= count
    return sum(counts) > MOST_OPTIONAL


def _let_go_of_tangled(root: JsonObject) -> bool:
    """What leads back to itself, where more is said beside it. Tells whether there was some."""
    found = tangled(root)
    for node, word in found:
        node.schema.pop(word, None)
    return bool(found)


def _let_go_of_combinations(root: JsonObject, nodes: list[JsonObject]) -> bool:
    """Of choices that meet each is looked at with each: all but one, if that is too much.

    Tells whether it was.
    """
    choices = _Choices(root)
    if sum(map(choices.combinations, nodes)) <= MOST_COMBINATIONS:
        return False
    for node in nodes:
        meeting = [key for key in ("anyOf", "oneOf", "$ref", "allOf") if key in node]
        for key in meeting[1:]:
            del node[key]
        if "allOf" in node:
            del node["allOf"][1:]
    return True


class _Choices:
    """How many there are in the schemas of one, whose references lead somewhere and in no ring."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._ways: dict[int, int] = {}

    def combinations(self, node: JsonObject) -> int:
        """Of its own choices, where several meet."""
        several = [ways for ways in self._meeting(node) if ways > 1]
        return math.prod(several) if len(several) > 1 else 0

    def _meeting(self, node: JsonObject) -> Iterator[int]:
        for key in ("anyOf", "oneOf"):
            if key in node:
                yield sum(map(self._ways_of, node[key]))
        yield from map(self._ways_of, node.get("allOf", ()))
        if "$ref" in node:
            yield self._ways_of(resolve(self._root, node["$ref"]))

    def _ways_of(self, node: Any) -> int:
        """More than is of interest is not counted."""
        if not isinstance(node, dict):
            return 1
        if id(node) not in self._ways:
            ways = math.prod(self._meeting(node))
            self._ways[id(node)] = min(ways, MOST_SCHEMAS)
        return self._ways[id(node)]


def _loosen(node: JsonObject) -> None:
    has_patterns = "patternProperties" in node
    if isinstance(node.get("items"), list):  # as it was written before prefixItems
        node["prefixItems"] = node.pop("items")
    for key in list(node):
        keeps = _KEPT.get(key)
        if keeps is None or not keeps(node[key]):
            del node[key]
    if "pattern" in node and "format" in node:
        del node["format"]
    _let_go_of_nothing(node)
    if len(node.get("patternProperties", {})) > 1:  # they may overlap
        del node["patternProperties"]
    if has_patterns and "patternProperties" not in node:
        _open(node)
    if node.get("additionalProperties") is False and _undeclared(node):
        del node["additionalProperties"]


def _open(node: JsonObject) -> None:
    """Let it have others than the properties that it declares, if it declares some."""
    node.pop("additionalProperties", None)
    if "properties" in node:
        node["additionalProperties"] = True


def _let_go_of_nothing(node: JsonObject) -> None:
    """Bounds and choices that leave no value at all, and rules that may leave no choice."""
    empty = {key for pair in empty_bounds(node) for key in pair}
    if not node.keys().isdisjoint({"enum", "const"}):
        empty |= _RULES_OF_TEXT_AND_PARTS
    if not has_choice(node):
        empty |= {"enum", "const"}
    for key in empty & node.keys():
        del node[key]
    if not has_short_least(node):
        del node["minLength"]


_RULES_OF_TEXT_AND_PARTS: Final = frozenset(
    ("pattern", "format", "properties", "patternProperties", "required", "additionalProperties")
) | {"items", "prefixItems"}


def _declares_all(node: JsonObject) -> bool:
    """Whether its properties seem to be all that it is to have."""
    return "properties" in node and "patternProperties" not in node and not _undeclared(node)


def _undeclared(node: JsonObject) -> set[str]:
    return set(node.get("required", ())) - set(node.get("properties", ()))


def _is_schema(value: object) -> bool:
    return isinstance(value, dict | bool)


def _are_schemas(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _are_plain_patterns(value: object) -> bool:
    return isinstance(value, dict) and _are_schemas(value) and all(map(is_plain_pattern, value))


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_choice(value: object) -> bool:
    return isinstance(value, list) and bool(value) and is_constant(value)


def _is_list_of_schemas(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


_KEPT: Final[dict[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(NAMED, _are_schemas),
    **dict.fromkeys(LISTED, _is_list_of_schemas),
    **dict.fromkeys(NUMBERS, is_bound),
    **dict.fromkeys(COUNTS, is_count),
    **dict.fromkeys(LENGTHS, is_count),
    **dict.fromkeys(("items", "additionalProperties"), _is_schema),
    "patternProperties": _are_plain_patterns,
    "required": _are_names,
    "type": are_types,
    "enum": _is_choice,
    "const": is_constant,
    "$ref": lambda value: isinstance(value, str),
    "pattern": is_plain_pattern,
    "format": is_format,
    "multipleOf": is_small_multiple,
}
"""What is kept of a schema, and what it must look like for that."""
