"""The strict subset of JSON Schema: what is in it, what is refused, and in which words."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from server.schemas.json_schema import SchemaRefused, check_strict
from server.schemas.patterns import is_plain_pattern, lengths
from tests.timing import little_work

REQUIRED = (
    "'required' is required to be supplied and to be an array including every key in properties."
)
CLOSED = "'additionalProperties' is required to be supplied and to be false."


def object_of(**properties: Any) -> dict[str, Any]:
    """A strict object with these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def refusal(schema: dict[str, Any]) -> str:
    """Why it is refused."""
    with pytest.raises(SchemaRefused) as refused:
        check_strict(schema)
    return str(refused.value)


WHOLE = {
    **object_of(
        name={"type": "string", "description": "Its name", "title": "Name"},
        code={"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"},
        word={"type": "string", "minLength": 1, "maxLength": 8},
        when={"type": "string", "format": "date-time"},
        size={"type": "number", "minimum": 0, "exclusiveMaximum": 10, "multipleOf": 0.25},
        kind={"enum": ["a", "b", None]},
        fixed={"const": 3},
        note={"type": ["string", "null"]},
        tags={"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4},
        parent={"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        place={"$ref": "#/$defs/place"},
        old={"$ref": "#/definitions/old~1place"},
    ),
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$defs": {"place": object_of(x={"type": "integer"})},
    "definitions": {"old/place": object_of(y={"type": "boolean"})},
}


@pytest.mark.parametrize(
    ("pattern", "widths"),
    [
        ("", (0, math.inf)),
        ("^$", (0, 0)),
        ("^ab?$", (1, 2)),
        ("^ab", (2, math.inf)),
        (r"^(a|[bc]\.d){2,3}\p{L}$", (3, 10)),
        ("^a+$", (1, math.inf)),
        ("^(?:a{2}|b{2,3}|c{4,})$", (2, math.inf)),
        ("^a$|^bcd$", (1, 3)),
        ("^a|bcd$", (1, math.inf)),
        ("^(a|)(b*){0}$", (0, 1)),
        (r"^\$\^a+?$", (2, math.inf)),
    ],
)
def test_how_long_a_text_with_a_pattern_is(pattern: str, widths: tuple[int, float]) -> None:
    """At least and at most, as far as it can be told."""
    assert is_plain_pattern(pattern)
    assert lengths(pattern) == widths


def test_the_whole_subset_is_taken() -> None:
    """Types, choices, references, recursion, bounds, patterns and formats."""
    check_strict(WHOLE)


def test_the_root_may_be_a_reference() -> None:
    """To an object, and nothing is said of it beside that."""
    check_strict({"type": "object", "$ref": "#/$defs/b", "$defs": {"b": object_of()}})


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "open": ({"type": "object", "properties": {}, "required": []}, f"In context=(), {CLOSED}"),
    "open inside": (
        object_of(a={"type": "object", "properties": {}}),
        f"In context=('properties', 'a'), {CLOSED}",
    ),
    "not required": (
        {**object_of(a={"type": "string"}, b={"type": "string"}), "required": ["a"]},
        f"In context=(), {REQUIRED} Missing 'b'.",
    ),
    "required twice": (
        {**object_of(a={"type": "string"}), "required": ["a", "a"]},
        "In context=(), 'required' has non-unique elements.",
    ),
    "required too much": (
        {**object_of(a={"type": "string"}), "required": ["a", "b"]},
        f"In context=(), {REQUIRED} Extra required key 'b' supplied.",
    ),
    "no keyword of ours": (
        object_of(a={"type": "array", "uniqueItems": True}),
        "In context=('properties', 'a'), 'uniqueItems' is not permitted.",
    ),
    "deep within": (
        object_of(a={"type": "array", "items": {"anyOf": [{"type": "null", "default": None}]}}),
        "In context=('properties', 'a', 'items', 'anyOf', '0'), 'default' is not permitted.",
    ),
    "in a definition": (
        {**object_of(), "$defs": {"x": {"type": "string", "not": {}}}},
        "In context=('$defs', 'x'), 'not' is not permitted.",
    ),
    "no type": (object_of(a={}), "In context=('properties', 'a'), schema must have a 'type' key."),
    "no such type": (
        object_of(a={"type": "text"}),
        "In context=('properties', 'a'), 'text' is not valid under any of the given schemas.",
    ),
    "no schema": (
        object_of(a=True),
        "In context=('properties', 'a'), True is not of type 'object'.",
    ),
    "no items": (
        object_of(a={"type": "array"}),
        "In context=('properties', 'a'), array schema missing items.",
    ),
    "beside a reference": (
        {**object_of(a={"$ref": "#/$defs/b", "description": "B"}), "$defs": {"b": {"const": 1}}},
        "In context=('properties', 'a'), $ref cannot have keywords {'description'}.",
    ),
    "nowhere": (
        object_of(a={"$ref": "#/$defs/b"}),
        "In context=('properties', 'a'), reference to '#/$defs/b' was not found in the schema.",
    ),
    "what is no schema": (
        object_of(a={"$ref": "#/properties/b/const"}, b={"const": {"type": "text"}}),
        "In context=('properties', 'a'), reference to '#/properties/b/const' was not found in the "
        "schema.",
    ),
    "words for people": (
        {**object_of(a={"$ref": "#/$comment"}), "$comment": {"type": "string"}},
        "In context=('properties', 'a'), reference to '#/$comment' was not found in the schema.",
    ),
    "nothing": (
        {"type": "object", "$ref": "#/$defs/c", "$defs": {"b": None}},
        "In context=(), reference to '#/$defs/c' was not found in the schema.",
    ),
    "all properties": (
        object_of(a={"$ref": "#/properties"}),
        "In context=('properties', 'a'), reference to '#/properties' was not found in the schema.",
    ),
    "rules beside the root's reference": (
        {**object_of(), "$ref": "#/$defs/b", "$defs": {"b": object_of()}},
        "In context=(), $ref cannot have keywords {'additionalProperties', 'properties', "
        "'required'}.",
    ),
    "the root is no object": (
        {"type": "object", "$ref": "#/$defs/b", "$defs": {"b": {"type": "string"}}},
        "In context=(), reference to '#/$defs/b' is not of type 'object'.",
    ),
    "elsewhere": (
        object_of(a={"$ref": "https://example.invalid/x"}),
        "In context=('properties', 'a'), reference to 'https://example.invalid/x' was not found "
        "in the schema.",
    ),
    "a choice at the root": (
        {**object_of(), "anyOf": [object_of()]},
        "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' "
        "at the top level.",
    ),
    "a list at the root": (
        {"type": "array", "items": object_of()},
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'.",
    ),
    "nothing at the root": (
        {},
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'.",
    ),
    "no format of ours": (
        object_of(a={"type": "string", "format": "phone"}),
        "In context=('properties', 'a'), format 'phone' is not permitted.",
    ),
    "no members": (
        object_of(a={"enum": []}),
        "In context=('properties', 'a'), 'enum' has no members.",
    ),
}


@pytest.mark.parametrize(("schema", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_the_first_fault_is_told_with_its_place(schema: dict[str, Any], told: str) -> None:
    """In the hosted API's words, from the outside in."""
    assert refusal(schema) == told


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "pattern": "(a{1000}){1000}"},
        {"type": "string", "pattern": 7},
        {"type": "string", "pattern": r"^\<b\>$"},
        {"type": "string", "pattern": r"^[\<]$"},
        {"type": "string", "pattern": r"\uD83D\uDE00"},
        {"type": "string", "pattern": r"^[\uD83C-\uDBFF]$"},
        {"type": "string", "pattern": r"\é"},
        {"type": "string", "pattern": r"^\p{Nope}$"},
        {"type": "string", "pattern": r"^[\p{^L}]$"},
        {"type": "integer", "multipleOf": 123456789},
        {"type": "number", "multipleOf": 0},
        {"type": "number", "maximum": 1e300},
        {"type": "number", "minimum": 5e-324},
        {"type": "number", "exclusiveMaximum": -1e-100},
        {"const": 2**53 + 1},
        {"const": -(2**63)},
        {"const": {"b": [[2**64 - 1]]}},
        {"type": "integer", "enum": [1, -1e300]},
        {"enum": ["a", {"b": {"c": 1e17}}]},
        {"type": "number", "minimum": "3"},
        {"type": "array", "items": {"type": "null"}, "minItems": 10**9},
        {"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2},
        {"type": "array", "items": [{"type": "null"}]},
        {"type": "string", "minLength": -1},
        {"type": "string", "maxLength": 10**9},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 6},
        {"type": "integer", "minimum": 0.2, "maximum": 0.9},
        {"type": "integer", "minimum": 1, "maximum": 2, "multipleOf": 1.5},
        {"type": "number", "minimum": 3, "exclusiveMaximum": 3},
        {"type": "number", "exclusiveMinimum": 0.3, "maximum": 0.3},
        {"type": "number", "minimum": 0.31, "maximum": 0.39, "multipleOf": 0.1},
        {"type": "string", "enum": [1]},
        {"type": "integer", "enum": [1.5, True, "1"]},
        {"type": ["string", "null"], "const": 0},
        {"enum": ["a", "b"], "const": "c"},
        {"enum": "abc"},
        {"enum": [True], "const": 1},
        {"enum": ["a"], "maxLength": 0},
        {"enum": ["a"], "minLength": "1"},
        {"type": "integer", "enum": [1, 2], "minimum": 3},
        {"enum": [1, 2], "exclusiveMinimum": 2},
        {"enum": [1, 2], "exclusiveMaximum": 1},
        {"type": "number", "const": 0.3, "multipleOf": 0.25},
        {"enum": [[1]], "minItems": 2},
        {"type": "string", "enum": ["a", "b"], "pattern": "^c"},
        {"type": "string", "enum": ["a"], "format": "date"},
        {"type": "array", "items": {"type": "null"}, "enum": [[1]]},
        {"enum": ["a"], "anyOf": [{"type": "null"}]},
        {"type": "string", "anyOf": [{"type": "integer"}, {"type": ["null", "array"]}]},
        {"type": "null", "anyOf": [{"const": 5}, {"enum": [True, "a"]}]},
        {"type": "array", "items": {"type": "null"}, "anyOf": [{"$ref": "#/properties/a/items"}]},
        {"type": ["integer", "object"], "anyOf": [{"$ref": "#"}], **object_of()},
        {"type": ["object", "null"], "anyOf": [{"anyOf": [{"$ref": "#"}]}], **object_of()},
        {"type": "string", "format": "ipv4", "maxLength": 6},
        {"type": "string", "format": "uuid", "minLength": 37},
        {"type": "string", "pattern": "^a+(-a+)*$", "minLength": 17},
        {"type": "string", "pattern": "^ab$", "minLength": 3},
        {"type": "string", "pattern": "(a|bc)d+", "maxLength": 1},
        {"type": "string", "pattern": "^a/b$", "format": "date"},
        {"type": "string", "format": "hostname", "minLength": 17},
        {"type": "number", "multipleOf": 0.07},
        {"type": "number", "multipleOf": 19.99},
        {"type": []},
        {"type": [[]]},
        {"type": "string", "format": []},
        {"type": "object", "required": [[]], "additionalProperties": False},
        {"$ref": "#/properties/b/anyOf/" + "9" * 5000},
        {"$ref": "#/properties/b/anyOf/٠"},
        {"$ref": []},
        {"type": ["null"] * 8},
        {"type": "object", "properties": [], "additionalProperties": False},
        {"type": "object", "required": {}, "additionalProperties": False},
    ],
    ids=str,
)
def test_what_nobody_could_enforce_is_refused(shape: dict[str, Any]) -> None:
    """Wherever it stands."""
    schema = object_of(a=shape, b={"anyOf": [{"type": "null"}]})
    assert refusal(schema).startswith("In context=('properties', 'a'), ")


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "number", "minimum": 3, "maximum": 3},
        {"type": "number", "minimum": 0.1, "maximum": 0.3, "multipleOf": 0.1},
        {"type": "integer", "exclusiveMinimum": 5, "maximum": 6},
        {"type": "integer", "minimum": 3, "maximum": 4, "multipleOf": 0.5},
        {"type": "string", "minLength": 0, "maxLength": 0},
        {"type": "string", "format": "email", "maxLength": 100},
        {"type": "string", "format": "uuid", "minLength": 36},
        {"type": "string", "pattern": "^a+(-a+)*$", "minLength": 16},
        {"type": "number", "multipleOf": 0.29},
        {"type": ["integer", "string"], "enum": [1, "abc"], "minimum": 3, "maxLength": 3},
        {"type": "number", "enum": [0.5, 0.3], "multipleOf": 0.25, "minimum": 0.5, "maximum": 0.5},
        {"type": "number", "anyOf": [{"type": "integer"}, {"type": "null"}]},
        {"type": "null", "anyOf": [{"const": 5}, {"enum": ["a", None]}]},
        {"type": "string", "pattern": r"^[\p{L}\u00e9\-]\P{Script=Greek}\.$"},
        {"type": "number", "enum": [1]},
        {"type": "integer", "enum": [1.0, "a"]},
        {"enum": ["a", "b"], "const": "b"},
        {"type": ["string", "null"], "const": None},
        {"enum": [2**53, -(2**53), [5e-324, 0.1]]},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1e-30},
    ],
    ids=str,
)
def test_what_is_narrow_is_taken(shape: dict[str, Any]) -> None:
    """One value is enough."""
    check_strict(object_of(a=shape))


