"""Answers that have a form, where a bare object is a call: no answer is to be read as one.

An object is read as a call if it names a function and then its arguments (see `bare`). So an answer
may not have both members. Where its own schema speaks of both, nothing can be called beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.chat.bare import OBJECT
from server.chat.dialects import Dialect
from server.chat.json_schema import usable
from server.chat.parameter import ANY_OBJECT
from server.chat.rules import Schema
from server.chat.values import ToolSpec
from server.schemas.schema_tree import of_same_value, referred

_NAME: Final = frozenset({"name"})
_ARGUMENTS: Final = frozenset({"arguments", "parameters"})


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The schema that an answer has as a whole; a strict one was checked to be enforceable."""

    schema: Schema
    strict: bool = False


def answer_form(response_format: Mapping[str, Any] | None) -> AnswerForm | None:
    """The form that a response format asks for; None if any text will do."""
    match (response_format or {}).get("type"):
        case "json_object":
            return AnswerForm(ANY_OBJECT)
        case "json_schema":
            described = (response_format or {})["json_schema"]
            schema = described.get("schema")
            return AnswerForm(
                ANY_OBJECT if schema is None else schema, bool(described.get("strict"))
            )
    return None


def callable_beside(
    form: AnswerForm | None, dialect: Dialect, tools: Sequence[ToolSpec]
) -> Sequence[ToolSpec]:
    """The functions that can be called where an answer has this form: none if it can be a call."""
    if form is None or dialect.bare != OBJECT:
        return tools
    schema = form.schema if form.strict else usable(form.schema)
    return () if _all_declared(schema) else tools


def without_call(schema: Schema) -> Schema:
    """The same schema, less the objects that would be read as calls.

    Of what makes one, that is left out which the schema does not speak of.
    """
    schema = referred(schema)
    barred = _NAME if _declared(schema) & _ARGUMENTS else _ARGUMENTS
    properties = {**schema.get("properties", {}), **dict.fromkeys(sorted(barred), False)}
    return {**schema, "properties": properties}


def _all_declared(schema: Schema) -> bool:
    declared = _declared(schema)
    return bool(declared & _NAME) and bool(declared & _ARGUMENTS)


def _declared(schema: Schema) -> set[str]:
    """The properties that the value itself may have by name, by any of its schemas."""
    return {name for part in of_same_value(schema) for name in _named(part)}


def _named(part: Schema) -> Iterator[str]:
    yield from part.get("properties", ())
    yield from part.get("required", ())
    for value in (part.get("const"), *part.get("enum", ())):
        if isinstance(value, dict):
            yield from value
