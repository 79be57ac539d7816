"""How families of models write tool calls and reasoning, as data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from server.chat.layout import CallLayout
from server.chat.template import ChatTemplate, TemplateError
from server.chat.values import ChatMessage, Piece, ToolCall, ToolSpec


@dataclass(frozen=True, slots=True)
class Dialect:
    """The markers of a family. A call is a JSON object of a name and arguments, between two."""

    name: str
    call_open: str = ""
    call_close: str = ""
    reasoning_open: str = "<think>"
    reasoning_close: str = "</think>"
    layout: CallLayout | None = None  # None: calls cannot be enforced

    @property
    def has_calls(self) -> bool:
        return bool(self.call_open)

    def opens_reasoning(self, prompt: Sequence[Piece]) -> bool:
        """Whether `prompt` ends inside reasoning, so that the turn begins there."""
        if not prompt or not prompt[-1].is_template:
            return False
        return prompt[-1].text.rstrip().endswith(self.reasoning_open)


HERMES_LAYOUT = CallLayout(
    before='<tool_call>\n{"name": "',
    between='", "arguments": ',
    after="}\n</tool_call>",
    separator="\n",
)
HERMES = Dialect("hermes", "<tool_call>", "</tool_call>", layout=HERMES_LAYOUT)
PLAIN = Dialect("plain")

PROBE = ToolSpec("zyxwprobe", "A function.", {"type": "object", "properties": {}})
PROBE_ARGUMENTS = {"place": "Paris"}


def dialect_for(template: ChatTemplate) -> Dialect:
    """The dialect in which `template` itself writes down a call; `PLAIN` if in none we know."""
    call = ToolCall("call00001", PROBE.name, json.dumps(PROBE_ARGUMENTS))
    turns = [ChatMessage("user", "Hello"), ChatMessage("assistant", "", (call,))]
    try:
        prompt = template.render(turns, [PROBE], add_generation_prompt=False)
    except TemplateError:
        return PLAIN
    text = "".join(piece.text for piece in prompt)
    return next((dialect for dialect in (HERMES,) if _is_written_in(dialect, text)), PLAIN)


def _is_written_in(dialect: Dialect, text: str) -> bool:
    call = text.rpartition(dialect.call_open)[2].partition(dialect.call_close)[0]
    try:
        return bool(json.loads(call) == {"name": PROBE.name, "arguments": PROBE_ARGUMENTS})
    except ValueError:
        return False
