"""Schemas that nobody promised to keep: what is enforced of them, and what is let go."""

from __future__ import annotations

import random
from typing import Any

import jsonschema
import pytest

from server.chat.json_schema import LARGEST, usable
from server.schemas.schema_tree import circular
from tests.engine.shapes import root_shape
from tests.timing import little_work

STRING = {"type": "string"}
OPEN = {"properties": {"b": {}}, "additionalProperties": True}


def kept(shape: dict[str, Any]) -> dict[str, Any]:
    """What is left of a shape where it stands as a property."""
    left: dict[str, Any] = usable({"properties": {"a": shape}})["properties"]["a"]
    return left


@pytest.mark.parametrize(
    ("shape", "left"),
    [
        ({"type": "string", "title": "A", "default": "x", "examples": ["y"]}, STRING),
        ({"type": "string", "pattern": "(?=a)b"}, STRING),
        ({"type": "string", "pattern": "a+"}, {"type": "string", "pattern": "a+"}),
        ({"type": "string", "format": "phone"}, STRING),
        ({"type": "string", "minLength": 10**9}, STRING),
        ({"type": "string", "minLength": 3, "maxLength": 2}, STRING),
        ({"type": "text"}, {}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"enum": []}, {}),
        ({"enum": "abc"}, {}),
        ({"const": None}, {"const": None}),
        ({"not": STRING, "if": {}, "then": {}}, {}),
        ({"minimum": 3, "maximum": 2}, {}),
        ({"type": "integer", "minimum": 3, "exclusiveMaximum": 3}, {"type": "integer"}),
        ({"type": "string", "enum": [1]}, STRING),
        ({"type": "string", "const": 1}, STRING),
        ({"enum": ["a"], "maxLength": 0}, {"maxLength": 0}),
        ({"enum": ["a"], "pattern": "b", "format": "date"}, {"enum": ["a"]}),
        ({"const": {}, "properties": {"b": {}}, "required": ["b"]}, {"const": {}}),
        ({**STRING, "anyOf": [{"type": "null"}]}, STRING),
        ({**STRING, "anyOf": [{"type": "text"}]}, {**STRING, "anyOf": [{}]}),
        ({**STRING, "format": "date", "maxLength": 9}, STRING),
        ({"pattern": "a", "minLength": 17}, {"pattern": "a"}),
        ({"pattern": "^a$", "minLength": 2}, {}),
        ({"pattern": "^a$", "format": "date"}, {"pattern": "^a$"}),
        ({"multipleOf": 0.07}, {}),
        ({"minimum": 1e300, "maximum": 2}, {"maximum": 2}),
        ({"minimum": 1e-300, "maximum": 2}, {"maximum": 2}),
        ({"type": "integer", "enum": [1, -1e300]}, {"type": "integer"}),
        ({"const": {"b": [-(2**63)]}, "enum": [2**53]}, {"enum": [2**53]}),
        ({"exclusiveMinimum": True, "minimum": 1}, {"minimum": 1}),
        ({"multipleOf": 123456789}, {}),
        ({"multipleOf": 0.01}, {"multipleOf": 0.01}),
        ({"$ref": "https://example.invalid/"}, {}),
        ({"$ref": "#/$defs/none"}, {}),
        ({"$ref": "#/properties/a"}, {}),
        (
            {"$ref": "#/properties/a/anyOf/0", "anyOf": [{"$ref": "#/properties/a"}]},
            {"$ref": "#/properties/a/anyOf/0", "anyOf": [{}]},
        ),
        ({"$ref": "#/properties/a/anyOf/" + "9" * 5000, "anyOf": [{}]}, {"anyOf": [{}]}),
        ({"anyOf": [{"$ref": "#/properties/a/const"}], "const": {}}, {"anyOf": [{}], "const": {}}),
        (
            {"anyOf": [{"$ref": "#/properties/a/enum/0"}], "enum": [{}]},
            {"anyOf": [{}], "enum": [{}]},
        ),
        ({"anyOf": [{"$ref": "#/properties"}]}, {"anyOf": [{}]}),
        ({"$ref": "#"}, {"$ref": "#"}),
        ({"$ref": "#", "type": "object"}, {"type": "object"}),
        ({"anyOf": [{"$ref": "#"}, {}], "oneOf": [{}]}, {"oneOf": [{}]}),
        ({"allOf": [{"$ref": "#"}]}, {"allOf": [{"$ref": "#"}]}),
        ({"allOf": [{"$ref": "#"}, {"type": "object"}]}, {}),
        (
            {"type": "array", "anyOf": [{"items": {"$ref": "#"}}]},
            {"type": "array", "anyOf": [{"items": {"$ref": "#"}}]},
        ),
        ({**STRING, "anyOf": [{"const": 1}, {"$ref": "#/properties/a/anyOf/0"}]}, STRING),
        ({"items": [STRING, {}]}, {"prefixItems": [STRING, {}]}),
        ({"required": "a", "properties": []}, {}),
        ({"properties": {"b": 3}}, {}),
        ({"anyOf": []}, {}),
        ({"anyOf": [STRING, "x"]}, {}),
        ({"patternProperties": {"a": {}, "b": {}}, "additionalProperties": False}, {}),
        ({"patternProperties": {"(?=a)": {}}}, {}),
        ({"patternProperties": {"^(?!_)": STRING}, "additionalProperties": False}, {}),
        ({"patternProperties": {"^(?!_)": STRING}, "additionalProperties": {"type": "null"}}, {}),
        ({"patternProperties": {"a": 1}, "properties": {"b": {}}}, OPEN),
        ({"patternProperties": {"^(?!b$)": {}}, "properties": {"b": {}}}, OPEN),
        ({"patternProperties": {"a": {}, "c": {}}, **OPEN}, OPEN),
        ({"patternProperties": {"a": {}, "c": {}}, **OPEN, "additionalProperties": False}, OPEN),
    ],
    ids=str,
)
def test_what_is_left(shape: dict[str, Any], left: dict[str, Any]) -> None:
    """All that can be enforced, and nothing else."""
    assert kept(shape) == left


