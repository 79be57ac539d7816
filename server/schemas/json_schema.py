"""JSON Schemas as clients give them: walked without recursion, and held to the strict subset.

Refusals are in the hosted API's words where those are known. What a schema is enforced with is not
known here, only what cannot be enforced by anybody in reasonable time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from typing import Any, Final
from urllib.parse import unquote

import orjson
from pydantic_core import PydanticCustomError

from server.schemas.satisfiable import (
    COUNTS,
    LENGTHS,
    LONGEST_LEAST,
    NUMBERS,
    empty_bounds,
    has_choice,
    has_member,
    has_short_least,
    listed,
)

Schema = Mapping[str, Any]
Path = tuple[str, ...]

TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")
FORMATS: Final = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)

# Where other schemas stand in a schema: by name, in a list, alone.
NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")
LISTED: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
ALONE: Final = ("items", "additionalProperties")
UNNAMED_ROOT: Final = ("anyOf", "oneOf", "allOf", "enum", "not")

ANNOTATIONS: Final = ("$schema", "$comment", "title", "description")
DEFINITIONS: Final = ("$defs", "definitions")
REFERENCES: Final = ("$ref", *DEFINITIONS)
BESIDE_ROOT_REFERENCE: Final = frozenset(("type", *REFERENCES, *ANNOTATIONS))
CHOICES: Final = ("anyOf", "enum", "const")
PARTS: Final = ("properties", "required", "additionalProperties", "items", *COUNTS)
VALUES: Final = ("type", "pattern", "format", "multipleOf", *LENGTHS, *NUMBERS)
ASSERTIONS: Final = frozenset(("multipleOf", "properties", "patternProperties", "items"))
# Of values that are listed, nobody looks at what else these leave.
NOT_BESIDE_VALUES: Final = frozenset(
    ("pattern", "format", "anyOf", "properties", "required", "additionalProperties", "items")
)
PERMITTED: Final = frozenset((*VALUES, *PARTS, *CHOICES, *REFERENCES, *ANNOTATIONS))

MOST_SCHEMAS: Final = 15_000
MOST_PROPERTIES: Final = 5_000
MOST_LEVELS: Final = 10
MOST_STEPS_DOWN: Final = 200  # along references, too: what reads schemas calls itself at each
MOST_CHARACTERS: Final = 120_000
MOST_CHARACTERS_OF_REFERENCES: Final = 500_000
MOST_ENUM_VALUES: Final = 1_000
MOST_REPEATS: Final = 100_000
LARGEST_BOUND: Final = 10**16
# Beyond these, an automaton that checks them as text comes in is too large.
LARGEST_MULTIPLE: Final = 10_000
MOST_REMAINDERS: Final = 20_000  # of all factors in a schema
LONGEST_PATTERN: Final = 1_000
MOST_PATTERN_STEPS: Final = 10_000


class SchemaRefused(Exception):
    """The schema cannot be enforced; the text says where and why."""


_INDEX: Final = re.compile("0|[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """A schema, and where it stands in another. `level` counts the objects that it lies in."""

    schema: Any
    parent: Node | None = None
    steps: Path = ()
    level: int = 0

    @property
    def path(self) -> Path:
        """Put together only when it is told: schemas may be deep."""
        steps: list[str] = []
        node: Node | None = self
        while node is not None:
            steps += reversed(node.steps)
            node = node.parent
        return tuple(reversed(steps))


def walk(schema: Any) -> Iterator[Node]:
    """The schema itself and all within it, from the outside, in their order."""
    trail = [iter([Node(schema)])]
    while trail:
        node = next(trail[-1], None)
        if node is None:
            trail.pop()
        else:
            yield node
            trail.append(_within(node))


def _within(node: Node) -> Iterator[Node]:
    if not isinstance(node.schema, dict):
        return
    for key, value in node.schema.items():
        level = node.level + (key == "properties")
        if key in NAMED and isinstance(value, dict):
            for name, part in value.items():
                yield Node(part, node, (key, name), level)
        elif (key in LISTED or key == "items") and isinstance(value, list):
            for place, part in enumerate(value):
                yield Node(part, node, (key, str(place)), level)
        elif key in ALONE and isinstance(value, dict):
            yield Node(value, node, (key,), level)


def resolve(root: Schema, reference: Any) -> Any:
    """What a reference within the schema points at; None if there is nothing."""
    if not isinstance(reference, str) or not re.fullmatch("#(/.*)?", reference, re.DOTALL):
        return None
    found: Any = root
    for part in unquote(reference).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and _INDEX.fullmatch(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def circular(root: Schema) -> list[Node]:
    """The schemas whose reference leads back to themselves, with no text in between.

    Of each ring one, though rings that have a part in common may count as one.
    """
    found: list[Node] = []
    seen: set[int] = set()
    for start in walk(root):
        if isinstance(start.schema, dict) and id(start.schema) not in seen:
            _follow(root, start, seen, found)
    return found


def _follow(root: Schema, start: Node, seen: set[int], found: list[Node]) -> None:
    """Depth first, along what says something of the same value."""
    trail = [(start, _alike(root, start))]
    on_trail = {id(start.schema)}
    seen.add(id(start.schema))
    while trail:
        node, ways = trail[-1]
        following = next(ways, None)
        if following is None:
            trail.pop()
            on_trail.discard(id(node.schema))
        elif id(following.schema) in on_trail:
            found.append(_referring(following))
        elif id(following.schema) not in seen:
            seen.add(id(following.schema))
            on_trail.add(id(following.schema))
            trail.append((following, _alike(root, following)))


def _referring(node: Node) -> Node:
    """The last one on the way to it that refers to another: what is named has a step."""
    while node.steps and node.parent is not None:
        node = node.parent
    return node.parent or node


def _alike(root: Schema, node: Node) -> Iterator[Node]:
    target = resolve(root, node.schema.get("$ref"))
    if isinstance(target, dict):
        yield Node(target, node)
    for key in ("anyOf", "oneOf", "allOf"):
        members = node.schema.get(key)
        for place, member in enumerate(members if isinstance(members, list) else ()):
            if isinstance(member, dict):
                yield Node(member, node, (key, str(place)))


def deepest(root: Schema) -> int:
    """How many schemas one is in at most, going into each once, along references, too."""
    seen = {id(root)}
    trail = [_further(root, Node(root))]
    most = 1
    while trail:
        following = next(trail[-1], None)
        if following is None:
            trail.pop()
        elif id(following.schema) not in seen:
            seen.add(id(following.schema))
            trail.append(_further(root, following))
            most = max(most, len(trail))
    return most


def _further(root: Schema, node: Node) -> Iterator[Node]:
    yield from (part for part in _within(node) if part.steps[0] not in DEFINITIONS)
    if isinstance(node.schema, dict):
        target = resolve(root, node.schema.get("$ref"))
        if isinstance(target, dict):
            yield Node(target, node)


def are_small_multiples(schemas: Sequence[Schema]) -> bool:
    """Whether multiples of each of their factors, and of all that may meet, are told by little."""
    given = {schema["multipleOf"] for schema in schemas if "multipleOf" in schema}
    factors = [Fraction(repr(factor)) for factor in given]
    if any(map(is_composed, schemas)):
        numerator = math.lcm(*(factor.numerator for factor in factors))
        denominator = math.lcm(*(factor.denominator for factor in factors))
        return max(numerator, denominator) <= LARGEST_MULTIPLE
    return sum(max(f.numerator, f.denominator) for f in factors) <= MOST_REMAINDERS


def is_composed(schema: Schema) -> bool:
    """Whether it is met together with others: what they say of one value adds up."""
    choices = schema.keys() & {"anyOf", "oneOf", "allOf", "$ref"}
    return "allOf" in choices or bool(choices and schema.keys() & ASSERTIONS)


def check_strict(schema: Schema) -> None:
    """Whether the model can be held to it. Raises SchemaRefused."""
    _check_root(schema)
    nodes = list(islice(walk(schema), MOST_SCHEMAS + 1))
    _check_size(nodes)
    places = {id(node.schema) for node in nodes if isinstance(node.schema, dict)}
    for node in nodes:
        if problem := _problem(schema, node, places):
            raise SchemaRefused(f"In context={node.path}, {problem}")
    schemas = [node.schema for node in nodes]
    if not are_small_multiples(schemas):
        raise SchemaRefused("the factors of 'multipleOf' are too many and too large together.")
    if (steps := deepest(schema)) > MOST_STEPS_DOWN:
        raise SchemaRefused(f"{steps} levels of references exceeds limit of {MOST_STEPS_DOWN}.")
    for node in circular(schema):
        raise SchemaRefused(
            f"In context={node.path}, the reference '{node.schema['$ref']}' leads back to itself."
        )


def require_strict(schema: Schema, owner: str) -> None:
    """For validators: the same check, of a schema that belongs to something with a name."""
    try:
        check_strict(schema)
    except SchemaRefused as refusal:
        context = {"owner": owner, "problem": str(refusal)}
        text = "Invalid schema for {owner}: {problem}"
        raise PydanticCustomError("schema_refused", text, context) from refusal


def _check_root(schema: Schema) -> None:
    kind = schema.get("type")
    if kind != "object":
        told = '"None"' if kind is None else f'"{kind}"'
        raise SchemaRefused(
            f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {told}'."
        )
    if not schema.keys().isdisjoint(UNNAMED_ROOT):
        raise SchemaRefused(
            "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' "
            "at the top level."
        )


def _check_size(nodes: Sequence[Node]) -> None:
    for count, most, what in _sizes(nodes):
        if count > most:
            raise SchemaRefused(f"{count} {what} exceeds limit of {most}.")


def _sizes(nodes: Sequence[Node]) -> Iterator[tuple[int, int, str]]:
    """What is counted, its limit and its name; what takes longer comes last."""
    yield len(nodes), MOST_SCHEMAS, "schemas within the schema"
    schemas = [node.schema for node in nodes if isinstance(node.schema, dict)]
    properties = [schema.get("properties") for schema in schemas]
    yield (
        sum(len(p) for p in properties if isinstance(p, dict)),
        MOST_PROPERTIES,
        "object properties",
    )
    yield max(node.level for node in nodes), MOST_LEVELS, "levels of nesting"
    enums = [schema["enum"] for schema in schemas if isinstance(schema.get("enum"), list)]
    yield sum(map(len, enums)), MOST_ENUM_VALUES, "enum values"
    named = [value for schema in schemas for key in NAMED if (value := schema.get(key))]
    names = [name for value in named if isinstance(value, dict) for name in value]
    consts = [schema["const"] for schema in schemas if "const" in schema]
    characters = sum(map(_length, chain(names, consts, *enums)))
    yield (
        characters + characters_of_patterns(schemas),
        MOST_CHARACTERS,
        "characters of names, values and patterns",
    )
    references = [schema["$ref"] for schema in schemas if "$ref" in schema]
    yield (
        sum(map(_length, references)),
        MOST_CHARACTERS_OF_REFERENCES,
        "characters of references",
    )


def _length(value: Any) -> int:
    """Of what has no length of its own elsewhere: numbers are counted, not measured."""
    if isinstance(value, str):
        return len(value)
    return len(orjson.dumps(value)) if isinstance(value, list | dict) else 0


def _problem(root: Schema, node: Node, places: Set[int]) -> str | None:
    """`places` are the schemas that a reference may lead to: those that were looked at."""
    schema = node.schema
    if not isinstance(schema, dict):
        return f"{schema!r} is not of type 'object'."
    if unknown := next((key for key in schema if key not in PERMITTED), None):
        return f"'{unknown}' is not permitted."
    if "$ref" in schema:
        return _problem_of_reference(root, schema, places, is_root=node.parent is None)
    types = schema.get("type")
    kinds = listed(types)
    if types is not None and not are_types(types):
        return f"{types!r} is not valid under any of the given schemas."
    if types is None and schema.keys().isdisjoint({"anyOf", "enum", "const"}):
        return "schema must have a 'type' key."
    return (
        (_problem_of_object(schema) if "object" in kinds else None)
        or (_problem_of_array(schema) if "array" in kinds else None)
        or _problem_of_text(schema)
        or _problem_of_numbers(schema)
        or _problem_of_bounds(schema)
        or _problem_of_choice(schema)
    )


def _problem_of_reference(
    root: Schema, schema: Schema, places: Set[int], *, is_root: bool
) -> str | None:
    beside = sorted(schema.keys() - (BESIDE_ROOT_REFERENCE if is_root else {"$ref"}))
    if beside:
        return f"$ref cannot have keywords {{{', '.join(map(repr, beside))}}}."
    target = resolve(root, schema["$ref"])
    if id(target) not in places:
        return f"reference to '{schema['$ref']}' was not found in the schema."
    if is_root and target.get("type") != "object":
        return f"reference to '{schema['$ref']}' is not of type 'object'."
    return None


def _problem_of_object(schema: Schema) -> str | None:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if schema.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    if not isinstance(properties, dict):
        return f"{properties!r} is not of type 'object'."
    if not isinstance(required, list):
        return f"{required!r} is not of type 'array'."
    rule = (
        "'required' is required to be supplied and to be an array including every key in "
        "properties."
    )
    named = {name for name in required if isinstance(name, str)}
    for name in properties:
        if name not in named:
            return f"{rule} Missing '{name}'."
    for name in required:
        if not isinstance(name, str) or name not in properties:
            return f"{rule} Extra required key '{name}' supplied."
    if len(required) > len(properties):
        return "'required' has non-unique elements."
    return None


def _problem_of_array(schema: Schema) -> str | None:
    if "items" not in schema:
        return "array schema missing items."
    if not isinstance(schema["items"], dict):
        return f"{schema['items']!r} is not of type 'object'."
    return None


def _problem_of_choice(schema: Schema) -> str | None:
    for key in ("anyOf", "enum"):
        if key in schema and not isinstance(schema[key], list):
            return f"{schema[key]!r} is not of type 'array'."
        if key in schema and not schema[key]:
            return f"'{key}' has no members."
    beside = next((key for key in schema if key in NOT_BESIDE_VALUES), None)
    if beside and not schema.keys().isdisjoint({"enum", "const"}):
        return f"'{beside}' is not permitted beside 'enum' and 'const'."
    if not has_choice(schema):
        return "no value that is given is of the type and within the bounds that are."
    if not has_member(schema):
        return "no member of 'anyOf' is of the type that is."
    return None


def _problem_of_text(schema: Schema) -> str | None:
    if "pattern" in schema and not is_plain_pattern(schema["pattern"]):
        return (
            f"'pattern' {schema['pattern']!r} is not a regular expression that can be enforced: "
            "without look-around, back-references and large repetitions."
        )
    if "format" in schema and not is_format(schema["format"]):
        return f"format {schema['format']!r} is not permitted."
    return None


def _problem_of_numbers(schema: Schema) -> str | None:
    for key in (*COUNTS, *LENGTHS):
        if key in schema and not is_count(schema[key]):
            return f"'{key}' must be an integer from 0 to {MOST_REPEATS}."
    for key in NUMBERS:
        if key in schema and not is_bound(schema[key]):
            return f"'{key}' must be a number below {LARGEST_BOUND:.0e}."
    if "multipleOf" in schema and not is_small_multiple(schema["multipleOf"]):
        return f"'multipleOf' must be a number with a short decimal form, up to {LARGEST_MULTIPLE}."
    return None


def _problem_of_bounds(schema: Schema) -> str | None:
    for low, high in empty_bounds(schema):
        return f"'{low}' and '{high}' leave nothing between them."
    if not has_short_least(schema):
        return f"'minLength' beside 'pattern' and 'format' must be at most {LONGEST_LEAST}."
    return None


def are_types(value: Any) -> bool:
    """One of the types there are, or several different ones."""
    kinds = listed(value)
    return 0 < len(kinds) <= len(TYPES) and all(kind in TYPES for kind in kinds)


def is_format(value: Any) -> bool:
    """A known one."""
    return isinstance(value, str) and value in FORMATS


def is_count(value: Any) -> bool:
    """Of repetitions that a grammar can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_REPEATS