def nested(levels: int) -> dict[str, Any]:
    """Objects in objects."""
    schema: dict[str, Any] = object_of(a={"type": "string"})
    for _ in range(levels - 1):
        schema = object_of(a=schema)
    return schema


def chain(length: int, last: str) -> dict[str, Any]:
    """Definitions that refer to one another, in a row, and the last one to another place."""
    names = [f"d{number}" for number in range(length)]
    refs = [*(f"#/$defs/{name}" for name in names[1:]), last]
    defs = {name: {"$ref": ref} for name, ref in zip(names, refs, strict=True)}
    return {**object_of(a={"$ref": "#/$defs/d0"}), "$defs": defs}


def listed_from_the_end(length: int) -> dict[str, Any]:
    """A chain of lists of which the last links are seen first."""
    names = [f"d{number}" for number in range(length)]
    ends = {names[-1]: {"type": "null"}}
    links = {a: {"type": "array", "items": {"$ref": f"#/$defs/{b}"}} for a, b in pairwise(names)}
    backwards = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in reversed(names)]}
    return {**object_of(a=backwards, b={"$ref": "#/$defs/d0"}), "$defs": links | ends}


def test_levels_are_counted_from_wherever_they_are_seen() -> None:
    """A part that was seen is as deep as it was; a ring is no endless one."""
    check_strict(listed_from_the_end(95))
    assert refusal(listed_from_the_end(150)) == "302 levels of references exceeds limit of 200."
    tree = {"type": "array", "items": {"$ref": "#"}}
    check_strict(object_of(**{f"p{number}": tree for number in range(400)}))


