"""How much of a conversation its model's template is given to tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from server.chat.dialects import HERMES
from server.chat.template import ChatTemplate
from server.chat.values import ChatMessage, Piece, ToolCall, ToolSpec
from server.engine.scripted import CHAT_TEMPLATE, ScriptedEngine
from server.runs.prompt import MOST_TRIES, PromptBuilder, newest_within
from server.runs.turns import Budget, InvalidPrompt, PromptBudgetUnmet, TurnRequest, Unit

ENOUGH = 100_000


def stopped_beyond(messages: int) -> ChatTemplate:
    """A template that asks for more than it may have beyond so many messages, or for a long one."""
    condition = f"messages | length > {messages} or messages[-1].content | length > 99"
    greed = "{% if " + condition + " %}{{ 'a' * 9000000 }}{% endif %}"
    return ChatTemplate(greed + CHAT_TEMPLATE, eos="<|im_end|>")


def talk(count: int) -> list[Unit]:
    """A conversation of so many messages."""
    roles = ("user", "assistant")
    return [(ChatMessage(roles[number % 2], f"Words {number}."),) for number in range(count)]


async def told(template: ChatTemplate, units: Sequence[Unit]) -> str:
    """The prompt of this conversation."""
    builder = PromptBuilder(ScriptedEngine(), template, HERMES)
    request = TurnRequest("Be brief.", units, Budget(None, 1, ENOUGH))
    return (await builder.build(request)).text


async def test_the_oldest_is_dropped_where_the_template_cannot_tell_it_all() -> None:
    """The instructions and the newest stay, and of the rest about as much as can be told."""
    prompt = await told(stopped_beyond(100), talk(301))
    assert "Be brief." in prompt
    assert "Words 300." in prompt
    assert 45 <= prompt.count("Words") <= 75


async def test_what_is_dropped_stays_the_same_for_some_turns() -> None:
    """A prompt that began anew with each message would be read anew each time."""
    template = stopped_beyond(100)
    prompts = [await told(template, talk(count)) for count in range(301, 341, 2)]
    first = [prompt[prompt.index("Words") :].partition(".")[0] for prompt in prompts]
    assert len({*first}) < len(first) / 2


def called(number: int, size: int = 10) -> Unit:
    """A call with its output."""
    call = ToolCall(f"call_{number}", "look", "{}")
    output = f"Output {number}. {'x' * size}"
    return (
        ChatMessage("assistant", "", tool_calls=(call,)),
        ChatMessage("tool", output, tool_call_id=call.id, name="look"),
    )


async def test_older_calls_go_before_the_question_does() -> None:
    """First what was before it, then the calls after it; it and the newest call stay."""
    units = [*talk(20), (ChatMessage("user", "WHERE TO?"),), *(called(n, 300) for n in range(9))]
    builder = PromptBuilder(ScriptedEngine(), ChatTemplate(CHAT_TEMPLATE, eos="<|im_end|>"), HERMES)

    async def told_in(tokens: int) -> str:
        request = TurnRequest("Be brief.", units, Budget(tokens, 1, ENOUGH))
        return (await builder.build(request)).text

    whole = len((await told_in(ENOUGH - 1)).encode())
    for tokens in (whole - 100, whole - 1000, whole // 2, whole // 4):
        prompt = await told_in(tokens)
        assert "WHERE TO?" in prompt
        assert "Output 8." in prompt
        assert ("Words" in prompt) <= ("Output 0." in prompt)
    assert "Output 7." in prompt
    assert "Output 0." not in prompt
    with pytest.raises(PromptBudgetUnmet):
        await told_in(300)


async def test_the_question_stays_where_a_template_is_stopped() -> None:
    """However many calls follow it."""
    units = [(ChatMessage("user", "WHERE TO?"),), *(called(number) for number in range(60))]
    prompt = await told(stopped_beyond(30), units)
    assert "WHERE TO?" in prompt
    assert "Output 59." in prompt
    assert "Output 0." not in prompt


def test_the_question_stays_among_what_characters_leave() -> None:
    """As do the newest units; none are left where even it and the newest do not fit."""
    question: Unit = (ChatMessage("user", "?" * 100),)
    units = [*talk(9), question, *(called(number, 1000) for number in range(9))]
    kept = newest_within(units, Budget(200, 1, ENOUGH))
    assert kept[0] is question
    assert kept[1:] == units[-(len(kept) - 1) :]
    assert 2 < len(kept) < 6
    assert newest_within(units, Budget(60, 1, ENOUGH)) == []
    assert newest_within(units, Budget(ENOUGH, 1, ENOUGH)) == units
    assert newest_within([], Budget(1, 1, ENOUGH)) == []


async def test_a_template_that_tells_nothing_is_given_up() -> None:
    """Not before a few tries, and with the reason."""
    await told(stopped_beyond(70), talk(1000))
    with pytest.raises(InvalidPrompt, match="stopped: it builds a value of more than"):
        await told(stopped_beyond(70), talk(100 << MOST_TRIES))
    with pytest.raises(InvalidPrompt, match="stopped"):
        await told(stopped_beyond(70), [(ChatMessage("user", "x" * 100),)])


PICKY = """
{%- macro told(type) %}{% for one in type %}{{ told(one) }}{% endfor %}{% endmacro %}
{%- for tool in tools or [] if 'null' in tool.function.name %}{{ told('null') }}{% endfor %}
{%- for m in messages if m.content == 'Fail.' %}{{ raise_exception('Never.') }}{% endfor %}"""


class Recorded(ChatTemplate):
    """A template that keeps which functions it was given."""

    def __init__(self, source: str) -> None:
        self.given: list[list[str]] = []
        super().__init__(source, eos="<|im_end|>")

    def render(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = (), **options: Any
    ) -> list[Piece]:
        self.given.append([tool.name for tool in tools])
        return super().render(messages, tools, **options)


def unit_of(type_of_unit: str) -> ToolSpec:
    """A function with a parameter of this type."""
    properties = {"unit": {"type": type_of_unit}}
    return ToolSpec(f"take_{type_of_unit}", parameters={"type": "object", "properties": properties})


async def test_functions_at_which_a_template_fails_are_told_in_words() -> None:
    """It is not asked again to tell these, and tells all others as ever."""
    template = Recorded(PICKY + CHAT_TEMPLATE)
    builder = PromptBuilder(ScriptedEngine(), template, HERMES)
    template.given.clear()

    async def told_with(*tools: ToolSpec, words: str = "Hi.") -> str:
        units = [(ChatMessage("user", words),)]
        request = TurnRequest("Be brief.", units, Budget(None, 1, ENOUGH), tools=tools)
        return (await builder.build(request)).text

    for _ in range(2):
        prompt = await told_with(unit_of("null"))
        assert "Be brief.\n\nYou can call functions." in prompt
        assert '{"name": "take_null"' in prompt
        assert "<tools>" not in prompt
    assert template.given == [["take_null"], [], []]
    assert "<tools>" in await told_with(unit_of("string"))
    with pytest.raises(InvalidPrompt, match="Never"):
        await told_with(unit_of("string"), words="Fail.")
    assert "<tools>" in await told_with(unit_of("string"))
