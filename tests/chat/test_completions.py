"""Conversation values in the words of the chat completions API."""

from __future__ import annotations

from typing import Any

import pytest

from server.chat.completions import message_body, tools_body
from server.chat.values import ChatMessage, ToolCall, ToolSpec

WEATHER = ToolSpec("get_weather", "The weather.", {"type": "object"}, strict=True)
CLOCK = ToolSpec("get_time")


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (ChatMessage("system", "Be kind."), {"role": "system", "content": "Be kind."}),
        (ChatMessage("user", ""), {"role": "user", "content": ""}),
        (
            ChatMessage("tool", "Sunny.", tool_call_id="call_1", name="get_weather"),
            {"role": "tool", "content": "Sunny.", "tool_call_id": "call_1"},
        ),
        (
            ChatMessage("assistant", "", tool_calls=(ToolCall("call_1", "get_time", "{}"),)),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "get_time", "arguments": "{}"},
                    }
                ],
            },
        ),
    ],
    ids=["system", "user", "tool", "assistant"],
)
def test_messages(message: ChatMessage, body: dict[str, Any]) -> None:
    """Each role has the fields that the API gives it, and no others."""
    assert message_body(message) == body


def test_words_before_calls_are_kept() -> None:
    """What an assistant said as it called is its content."""
    message = ChatMessage("assistant", "Let me see.", tool_calls=(ToolCall("c", "f", "{}"),))
    assert message_body(message)["content"] == "Let me see."


def test_functions_are_offered() -> None:
    """A function without parameters takes an empty object; strict is told where it is asked for."""
    body = tools_body([WEATHER, CLOCK], must_call=False, parallel=False)
    assert body["parallel_tool_calls"] is False
    assert "tool_choice" not in body
    weather, clock = (tool["function"] for tool in body["tools"])
    assert weather == {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object"},
        "strict": True,
    }
    assert clock == {"name": "get_time", "parameters": {"type": "object", "properties": {}}}


def test_a_call_can_be_forced() -> None:
    """Of the only function by its name, of any by `required`."""
    named = {"type": "function", "function": {"name": "get_time"}}
    assert tools_body([CLOCK], must_call=True, parallel=True)["tool_choice"] == named
    both = tools_body([WEATHER, CLOCK], must_call=True, parallel=True)
    assert both["tool_choice"] == "required"


def test_without_functions_nothing_is_said_of_them() -> None:
    """Endpoints refuse a choice where there is none."""
    assert tools_body([], must_call=False, parallel=True) == {}