def test_sizes_are_limited() -> None:
    """Levels of objects, properties, values of enums, characters: each up to its limit."""
    check_strict(nested(10))
    assert refusal(nested(11)) == "11 levels of nesting exceeds limit of 10."
    many = {f"p{number}": {"type": "null"} for number in range(5001)}
    assert refusal(object_of(**many)) == "5001 object properties exceeds limit of 5000."
    enum = object_of(a={"enum": list(range(1001))})
    assert refusal(enum) == "1001 enum values exceeds limit of 1000."
    long = object_of(a={"const": "x" * 120_000})
    assert (
        refusal(long) == "120001 characters of names, values and patterns exceeds limit of 120000."
    )


@pytest.mark.parametrize(
    "schema",
    [
        nested(20_000),
        chain(4_000, "#/$defs/d0"),
        chain(4_000, "#"),
        object_of(
            a={
                "type": "integer",
                "multipleOf": 9973,
                "anyOf": [{"type": "integer", "multipleOf": 9967}],
            }
        ),
        {**object_of(a={"$ref": "#/$defs/b"}), "$defs": {"b": {"anyOf": [{"$ref": "#/$defs/b"}]}}},
        object_of(a={"type": "array", "items": {"type": "null"}, "maxItems": 10**12}),
        object_of(a={"type": "string", "pattern": "((" * 400 + "a{9}" + "){9})" * 400}),
        {
            **object_of(**{f"p{number}": {"type": "null"} for number in range(4_900)}),
            "required": [f"q{number}" for number in range(300_000)],
        },
        object_of(**{f"p{n}": {"type": "integer", "multipleOf": n + 1} for n in range(4_900)}),
        object_of(a={"anyOf": [{}] * 1_000_000}),
        object_of(a={"enum": [1] * 1_000_000}),
        object_of(a={"const": [{"b": "x" * 1_000_000}]}),
        listed_from_the_end(4_000),
        object_of(a={"type": ["string"] * 1_000_000}),
        object_of(
            **{f"p{n}": {"type": "string", "pattern": f"{n}{'(a|b)' * 190}"} for n in range(900)}
        ),
        object_of(**{f"p{n}": {"$ref": "#" + "/anyOf/0" * 5_000} for n in range(200)}),
    ],
    ids=[
        "levels",
        "long cycle",
        "long chain",
        "factors",
        "cycle in a choice",
        "repeats",
        "repeats in a pattern",
        "required",
        "many factors",
        "members",
        "values",
        "characters of a value",
        "long chain, from its end",
        "types",
        "patterns",
        "references",
    ],
)
def test_hostile_schemas_are_refused_at_once(schema: dict[str, Any]) -> None:
    """Whatever their depth: nothing here calls itself."""
    with little_work(1):
        refusal(schema)


