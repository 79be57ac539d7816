"""A conversation in the words of chat templates: OpenAI's message and tool objects.

Each string that a person or the model wrote passes through `mark`; the words of the format itself
(roles, types, the keywords of JSON Schema) do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby, takewhile
from typing import Any

from server.chat.values import ChatMessage, Piece, Role, ToolCall, ToolSpec
from server.nesting import deeper_than

Mark = Callable[[str], str]

UNSAID = "…"  # what stands where a template wants a turn that nobody took
MOST_LEVELS = 100  # of an object that is told as one

# Templates branch on these words and translate them; they are a closed set, not content.
SCHEMA_WORDS = frozenset(
    {
        *("$defs", "$id", "$ref", "$schema", "additionalProperties", "allOf", "anyOf", "const"),
        *("default", "definitions", "description", "enum", "examples", "exclusiveMaximum"),
        *("exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maximum", "minItems"),
        *("minLength", "minimum", "multipleOf", "not", "nullable", "oneOf", "pattern"),
        *("prefixItems", "properties", "required", "title", "type", "uniqueItems"),
    }
)
TYPE_WORDS = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


def tool_object(tool: ToolSpec, mark: Mark) -> dict[str, Any]:
    return {"type": "function", "function": function_object(tool, mark)}


def function_object(tool: ToolSpec, mark: Mark) -> dict[str, Any]:
    return {
        "name": mark(tool.name),
        "description": mark(tool.description or ""),
        "parameters": _marked(tool.schema, mark, SCHEMA_WORDS),
    }


def message_object(
    message: ChatMessage, mark: Mark, *, text_arguments: bool = True
) -> dict[str, Any]:
    """`content` is never null: many templates search in it before they look for calls.

    `text_arguments`: whether arguments that are no object may be told as the text that they are.
    """
    markup = (p.text if p.is_template else mark(p.text) for p in message.markup)
    content = "".join([mark(message.content), *markup])
    fields: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        calls = message.tool_calls
        fields["tool_calls"] = [_call_object(call, mark, as_text=text_arguments) for call in calls]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = _id(message.tool_call_id, mark)
    if message.name is not None:
        fields["name"] = mark(message.name)
    return fields


def _call_object(call: ToolCall, mark: Mark, *, as_text: bool) -> dict[str, Any]:
    """Arguments are an object where they can be: templates print a string as it is, or quote it.

    What is none is still told, so that no call spoils its thread.
    """
    arguments = json_object(call.arguments)
    told: Any
    if arguments is not None:
        told = _marked(arguments, mark)
    else:
        told = mark(call.arguments) if as_text else {"arguments": mark(call.arguments)}
    function = {"name": mark(call.name), "arguments": told}
    return {"id": _id(call.id, mark), "type": "function", "function": function}


def _id(text: str, mark: Mark) -> str:
    """Some templates look at how long an id is, so one that can say nothing counts as theirs."""
    return text if text.isascii() and text.isalnum() else mark(text)


def json_object(text: str) -> dict[str, Any] | None:
    """The object that `text` is in JSON, or nothing, as where it is nested beyond all sense.

    Templates, and whoever else goes through such an object, go down it by recursion.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not deeper_than(MOST_LEVELS, value) else None


def _marked(value: Any, mark: Mark, words: frozenset[str] = frozenset()) -> Any:
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, Mapping):
        return {
            key if key in words else mark(key): _type_kept(key, inner, mark, words)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_marked(inner, mark, words) for inner in value]
    return value


def _type_kept(key: str, value: Any, mark: Mark, words: frozenset[str]) -> Any:
    is_type = words and key == "type" and all(word in TYPE_WORDS for word in _listed(value))
    return value if is_type else _marked(value, mark, words)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else [None]


def system_folded(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The system's text at the head of the first user message, for models that have no system."""
    system = [message for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if not system:
        return rest
    first = next((i for i, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [replace(_one_turn(system), role="user"), *rest]
    rest[first] = replace(_one_turn([*system, rest[first]]), role="user")
    return rest


def words_parted(messages: Iterable[ChatMessage]) -> Iterator[ChatMessage]:
    """Words and calls of one message as two."""
    for message in messages:
        if not message.tool_calls:
            yield message
            continue
        if message.content.strip() or message.markup:
            yield replace(message, tool_calls=())
        yield replace(message, content="", markup=())


def user_first(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The conversation, with something that the user says where another than the user begins it."""
    begin = len(list(takewhile(lambda message: message.role == "system", messages)))
    if messages[begin:] and messages[begin].role == "user":
        return list(messages)
    return [*messages[:begin], ChatMessage("user", UNSAID), *messages[begin:]]


def turns_merged(
    messages: Iterable[ChatMessage], *, calls_apart: bool = False
) -> list[ChatMessage]:
    """One message where a role speaks several times in a row; tool results stay apart.

    `calls_apart`: so do words and calls, which one message could not tell.
    """
    merged: list[ChatMessage] = []
    for _, group in groupby(messages, lambda m: (m.role, calls_apart and bool(m.tool_calls))):
        turns = list(group)
        merged.extend(turns if turns[0].role == "tool" else [_one_turn(turns)])
    return merged


def late_system_moved(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """System text that comes later than the conversation's beginning as the user's words."""
    begin = len(list(takewhile(lambda message: message.role == "system", messages)))
    late = (m if m.role != "system" else replace(m, role="user") for m in messages[begin:])
    return [*messages[:begin], *late]


def alternated(messages: Sequence[ChatMessage], *, calls_apart: bool = False) -> list[ChatMessage]:
    """The user's and the assistant's turns by turns, the user's first.

    Where one is missing, something stands for it. Calls and their results do not count, as they do
    not for the templates that count.
    """
    begun = user_first(late_system_moved(messages))
    merged = turns_merged(begun, calls_apart=calls_apart)
    system = merged[:1] if merged[0].role == "system" else []
    turns = merged[len(system) :]
    told: list[ChatMessage] = []
    due: Role = "user"
    for turn in turns:
        if turn.role != "tool" and not turn.tool_calls:
            if turn.role != due:
                told.append(ChatMessage(due, UNSAID))
            due = "assistant" if turn.role == "user" else "user"
        told.append(turn)
    return [*system, *told]


def _one_turn(turns: Sequence[ChatMessage]) -> ChatMessage:
    merged = reduce(_followed, turns)
    return replace(merged, tool_calls=tuple(call for turn in turns for call in turn.tool_calls))


def _followed(first: ChatMessage, second: ChatMessage) -> ChatMessage:
    """The words of both, each with its markup behind it."""
    if not first.markup:
        contents = (content for content in (first.content, second.content) if content)
        return replace(first, content="\n\n".join(contents), markup=second.markup)
    content = f"\n\n{second.content}" if second.content else ""
    return replace(first, markup=(*first.markup, Piece(content, is_template=False), *second.markup))