def test_declared_properties_are_all_there_are() -> None:
    """A weak model would make up others; whoever wants them says so."""
    assert usable({"properties": {"a": {}}})["additionalProperties"] is False
    assert usable({"properties": {"a": {}}, "additionalProperties": True}) == {
        "properties": {"a": {}},
        "additionalProperties": True,
    }
    assert "additionalProperties" not in usable({"type": "object"})


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}, {}]},
        {"properties": {"a": {}}, "$ref": "#/$defs/b", "$defs": {"b": {"properties": {"b": {}}}}},
        {"required": ["b"], "$ref": "#/$defs/a", "$defs": {"a": {"properties": {"a": {}}}}},
        {"required": ["kind"], "oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"anyOf": [{"properties": {"a": {}}}], "oneOf": [{"properties": {"b": {}}}]},
        {
            "anyOf": [{"properties": {"a": {}}}],
            "$ref": "#/$defs/b",
            "$defs": {"b": {"required": ["b"]}},
        },
    ],
    ids=str,
)
def test_properties_that_are_declared_in_several_places(schema: dict[str, Any]) -> None:
    """None of them knows all, so none excludes others."""
    assert usable(schema) == schema


def test_references_into_choices_that_are_let_go() -> None:
    """They lead nowhere any more, and go, too."""
    many = [{"properties": {f"p{number}": {}}} for number in range(9)]
    part = {"properties": {"a": {"$ref": "#/allOf/1/anyOf/3"}, "b": {"$ref": "#/allOf/0/anyOf/3"}}}
    assert usable({**part, "allOf": [{"anyOf": many}, {"anyOf": many}]}) == {
        "properties": {"a": {}, "b": {"$ref": "#/allOf/0/anyOf/3"}},
        "allOf": [{"anyOf": many}],
    }


def test_what_must_be_there_may_be_there() -> None:
    """A property that is required and not declared would have no place otherwise."""
    left = usable({"properties": {}, "required": ["a"], "additionalProperties": False})
    assert left == {"properties": {}, "required": ["a"]}


def test_the_schema_that_was_given_stays_as_it_is() -> None:
    """It is stored, and shown."""
    given = {"properties": {"a": {"title": "A"}}}
    usable(given)
    assert given == {"properties": {"a": {"title": "A"}}}


def test_too_large_a_schema_is_not_enforced() -> None:
    """Whatever is in it."""
    assert usable({"enum": ["x" * LARGEST]}) == {}
    assert usable({"type": "object", "title": "x" * LARGEST}) == {"type": "object"}


def test_hostile_schemas_take_no_time() -> None:
    """Chains and rings of references, and many of them."""

    def ring(length: int) -> dict[str, Any]:
        parts = {f"d{n}": {"$ref": f"#/$defs/d{(n + 1) % length}"} for n in range(length)}
        return {"$defs": parts, "properties": {"a": {"$ref": "#/$defs/d0"}}}

    with little_work(1):
        assert usable(ring(5000)) == {}
    opened = usable(ring(50))["$defs"].values()
    assert sum(1 for part in opened if part == {}) == 1


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "string", "enum": list(range(70_000))},
        {"const": 1, "enum": list(range(70_000))},
        {"anyOf": [{}] * 120_000},
        {"anyOf": [{"pattern": f"{number}{'(a|b)' * 190}"} for number in range(400)]},
    ],
    ids=["values of another type", "a value among many", "members", "patterns"],
)
def test_much_of_anything_takes_no_time(shape: dict[str, Any]) -> None:
    """What is too much to be looked at is let go."""
    with little_work(1):
        usable({"properties": {"a": shape}})


