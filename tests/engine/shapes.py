"""Schemas made by dice, of all that the strict subset has, and somewhat more."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema

Shape = dict[str, Any]

NAMES = [
    "city",
    "größe",
    "x",
    "a b",
    'quo"te',
    "back\\slash",
    "line\nbreak",
    "名前",
    "$ref",
    "</s>",
]
WORDS = ["red", "", "naïve", "<tool_call>", '"', "\\", "\n", "日本", "<|im_end|>", "true", "1"]
PATTERNS = ["^[a-z]{1,6}$", "^[A-Z]{2}[0-9]{3}$", "^(ab|cd){1,3}$", "^[^x]{0,5}$"]
FORMATS = ["date", "ipv4", "uuid"]
DEEPEST = 3


def valid(text: str, schema: Shape) -> bool:
    """As another implementation sees it."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    judge = jsonschema.Draft202012Validator(schema, format_checker=checker)
    return bool(judge.is_valid(json.loads(text)))


def object_shape(dice: random.Random, *, strict: bool, depth: int = 0) -> Shape:
    """An object: in a strict one all is required, in others some is."""
    names = dice.sample(NAMES, dice.randint(0 if depth else 1, 4))
    properties = {name: shape(dice, strict=strict, depth=depth + 1) for name in names}
    required = names if strict else dice.sample(names, dice.randint(0, len(names)))
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": not strict and dice.random() < 0.1,
    }


def root_shape(dice: random.Random, *, strict: bool) -> Shape:
    """What a whole answer or the arguments of a function may be; some refer to themselves."""
    root = object_shape(dice, strict=strict)
    if dice.random() < 0.3:
        root["$defs"] = {"part": shape(dice, strict=strict, depth=DEEPEST)}
        _add(root, "part", {"$ref": "#/$defs/part"})
    if dice.random() < 0.2:
        _add(root, "parent", {"anyOf": [{"type": "null"}, {"$ref": "#"}]})
    return root


def _add(root: Shape, name: str, part: Shape) -> None:
    root["properties"][name] = part
    root["required"] = [*root["required"], name]


def shape(dice: random.Random, *, strict: bool, depth: int) -> Shape:
    """Any schema; simple ones only where it is deep."""
    makers = [_text, _number, _integer, _choice, _constant, _plain]
    if depth < DEEPEST:
        makers += [_array, _object, _union]
    return dice.choice(makers)(dice, strict, depth)


def _text(dice: random.Random, strict: bool, depth: int) -> Shape:
    kinds: list[Shape] = [{"pattern": dice.choice(PATTERNS)}, {"format": dice.choice(FORMATS)}]
    if not strict:
        least = dice.randint(0, 3)
        kinds.append({"minLength": least, "maxLength": least + dice.randint(0, 5)})
    return {"type": "string", **dice.choice(kinds)}


def _number(dice: random.Random, strict: bool, depth: int) -> Shape:
    low = dice.choice([-2.5, 0, 0.25])
    return {"type": "number", "minimum": low, "maximum": low + dice.choice([0.5, 3, 100])}


def _integer(dice: random.Random, strict: bool, depth: int) -> Shape:
    low = dice.randint(-50, 50)
    kinds: list[Shape] = [
        {"minimum": low, "maximum": low + dice.randint(0, 500)},
        {"exclusiveMinimum": low, "exclusiveMaximum": low + dice.randint(3, 500)},
        {"minimum": 0, "maximum": 1000, "multipleOf": dice.choice([2, 5, 7])},
    ]
    return {"type": "integer", **dice.choice(kinds)}


def _choice(dice: random.Random, strict: bool, depth: int) -> Shape:
    return {"enum": dice.sample([*WORDS, 0, -1.5, None, True], dice.randint(1, 5))}


def _constant(dice: random.Random, strict: bool, depth: int) -> Shape:
    return {"const": dice.choice([*WORDS, 3, None, False])}


def _plain(dice: random.Random, strict: bool, depth: int) -> Shape:
    return {"type": dice.choice(["boolean", "null", ["null", "boolean"]])}


def _array(dice: random.Random, strict: bool, depth: int) -> Shape:
    least = dice.randint(0, 2)
    items = shape(dice, strict=strict, depth=depth + 1)
    return {
        "type": "array",
        "items": items,
        "minItems": least,
        "maxItems": least + dice.randint(0, 2),
    }


def _object(dice: random.Random, strict: bool, depth: int) -> Shape:
    return object_shape(dice, strict=strict, depth=depth)


def _union(dice: random.Random, strict: bool, depth: int) -> Shape:
    return {"anyOf": [shape(dice, strict=strict, depth=depth + 1) for _ in range(2)]}
