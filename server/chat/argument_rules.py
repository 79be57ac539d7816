"""The rules for the arguments of a call, as its family writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from server.chat.enforced import enforced
from server.chat.layout import LONGEST_NAME, TAG_CLOSE, TAG_NAMED, TAG_OPEN, CallLayout
from server.chat.parameter import Parameter, parameter_of, parameters_of, schema_of
from server.chat.rules import Rules, Schema, either, quoted
from server.chat.values import ToolSpec
from server.schemas.schema_tree import ANNOTATIONS, DEFINITIONS

LARGEST: Final = 250_000  # bytes of a function's schema, with a copy for each of its parameters

_END: Final = TAG_CLOSE.strip()  # of a block, as whoever reads it knows it
_TOLD_IN_BLOCKS: Final = frozenset(
    ("type", "properties", "required", "additionalProperties", *DEFINITIONS, *ANNOTATIONS)
)


def arguments(rules: Rules, layout: CallLayout, tool: ToolSpec, name: str) -> str:
    """The rule of this name, for the arguments of `tool`."""
    schema = parameters_of(tool, loose=rules.loose)
    if layout.arguments == "tagged":
        blocks = _tagged(rules, enforced(schema), name, strict=tool.strict)
        return rules.add(name, " ".join(blocks))
    return rules.add(name, rules.json(schema, strict=tool.strict))


def fits_tags(tool: ToolSpec) -> bool:
    """Whether each of its parameters can stand in a block of its own.

    Its name must be one that is read in a tag, none of the texts that it may be may look like the
    end of its block, and its schema comes with all that it refers to.
    What else is said of them together has no place there.
    """
    schema = parameters_of(tool)
    if not _is_plain(schema):
        return False
    names = schema.get("properties") or {}
    text = orjson.dumps(enforced(schema))
    copies = len(names) if b'"$ref":' in text else 1
    choices = (choice for name in names for choice in parameter_of(schema, name).choices)
    return (
        all(map(_fits_tag, names))
        and not any(_END in choice for choice in choices)
        and copies * len(text) <= LARGEST
    )


def _is_plain(schema: Schema) -> bool:
    """Whether it says which properties there are, and of others at most whether there are any."""
    properties = schema.get("properties") or {}
    return (
        _TOLD_IN_BLOCKS.issuperset(schema)
        and properties.keys() >= set(schema.get("required", ()))
        and False not in properties.values()
        and (bool(properties) or not isinstance(schema.get("additionalProperties"), dict))
    )


def _fits_tag(name: str) -> bool:
    return name == name.strip() and ">" not in name and 0 < len(name) < LONGEST_NAME


def _tagged(rules: Rules, schema: Schema, owner: str, *, strict: bool) -> Iterator[str]:
    """A block for each property, in the schema's order; what is not required may be absent."""
    properties, required = schema.get("properties"), schema.get("required", ())
    if not properties:
        yield from _tagged_freely(rules, schema)
        return
    for place, name in enumerate(properties):
        parameter, own = parameter_of(schema, name), schema_of(schema, name)
        value = _value(rules, parameter, own, strict=strict)
        rule = rules.add(f"{owner}_{place}", f"{quoted(TAG_OPEN + name + TAG_NAMED)} {value}")
        yield rule if name in required else f"{rule}?"


def _tagged_freely(rules: Rules, schema: Schema) -> Iterator[str]:
    if schema.get("additionalProperties", True) is not False:
        name = rules.add("NAME", rf"/[^>\s]([^>\n]{{0,{LONGEST_NAME // 2}}}[^>\s])?/")
        yield f"({quoted(TAG_OPEN)} {name} {quoted(TAG_NAMED)} {_told(rules)})*"


def _value(rules: Rules, parameter: Parameter, schema: Schema, *, strict: bool) -> str:
    """Strings that have no rules are written as they are, everything else as JSON."""
    if parameter.choices:
        return f"({either(parameter.choices)}) {quoted(TAG_CLOSE)}"
    if parameter.takes_any_text or not (strict or parameter.types):
        return _told(rules)
    return f"{rules.json(schema, strict=strict)} {quoted(TAG_CLOSE)}"


def _told(rules: Rules) -> str:
    """Whatever text, up to the end of its block."""
    return rules.up_to("told", rules.text_without("BARE", [_END]), TAG_CLOSE)
