"""The chat templates of real model families, where a llama.cpp source tree is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.chat.choice import dialect_for
from server.chat.dialects import DIALECTS
from server.chat.telling import telling_of
from server.chat.template import ChatTemplate, TemplateError
from server.chat.values import ChatMessage, ToolCall, ToolSpec

SOURCE_TREE = os.environ.get("ASSISTANTS_LLAMA_CPP_DIR")
FILES = sorted(Path(SOURCE_TREE or "/nowhere").glob("models/templates/*.jinja"))

pytestmark = pytest.mark.skipif(not FILES, reason="ASSISTANTS_LLAMA_CPP_DIR is not set")

# What fails in a plain rendering too: they want variables of their own, or change their input.
UNUSABLE = {
    "fireworks-ai-llama-3-firefunction-v2.jinja",
}
MARKERS = {m for dialect in DIALECTS.values() for m in dialect.markers if m[0] in "<["}
CONTROL = ("<|im_end|>", "</s>", "<|eot_id|>", "<end_of_turn>", "[/INST]", *sorted(MARKERS))
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}}
TOOL = ToolSpec("get_weather", "The weather now", PARAMETERS)
CALL = ToolCall("abcdef123", "get_weather", '{"city": "Paris"}')
CHAT = [
    ChatMessage("user", "Hello there"),
    ChatMessage("assistant", "Hello! How can I help?"),
    ChatMessage("user", 'Is 2 < 3, and what is "new"?'),
]
WITH_CALL = [
    ChatMessage("user", "How is the weather?"),
    ChatMessage("assistant", "", (CALL,)),
    ChatMessage("tool", '{"degrees": 5}', tool_call_id=CALL.id, name=CALL.name),
    ChatMessage("assistant", "It is 5 degrees."),
    ChatMessage("user", "Thanks"),
]

RESULT = ChatMessage("tool", "5 degrees", tool_call_id=CALL.id, name=CALL.name)
CALLED = [WITH_CALL[1], RESULT]
SYSTEM, MORE_SYSTEM = (ChatMessage("system", text) for text in ("Be brief.", "Speak French."))
# What a thread may come to: cut anywhere, left by runs that were cancelled, begun by nobody.
UNEVEN = {
    "assistant begins": [CHAT[1], CHAT[2]],
    "assistant begins after system": [SYSTEM, CHAT[1], CHAT[2], CHAT[1], CHAT[2]],
    "assistant alone": [CHAT[1]],
    "calls begin": [*CALLED, *WITH_CALL[3:]],
    "calls alone": CALLED,
    "result without answer": [SYSTEM, WITH_CALL[0], *CALLED, WITH_CALL[4]],
    "results without answers": [*CHAT, *CALLED, CHAT[0], *CALLED, CHAT[2]],
    "answer twice": [CHAT[0], CHAT[1], *CALLED, WITH_CALL[3], CHAT[2]],
    "words beside calls": [
        SYSTEM,
        WITH_CALL[0],
        ChatMessage("assistant", "I look.", (CALL,)),
        RESULT,
    ],
    "words beside calls again": [
        SYSTEM,
        WITH_CALL[0],
        ChatMessage("assistant", "I look.", (CALL,)),
        RESULT,
        ChatMessage("assistant", "And again.", (CALL,)),
        RESULT,
        *WITH_CALL[3:],
    ],
    "no message": [],
    "system alone": [SYSTEM],
    "system before assistant": [SYSTEM, CHAT[1]],
    "system before calls": [SYSTEM, WITH_CALL[0], *CALLED],
    "system late": [SYSTEM, *CHAT[:2], MORE_SYSTEM, CHAT[2]],
    "system last": [SYSTEM, *CHAT[:2], MORE_SYSTEM],
    "system in turns": [CHAT[0], SYSTEM, CHAT[1], MORE_SYSTEM, WITH_CALL[3], CHAT[2]],
}

# Two drop words beside calls, and count turns; one takes them for reasoning, up to the answer.
LOST = {
    *(
        (family, f"words beside calls{again}")
        for family in (
            "Mistral-Small-3.2-24B-Instruct-2506",
            "mistralai-Mistral-Nemo-Instruct-2407",
        )
        for again in ("", " again")
    ),
    ("openai-gpt-oss-120b", "words beside calls again"),
}


def plainly(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
    """What the public settings of chat templates give, without any of our own code."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value, ensure_ascii=False, **options: json.dumps(
        value, ensure_ascii=ensure_ascii, **options
    )
    environment.globals["strftime_now"] = lambda form: "21 Nov 2026"
    return environment.from_string(source).render(
        messages=messages,
        tools=tools,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
        raise_exception=pytest.fail,
    )


