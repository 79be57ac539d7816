"""How much of a conversation its model's template is given to tell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from server.chat.dialects import HERMES
from server.chat.template import ChatTemplate
from server.chat.values import ChatMessage
from server.engine.scripted import CHAT_TEMPLATE, ScriptedEngine
from server.runs.prompt import MOST_TRIES, PromptBuilder
from server.runs.turns import Budget, InvalidPrompt, TurnRequest, Unit

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


async def test_a_template_that_tells_nothing_is_given_up() -> None:
    """Not before a few tries, and with the reason."""
    await told(stopped_beyond(70), talk(1000))
    with pytest.raises(InvalidPrompt, match="stopped: it builds a value of more than"):
        await told(stopped_beyond(70), talk(100 << MOST_TRIES))
    with pytest.raises(InvalidPrompt, match="stopped"):
        await told(stopped_beyond(70), [(ChatMessage("user", "x" * 100),)])
