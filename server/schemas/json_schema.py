"""JSON Schemas as clients give them: walked without recursion, and held to the strict subset.

Refusals are in the hosted API's words where those are known. What a schema is enforced with is not
known here, only what cannot be enforced by anybody in reasonable time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from fractions import Fraction
from itertools import chain, islice
from typing import Any, Final

import orjson
from pydantic_core import PydanticCustomError

from server.schemas.endless import endless
from server.schemas.patterns import is_plain_pattern
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
from server.schemas.schema_tree import (
    ANNOTATIONS,
    BESIDE_ROOT_REFERENCE,
    NAMED,
    REFERENCES,
    SAME,
    Node,
    Schema,
    circular,
    deepest,
    resolve,
    tangled,
    walk,
)

TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")
FORMATS: Final = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)

UNNAMED_ROOT: Final = ("anyOf", "oneOf", "allOf", "enum", "not")

CHOICES: Final = ("anyOf", "enum", "const")
PARTS: Final = ("properties", "required", "additionalProperties", "items", *COUNTS)
VALUES: Final = ("type", "pattern", "format", "multipleOf", *LENGTHS, *NUMBERS)
ASSERTIONS: Final = frozenset(
    ("multipleOf", "properties", "patternProperties", "required", "additionalProperties")
) | {"items", "prefixItems"}
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
SMALLEST_BOUND: Final = 1e-30  # but for 0
LARGEST_WHOLE: Final = 2**53  # in values: beyond it not every number has a float of its own
# Beyond these, an automaton that checks them as text comes in is too large.
LARGEST_MULTIPLE: Final = 10_000
MOST_REMAINDERS: Final = 20_000  # of all factors in a schema, and in all functions of a request

TOO_MANY_FACTORS: Final = "the factors of 'multipleOf' are too many and too large together."


class SchemaRefused(Exception):
    """The schema cannot be enforced; the text says where and why."""


def remainders(schemas: Sequence[Any]) -> int:
    """How many tell the multiples of all their factors, and of those that may meet."""
    factors = _factors(schemas)
    alone = sum(max(factor.numerator, factor.denominator) for factor in factors)
    return max(alone, _met(factors)) if any(map(is_composed, schemas)) else alone


def are_small_multiples(schemas: Sequence[Any]) -> bool:
    """Whether these are told by little."""
    if any(map(is_composed, schemas)):
        return _met(_factors(schemas)) <= LARGEST_MULTIPLE
    return remainders(schemas) <= MOST_REMAINDERS


def _factors(schemas: Sequence[Any]) -> list[Fraction]:
    """The different ones."""
    return [
        Fraction(repr(factor))
        for factor in {
            schema["multipleOf"]
            for schema in schemas
            if isinstance(schema, dict) and "multipleOf" in schema
        }
    ]


def _met(factors: Sequence[Fraction]) -> int:
    """The remainders for what is a multiple of all."""
    numerator = math.lcm(*(factor.numerator for factor in factors))
    return max(numerator, math.lcm(*(factor.denominator for factor in factors)))


def is_composed(schema: Schema) -> bool:
    """Whether it is met together with others: what they say of one value adds up."""
    choices = schema.keys() & SAME
    if "allOf" in choices or len(choices) > 1:
        return True
    return bool(choices and schema.keys() & ASSERTIONS)


def check_strict(schema: Schema) -> int:
    """Whether the model can be held to it, and its `remainders`. Raises SchemaRefused."""
    _check_root(schema)
    nodes = list(islice(walk(schema), MOST_SCHEMAS + 1))
    _check_size(nodes)
    places = {id(node.schema) for node in nodes if isinstance(node.schema, dict)}
    for node in nodes:
        if problem := _problem(schema, node, places):
            raise SchemaRefused(f"In context={node.path}, {problem}")
    schemas = [node.schema for node in nodes]
    if not are_small_multiples(schemas):
        raise SchemaRefused(TOO_MANY_FACTORS)
    if (steps := deepest(schema)) > MOST_STEPS_DOWN:
        raise SchemaRefused(f"{steps} levels of references exceeds limit of {MOST_STEPS_DOWN}.")
    for node in circular(schema):
        raise SchemaRefused(
            f"In context={node.path}, the reference '{node.schema['$ref']}' leads back to itself."
        )
    for node, word in tangled(schema)[-1:]:
        beside = sorted(node.schema.keys() - {word, *REFERENCES, *ANNOTATIONS})
        raise SchemaRefused(
            f"In context={node.path}, '{word}' cannot have keywords "
            f"{{{', '.join(map(repr, beside))}}}, since it leads back to itself."
        )
    if last := endless(schema):
        raise SchemaRefused(
            f"In context={last.path}, the reference '{last.schema['$ref']}' has no end: each value "
            "would have another one in it."
        )
    return remainders(schemas)


def require_strict(schema: Schema, owner: str) -> int:
    """For validators: the same check, of a schema that belongs to something with a name."""
    try:
        return check_strict(schema)
    except SchemaRefused as refusal:
        raise refused(owner, str(refusal)) from refusal


def refused(owner: str, problem: str) -> PydanticCustomError:
    """For validators: what is wrong with the schema of something with a name."""
    text = "Invalid schema for {owner}: {problem}"
    return PydanticCustomError("schema_refused", text, {"owner": owner, "problem": problem})


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
        or _problem_of_choice(root, schema)
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


def _problem_of_choice(root: Schema, schema: Schema) -> str | None:
    for key in ("anyOf", "enum"):
        if key in schema and not isinstance(schema[key], list):
            return f"{schema[key]!r} is not of type 'array'."
        if key in schema and not schema[key]:
            return f"'{key}' has no members."
    beside = next((key for key in schema if key in NOT_BESIDE_VALUES), None)
    if beside and not schema.keys().isdisjoint({"enum", "const"}):
        return f"'{beside}' is not permitted beside 'enum' and 'const'."
    for key in ("enum", "const"):
        if key in schema and not is_constant(schema[key]):
            return f"whole numbers in '{key}' must be from {-LARGEST_WHOLE} to {LARGEST_WHOLE}."
    if not has_choice(schema):
        return "no value that is given is of the type and within the bounds that are."
    if not has_member(root, schema):
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
            return (
                f"'{key}' must be a number below {LARGEST_BOUND:.0e}, and 0 or from "
                f"{SMALLEST_BOUND:.0e}, without its sign."
            )
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
    return is_number and (value == 0 or SMALLEST_BOUND <= abs(value) < LARGEST_BOUND)


def is_constant(value: Any) -> bool:
    """A value, or several, in which no whole number is too large to be kept, however deep it is."""
    parts = [value]
    for part in parts:  # which grow on the way
        if isinstance(part, dict):
            parts += part.values()
        elif isinstance(part, list):
            parts += part
        elif isinstance(part, int | float) and abs(part) > LARGEST_WHOLE:
            return False
    return True


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


def characters_of_patterns(schemas: Sequence[Schema]) -> int:
    """Of all of them: it takes time to look at each."""
    alone = (schema.get("pattern") for schema in schemas)
    named = (schema.get("patternProperties") for schema in schemas)
    keys = (key for patterns in named if isinstance(patterns, dict) for key in patterns)
    return sum(len(pattern) for pattern in (*alone, *keys) if isinstance(pattern, str))