def test_a_cycle_is_told_with_its_place() -> None:
    """One that says nothing on its way; others are lists and trees."""
    assert refusal(chain(3, "#/$defs/d0")) == (
        "In context=('properties', 'a'), the reference '#/$defs/d0' leads back to itself."
    )
    choice = {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}
    assert refusal({**object_of(a={"$ref": "#/$defs/b/anyOf/0"}), "$defs": {"b": choice}}) == (
        "In context=('properties', 'a'), the reference '#/$defs/b' leads back to itself."
    )


TWO_TYPES = {
    **object_of(a={"$ref": "#"}),
    "type": ["object", "array"],
    "items": {"$ref": "#"},
}


def test_a_choice_that_leads_back_stands_alone() -> None:
    """With more beside it, what is said of a value would have to be said again within itself."""
    back = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    check_strict(object_of(a={**back, "description": "Either"}))
    assert refusal(
        object_of(a={**back, "type": ["object", "null"], **object_of(), "required": []})
    ) == (
        "In context=('properties', 'a'), 'anyOf' cannot have keywords {'additionalProperties', "
        "'properties', 'required', 'type'}, since it leads back to itself."
    )
    there = {"type": "null", "anyOf": [{"$ref": "#/$defs/b"}]}
    check_strict({**object_of(a=there), "$defs": {"b": {"type": "null"}}})


