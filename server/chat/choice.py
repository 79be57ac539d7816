"""Whose dialect a chat template is: by what it writes down itself, else by what it is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

from server.chat.conversation import json_object
from server.chat.dialects import DEEPSEEK, DIALECTS, GRANITE, JSON, PHI, Dialect
from server.chat.template import ChatTemplate, TemplateError
from server.chat.turn import TurnParser
from server.chat.values import ChatMessage, ToolCall, ToolSpec

# Of some families whose templates do not write calls down: what stands in their source.
SHOWN = ((PHI, "<|/tool|>"), (GRANITE, "<|tool_call|>"), (DEEPSEEK, "<｜tool▁call▁begin｜>"))


class Thoughts(NamedTuple):
    """The markers of reasoning that are a template's own, whatever its family's.

    It has them if all of its `signs` stand in its source, or else the markers themselves. What is
    `silent` stands between thoughts and answer.
    """

    opening: str
    closing: str
    signs: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


REASONING = (
    Thoughts("[THINK]", "[/THINK]"),  # Magistral, Ministral
    Thoughts("<|START_THINKING|>", "<|END_THINKING|>"),  # Command
    Thoughts("<seed:think>", "</seed:think>"),  # Seed-OSS
    Thoughts("<mm:think>", "</mm:think>", silent=("</mm:think>",)),  # MiniMax M3
    Thoughts("<thinking>", "</thinking>"),  # Apriel 1.5
    Thoughts("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),  # Apriel 1.6
    Thoughts(  # Hy3
        "<think:opensource>", "</think:opensource>", ("':opensource'", "<think{}>", "</think{}>")
    ),
    Thoughts(  # Solar Open
        "<|think|>",
        "<|end|>",
        ("<|begin|>assistant<|think|>", "<|begin|>assistant<|content|>"),
        ("<|begin|>assistant", "<|content|>", "<|end|>"),
    ),
)

SAID = "zyxwsaid"
PROBE = ToolSpec(
    "zyxwprobe",
    "A function.",
    {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}},
)
PROBE_ARGUMENTS = {"place": "Paris", "days": 3}


def dialect_for(template: ChatTemplate, chosen: Dialect | None = None) -> Dialect:
    """The dialect in which `template` writes down a call, or which its source shows; else JSON.

    The markers of reasoning are the template's also for a dialect that was chosen by hand.
    """
    if chosen is not None:
        return _with_reasoning(chosen, template)
    written = calls_written(template, 1)
    families = (dialect for dialect in DIALECTS.values() if dialect is not JSON)
    found = [dialect for dialect in families if _is_written_in(dialect, written)]
    found += [dialect for dialect, sign in SHOWN if sign in template.source]
    return _with_reasoning((*found, JSON)[0], template)


def calls_written(template: ChatTemplate, count: int) -> str:
    """What `template` writes behind a user's message for a message of so many calls."""
    calls = tuple(
        ToolCall(f"call0000{number}", PROBE.name, json.dumps(PROBE_ARGUMENTS))
        for number in range(count)
    )
    turns = [ChatMessage("user", SAID), ChatMessage("assistant", "", calls)]
    try:
        prompt = template.render(turns, [PROBE], add_generation_prompt=False)
    except TemplateError:
        return ""
    return "".join(piece.text for piece in prompt).rpartition(SAID)[2]


def reads(dialect: Dialect, written: str, count: int = 1) -> bool:
    """Whether a model that wrote this in its turn would have made so many of the probe's calls."""
    parser = TurnParser(dialect, [PROBE])
    parser.feed(written)
    parser.finish()
    calls = [(name, json_object(arguments)) for _, name, arguments in parser.calls]
    return calls == [(PROBE.name, PROBE_ARGUMENTS)] * count


def _is_written_in(dialect: Dialect, written: str) -> bool:
    return dialect.sign in written and reads(dialect, written)


def _with_reasoning(dialect: Dialect, template: ChatTemplate) -> Dialect:
    """The dialect with the markers of reasoning that the template has, whatever its family's."""
    family = Thoughts(dialect.reasoning_open, dialect.reasoning_close)
    for thoughts in (*REASONING, family):
        signs = thoughts.signs or (thoughts.opening.rstrip(), thoughts.closing)
        if all(sign in template.source for sign in signs):
            return replace(
                dialect,
                reasoning_open=thoughts.opening,
                reasoning_close=thoughts.closing,
                silent=(*dialect.silent, *thoughts.silent),
                thinks_again=True,
            )
    return dialect
