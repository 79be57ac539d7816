"""A conversation in the words of the chat completions API, as its endpoints take them."""

from __future__ import annotations

from collections.abc import Sequence

from server.chat.values import ChatMessage, ToolCall, ToolSpec

JsonObject = dict[str, object]


def message_body(message: ChatMessage) -> JsonObject:
    """One message. An assistant that only calls has no content."""
    body: JsonObject = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["content"] = message.content or None
        body["tool_calls"] = [_call_body(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def tools_body(tools: Sequence[ToolSpec], *, must_call: bool, parallel: bool) -> JsonObject:
    """The fields that offer functions; none if there are none."""
    if not tools:
        return {}
    body: JsonObject = {
        "tools": [_tool_body(tool) for tool in tools],
        "parallel_tool_calls": parallel,
    }
    if must_call:
        named = {"type": "function", "function": {"name": tools[0].name}}
        body["tool_choice"] = named if len(tools) == 1 else "required"
    return body


def _call_body(call: ToolCall) -> JsonObject:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _tool_body(tool: ToolSpec) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.schema
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
