"""Tells in texts what a template has no place for: functions, calls, results, an answer's form.

The markers that are told this way count as the template's own words; all else stays content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby
from typing import Any

from server.chat.choice import calls_written, reads
from server.chat.conversation import function_object, json_object
from server.chat.dialects import JSON, Dialect
from server.chat.layout import TAG_CLOSE, TAG_NAMED, TAG_OPEN, CallLayout
from server.chat.template import ChatTemplate
from server.chat.values import ChatMessage, Piece, ToolCall, ToolSpec

EXAMPLE = ToolCall("", "name", '{"parameter": "value"}')


@dataclass(frozen=True, slots=True)
class Telling:
    """How conversations are told to one model.

    `tools`, `calls` and `results` say what its template has a place for, and `several` whether a
    message of it has one for more than one call.
    """

    dialect: Dialect
    tools: bool
    calls: bool
    results: bool
    several: bool

    def told(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        response_format: Mapping[str, Any] | None = None,
    ) -> tuple[list[ChatMessage], Sequence[ToolSpec]]:
        """The messages and functions that the template is given."""
        shaped = list(messages)
        if self.dialect.id_length is not None:
            shaped = [_with_short_ids(message, self.dialect.id_length) for message in shaped]
        if self.calls and not self.several:
            shaped = list(_one_call_each(shaped))
        if not self.results:
            shaped = list(_results_as_words(shaped))
        layout = self.dialect.layout
        if layout is not None and not self.calls:
            shaped = [_calls_as_words(message, layout) for message in shaped]
        if layout is not None and tools and not self.tools:
            shaped = _instructed(shaped, _tools_in_words(tools, layout))
            tools = ()
        if form := _form_in_words(response_format):
            shaped = _instructed(shaped, [form])
        return shaped, tools


def telling_of(template: ChatTemplate, dialect: Dialect) -> Telling:
    """What is told by `template` itself: nothing of calls, if it tells them in another dialect."""
    if dialect.name == JSON.name:
        return Telling(dialect, tools=False, calls=False, results=False, several=False)
    calls = reads(dialect, calls_written(template, 1))
    return Telling(
        dialect,
        tools=template.supports_tools,
        calls=calls,
        results=calls or template.supports_results,
        several=reads(dialect, calls_written(template, 2), 2),
    )


def _with_short_ids(message: ChatMessage, length: int) -> ChatMessage:
    return replace(
        message,
        tool_calls=tuple(replace(c, id=_short(c.id, length)) for c in message.tool_calls),
        tool_call_id=message.tool_call_id and _short(message.tool_call_id, length),
    )


def _short(call_id: str, length: int) -> str:
    if len(call_id) == length and call_id.isalnum():
        return call_id
    return sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def _one_call_each(messages: Iterable[ChatMessage]) -> Iterator[ChatMessage]:
    """Each call in a message of its own, with its result behind it."""
    held: dict[str, ChatMessage] = {}  # the calls whose results are to come, each in its message
    for message in messages:
        if message.role == "tool" and message.tool_call_id in held:
            yield held.pop(message.tool_call_id)
            yield message
            continue
        yield from held.values()
        held = {
            call.id: replace(message, content="" if number else message.content, tool_calls=(call,))
            for number, call in enumerate(message.tool_calls)
        }
        if not held:
            yield message
    yield from held.values()


def _results_as_words(messages: Iterable[ChatMessage]) -> Iterator[ChatMessage]:
    """Results as the user's words, those of one turn in one message."""
    names: dict[str | None, str] = {}
    for is_result, group in groupby(messages, key=lambda message: message.role == "tool"):
        turns = list(group)
        if is_result:
            told = (_result_in_words(turn, names.get(turn.tool_call_id)) for turn in turns)
            yield ChatMessage("user", "\n\n".join(told))
        else:
            names |= {call.id: call.name for turn in turns for call in turn.tool_calls}
            yield from turns


def _result_in_words(result: ChatMessage, called: str | None) -> str:
    return f"The function {result.name or called or ''} returned:\n{result.content}"


def _calls_as_words(message: ChatMessage, layout: CallLayout) -> ChatMessage:
    if not message.tool_calls:
        return message
    space = "\n" if message.content else ""
    markup = (Piece(space, is_template=True), *pieces_of(layout, message.tool_calls))
    return replace(message, tool_calls=(), markup=(*message.markup, *markup))


def _instructed(messages: Sequence[ChatMessage], more: Iterable[Piece]) -> list[ChatMessage]:
    """The conversation, with more behind the system's words."""
    first, *rest = messages if messages and messages[0].role == "system" else [None, *messages]
    system = first or ChatMessage("system", "")
    space = "\n\n" if system.content or system.markup else ""
    markup = (Piece(space, is_template=False), *more)
    return [replace(system, markup=(*system.markup, *markup)), *rest]


def _form_in_words(response_format: Mapping[str, Any] | None) -> Piece | None:
    """The schema that an answer has, whose names and descriptions say what belongs where."""
    described = (response_format or {}).get("json_schema") or {}
    if not described.get("schema"):
        return None
    told = {key: described[key] for key in ("name", "description", "schema") if described.get(key)}
    head = "Your answer must be JSON. This is its JSON Schema, with the name of what it is:\n"
    return Piece(f"{head}{json.dumps(told, ensure_ascii=False)}", is_template=False)


def _tools_in_words(tools: Sequence[ToolSpec], layout: CallLayout) -> Iterator[Piece]:
    described = "\n".join(
        json.dumps(function_object(tool, str), ensure_ascii=False) for tool in tools
    )
    head = "You can call functions. Here they are, each with the JSON Schema of its parameters:\n"
    yield Piece(f"{head}{described}\n\n", is_template=False)
    call = "To call one, write nothing but this, with its name and all that it needs:\n"
    yield Piece(call, is_template=False)
    yield from pieces_of(layout, [EXAMPLE])
    end = "\nYou are then given what it returned. Where no function helps, answer in words."
    yield Piece(end, is_template=False)


def pieces_of(layout: CallLayout, calls: Sequence[ToolCall]) -> list[Piece]:
    """A turn's calls as its model would write them."""
    arguments = _tagged_arguments if layout.arguments == "tagged" else _json_arguments
    pieces = [Piece(layout.section_open, is_template=True)]
    for number, call in enumerate(calls):
        pieces += [
            Piece((layout.separator if number else "") + layout.before, is_template=True),
            Piece(call.name, is_template=False),
            Piece(layout.between, is_template=True),
            *arguments(call.arguments),
            Piece(layout.after, is_template=True),
        ]
    return [*pieces, Piece(layout.section_close, is_template=True)]


def _json_arguments(arguments: str) -> list[Piece]:
    return [Piece(arguments, is_template=False)]


def _tagged_arguments(arguments: str) -> list[Piece]:
    pieces: list[Piece] = []
    for key, value in (json_object(arguments) or {}).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        pieces += [
            Piece(TAG_OPEN, is_template=True),
            Piece(key, is_template=False),
            Piece(TAG_NAMED, is_template=True),
            Piece(text, is_template=False),
            Piece(TAG_CLOSE, is_template=True),
        ]
    return pieces