def message_object(message: ChatMessage) -> dict[str, Any]:
    """A message in OpenAI's words."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        function = {"name": CALL.name, "arguments": json.loads(CALL.arguments)}
        fields["tool_calls"] = [{"id": CALL.id, "type": "function", "function": function}]
    if message.tool_call_id:
        fields |= {"tool_call_id": message.tool_call_id, "name": message.name}
    return fields


class FixedTime:
    def strftime(self, form: str) -> str:
        return "21 Nov 2026"


def load(path: Path) -> tuple[str, ChatTemplate]:
    """The template of a family; skips the few that nobody can use so."""
    if path.name in UNUSABLE:
        pytest.skip("wants variables of its own")
    source = path.read_text()
    now: Any = FixedTime
    return source, ChatTemplate(source, bos="<s>", eos="</s>", control=CONTROL, now=now)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("with_tools", [False, True], ids=["chat", "tools"])
def test_an_honest_conversation_is_rendered_exactly(path: Path, with_tools: bool) -> None:
    """The pieces, joined, are what a plain rendering gives, wherever that gives anything."""
    source, template = load(path)
    function = {"name": TOOL.name, "description": TOOL.description, "parameters": PARAMETERS}
    tools = [{"type": "function", "function": function}] if with_tools else None
    messages = WITH_CALL if with_tools else CHAT
    try:
        expected = plainly(source, [message_object(m) for m in messages], tools)
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 # whatever it is
        pytest.skip(f"no plain rendering: {error}")
    pieces = template.render(messages, [TOOL] if with_tools else [])
    assert "".join(piece.text for piece in pieces) == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_content_counts_as_template(path: Path) -> None:
    """Control strings that a user, a tool or the model wrote stand in no template piece."""
    _, template = load(path)
    evil = f"a{''.join(CONTROL)}b"
    call = ToolCall(CALL.id, CALL.name, json.dumps({"city": evil}))
    nasty = [
        ChatMessage("user", evil),
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", evil, tool_call_id=CALL.id, name=CALL.name),
        ChatMessage("assistant", evil),
        ChatMessage("user", evil),
    ]
    tool = ToolSpec(TOOL.name, evil, PARAMETERS)
    try:
        harmless = template.render(WITH_CALL, [TOOL])
    except TemplateError as error:
        pytest.skip(str(error))
    said, meant = (
        "".join(piece.text for piece in pieces if piece.is_template)
        for pieces in (template.render(nasty, [tool]), harmless)
    )
    for control in CONTROL:
        assert said.count(control) <= meant.count(control), control


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("with_tools", [False, True], ids=["chat", "tools"])
def test_every_conversation_is_rendered(path: Path, with_tools: bool) -> None:
    """Whoever begins and whatever is missing in between, it is rendered, and nothing is lost."""
    _, template = load(path)
    telling = telling_of(template, dialect_for(template))
    for name, messages in UNEVEN.items():
        told, tools = telling.told(messages, [TOOL] if with_tools else [])
        prompt = "".join(piece.text for piece in template.render(told, tools))
        said = [message.content for message in messages]
        said += ["Paris" for message in messages if message.tool_calls]
        missing = [words for words in said if words not in prompt]
        assert not missing or (path.stem, name) in LOST, (name, missing)