def test_rings_that_have_a_part_in_common() -> None:
    """Where letting go of one reference of each does not do, the schema is not enforced."""
    member = {"$ref": "#/$defs/b", "anyOf": [{"$ref": "#/$defs/c"}, {"$ref": "#/$defs/d"}]}
    parts = {"b": {"anyOf": [member]}, "c": {"$ref": "#/$defs/b"}, "d": {"$ref": "#/$defs/c"}}
    for first in ("b", "c", "d", "b/anyOf/0"):
        left = usable({"properties": {"a": {"$ref": f"#/$defs/{first}"}}, "$defs": parts})
        assert circular(left) == []


def test_long_chains_are_not_enforced() -> None:
    """What reads schemas would call itself too often."""
    links = {f"d{n}": {"properties": {"x": {"$ref": f"#/$defs/d{n + 1}"}}} for n in range(1000)}
    schema = {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**links, "d1000": {}}}
    assert usable(schema) == {}
    links["d90"] = {}
    assert usable(schema | {"$defs": links})["properties"] == {"a": {"$ref": "#/$defs/d0"}}


def test_too_many_optional_properties_are_let_go() -> None:
    """Of the objects that have the most; those that must be there are not counted."""
    many = {f"p{number}": STRING for number in range(1_500)}
    part = {"properties": many, "additionalProperties": False}
    few = {"properties": {"a": {"$ref": "#/properties/large/properties/p1"}, "b": {}}}
    left = usable({"properties": {"large": {**part, "required": ["p0"]}, "few": few}})
    assert left["properties"]["large"]["properties"] == many
    other = {**part, "properties": {**many, "q": {}}}
    left = usable({"properties": {"large": other, "other": part, "few": few}})
    assert left["properties"]["large"] == {}
    assert left["properties"]["other"] == part
    assert left["properties"]["few"]["properties"] == {"a": {}, "b": {}}
    whole = {"properties": {**many, **{f"q{n}": STRING for n in range(1_500)}}}
    assert usable({**whole, "required": list(whole["properties"])}).keys() >= {"properties"}


def test_factors_that_add_up_are_let_go() -> None:
    """Each alone would do."""
    factors = [{"multipleOf": 9973}, {"multipleOf": 9967}]
    assert usable({"anyOf": factors}) == {"anyOf": factors}
    assert usable({"type": "integer", "allOf": factors}) == {"type": "integer", "allOf": [{}, {}]}
    many = {f"p{n}": {"multipleOf": 9_900 + n} for n in range(6)}
    assert usable({"properties": many})["properties"] == {name: {} for name in many}
    same = {name: {"multipleOf": 9_973} for name in many}
    assert usable({"properties": same})["properties"] == same


def test_nothing_is_refused_that_was_valid() -> None:
    """Closed objects aside, what is usable accepts whatever the schema did."""
    for seed in range(200):
        schema = root_shape(random.Random(seed), strict=False)
        assert jsonschema.Draft202012Validator.check_schema(schema) is None
        left = usable(schema)
        assert left == schema


NAMES = ["a", "ab", "b", "_a", "kind"]
PATTERNS = ["^a", "b$", "^(?!_)", "^(?!kind$)", "(?=b)b", "(a)\\1"]


def patterned(dice: random.Random, depth: int = 0) -> dict[str, Any]:
    """An object with rules for the names that match a pattern, and perhaps for all others."""

    def part() -> dict[str, Any]:
        if depth < 2 and dice.random() < 0.4:
            return patterned(dice, depth + 1)
        return {"type": dice.choice(["string", "integer", "null"])}

    shape: dict[str, Any] = {"type": "object"}
    shape["patternProperties"] = {
        pattern: part() for pattern in dice.sample(PATTERNS, dice.randint(1, 2))
    }
    if dice.random() < 0.6:
        shape["properties"] = {name: part() for name in dice.sample(NAMES, dice.randint(1, 2))}
    if dice.random() < 0.8:
        shape["additionalProperties"] = dice.choice([True, False, part()])
    return shape


def instance(dice: random.Random, depth: int = 0) -> Any:
    """A value that such a shape may take."""
    if depth and (depth > 3 or dice.random() < 0.6):
        return dice.choice(["text", 1, None])
    return {name: instance(dice, depth + 1) for name in dice.sample(NAMES, dice.randint(0, 3))}


def test_what_matches_a_pattern_is_not_refused() -> None:
    """Where a pattern is let go, so is what was said of the names that it does not match."""
    valid = 0
    for seed in range(1000):
        dice = random.Random(seed)
        schema = patterned(dice)
        given, left = map(jsonschema.Draft202012Validator, (schema, usable(schema)))
        for value in (instance(dice) for _ in range(20)):
            if given.is_valid(value):
                valid += 1
                assert left.is_valid(value), (schema, value)
    assert valid > 1000