LINKED = object_of(value={"type": "integer"}, rest={"$ref": "#/$defs/rest"})


@pytest.mark.parametrize(
    ("rest", "ends"),
    [
        ({"$ref": "#"}, False),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, True),
        ({"anyOf": [{"$ref": "#"}, object_of(a={"$ref": "#"})]}, False),
        ({"type": "array", "items": {"$ref": "#"}}, True),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, False),
        ({**object_of(a={"$ref": "#"}), "type": ["object", "null"]}, True),
        ({**TWO_TYPES, "minItems": 1}, False),
        (TWO_TYPES, True),
        ({**TWO_TYPES, "minItems": 1, "items": {"type": "null"}}, True),
        (object_of(a={"$ref": "#"}), False),
        (object_of(), True),
    ],
    ids=str,
)
def test_values_must_have_an_end(rest: dict[str, Any], ends: bool) -> None:
    """A value that needs another one of the same in it can never be written."""
    schema = {**LINKED, "$defs": {"rest": rest}}
    if ends:
        check_strict(schema)
    else:
        assert "has no end: each value would have another one in it." in refusal(schema)


def test_where_a_value_has_no_end_is_told() -> None:
    """The first reference that no value can follow."""
    assert refusal({**LINKED, "$defs": {"rest": {"$ref": "#"}}}) == (
        "In context=('properties', 'rest'), the reference '#/$defs/rest' has no end: "
        "each value would have another one in it."
    )
    many = {f"d{n}": object_of(a={"$ref": f"#/$defs/d{n - 1}"}) for n in range(1, 91)}
    check_strict({**object_of(a={"$ref": "#/$defs/d90"}), "$defs": {"d0": object_of(), **many}})


PLAIN = ["", "a+b*c?", "^[^@]+@[^@]+$", r"\d{3}-\d{4}", r"^\p{L}+$", "^a$|^b$", "(?<year>[0-9]+)"]
PLAIN += ["(?:ab){2,}", r"[\w-]{8}-[\w-]{4}", r"\/\.\-", "[]a]", "a{0,1000}"]
NOT_PLAIN = ["(?=a)", "(?!a)b", "(?<=a)b", r"(a)\1", r"\bword\b", "a$b", "a^b", "(^a)b", "[a-z"]
NOT_PLAIN += ["a{3,2}", "(a{200}){200}", "x{", "[[:alpha:]]", "[a&&b]", "(", "a**", "x" * 1001]


@pytest.mark.parametrize("pattern", PLAIN)
def test_plain_patterns(pattern: str) -> None:
    """Regular in the narrow sense, and read alike by all that read them."""
    assert is_plain_pattern(pattern)


@pytest.mark.parametrize("pattern", NOT_PLAIN, ids=lambda pattern: pattern[:20])
def test_patterns_that_are_more_than_plain(pattern: str) -> None:
    """They look around, refer back, are no patterns, or are too large."""
    assert not is_plain_pattern(pattern)