def is_bound(value: Any) -> bool:
    """Of a number, written with so few digits that it can be compared digit by digit."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < LARGEST_BOUND


def is_small_multiple(value: Any) -> bool:
    """A factor whose multiples are told from other numbers by few remainders."""
    if not is_bound(value) or value <= 0:
        return False
    factor = Fraction(repr(value))
    is_small = max(factor.numerator, factor.denominator) <= LARGEST_MULTIPLE
    return is_small and _is_exact_in_tens(float(value), factor)


def _is_exact_in_tens(value: float, factor: Fraction) -> bool:
    """Whether it comes to the same if it is multiplied by ten until it is whole.

    So llguidance reads it, and 0.07 becomes 7000000000000001 in this way.
    """
    tens = 0
    while not value.is_integer():
        value, tens = value * 10, tens + 1
    return Fraction(int(value), 10**tens) == factor


_Part = tuple[str | None, str]

_PATTERN_PARTS: Final = re.compile(
    r"(?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<escape>\\(?:[pP]\{[^}]*\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.))"
    r"|(?P<repeat>\{\d+(?:,\d*)?\})"
    r"|(?P<open>\((?:\?(?::|P?<[A-Za-z_]\w*>)|(?!\?)))"
    r"|(?P<other>.)",
    re.DOTALL,
)
_BEYOND: Final = re.compile(r"\\[bBAZzGkK0-9]")  # escapes that look around or back
_SET: Final = re.compile(r"\[.*(?:\[|&&|--|~~|\|\||\\b)", re.DOTALL)  # not a class everywhere
_PROPERTY: Final = re.compile(r"\\[pP]\{[^}]*\}")


def characters_of_patterns(schemas: Sequence[Schema]) -> int:
    """Of all of them: it takes time to look at each."""
    alone = (schema.get("pattern") for schema in schemas)
    named = (schema.get("patternProperties") for schema in schemas)
    keys = (key for patterns in named if isinstance(patterns, dict) for key in patterns)
    return sum(len(pattern) for pattern in (*alone, *keys) if isinstance(pattern, str))


def is_plain_pattern(pattern: Any) -> bool:
    """A regular expression in the narrow sense, of bearable size."""
    if not isinstance(pattern, str) or len(pattern) > LONGEST_PATTERN:
        return False
    parts = [(part.lastgroup, part[0]) for part in _PATTERN_PARTS.finditer(pattern)]
    if any(map(_goes_beyond, parts)) or not _anchors_fit(parts):
        return False
    try:
        re.compile(_PROPERTY.sub("p", pattern).replace("(?<", "(?P<"))
    except (re.error, OverflowError, RecursionError):
        return False
    return _steps(parts) <= MOST_PATTERN_STEPS


def _goes_beyond(part: _Part) -> bool:
    """What looks around or back, or is read in more than one way."""
    kind, text = part
    if kind == "escape":
        return _BEYOND.match(text) is not None
    if kind == "class":
        return _SET.match(text) is not None
    return kind == "other" and text in ("{", "(")


def _anchors_fit(parts: list[_Part]) -> bool:
    """Whether they stand at the ends of whole alternatives."""
    depth = 0
    edge: _Part = ("other", "|")
    for before, (kind, text), after in zip([edge, *parts], parts, [*parts[1:], edge], strict=False):
        depth += (kind == "open") - ((kind, text) == ("other", ")"))
        neighbour = {"^": before, "$": after}.get(text) if kind == "other" else None
        if neighbour is not None and (depth > 0 or neighbour != edge):
            return False
    return True


def _steps(parts: list[_Part]) -> int:
    """How many characters it has once its repetitions are written out."""
    outer: list[int] = []
    total = last = 0
    for kind, text in parts:
        if kind == "open":
            outer.append(total)
            total = last = 0
        elif text == ")" and kind == "other" and outer:
            last, total = total, outer.pop() + total
        elif kind == "repeat":
            times = max(int(number) for number in re.findall(r"\d+", text))
            total += last * (times - 1)
            last *= times
        else:
            last = 1
            total += 1
    return total
