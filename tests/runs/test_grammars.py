"""What the engine is told that a turn may say, and what becomes of a grammar that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from server.engine.protocol import GrammarRefused
from server.runs.local import UNENFORCEABLE
from tests.runs.story import WEATHER, Json, Story, calls_of, metric, text_of, written

ROME = '{"city": "Rome"}'
CITY: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
STRICT: Json = {
    "type": "function",
    "function": {"name": "get_time", "parameters": CITY, "strict": True},
}
FORMAT: Json = {"type": "json_schema", "json_schema": {"name": "answer", "schema": CITY}}


async def grammar_of(story: Story, **asked: Any) -> str:
    """That of a run's first turn."""
    await story.run(**asked)
    return story.engine.requests[0].grammar


@pytest.mark.parametrize(
    "asked",
    [{"tools": []}, {"tool_choice": "none"}, {"tools": [], "response_format": {"type": "text"}}],
    ids=str,
)
async def test_free_turns_have_none(story: Story, asked: Json) -> None:
    """Nothing is to be called, and any text will do."""
    assert await grammar_of(story, **asked) == ""


@pytest.mark.parametrize("asked", [{"tools": []}, {"tool_choice": "none"}], ids=str)
async def test_a_thread_with_calls_does_not_tempt_to_more(story: Story, asked: Json) -> None:
    """Where nothing may be called any more, the marker of a call is not written."""
    story.engine.says(written(("get_weather", ROME)))
    waiting = await story.run()
    await story.submit(waiting, "sunny")
    await story.settled(waiting)
    await story.run(**asked)
    grammar = story.engine.requests[-1].grammar
    assert "turn: TEXT\n" in grammar
    assert 'NO_TEXT: "<tool_call>"\n' in grammar


async def test_functions_may_be_called(story: Story) -> None:
    """There may be text, and the marker of a call is the model's own token."""
    grammar = await grammar_of(story)
    assert "start: turn" in grammar
    assert "turn: TEXT | " in grammar
    assert f"<[{story.engine.info.tags['<tool_call>']}]>" in grammar
    assert "get_weather" in grammar


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=str
)
async def test_functions_must_be_called(story: Story, choice: Any) -> None:
    """All that are offered, or the one that was chosen; no text, and one call if so asked."""
    tools = [WEATHER, STRICT]
    asked: Json = {"tools": tools, "tool_choice": choice, "parallel_tool_calls": False}
    grammar = await grammar_of(story, **asked)
    assert "TEXT" not in grammar
    assert "get_weather" in grammar
    assert ("get_time" in grammar) == (choice == "required")
    assert "next_call" not in grammar


async def test_an_answer_has_its_form(story: Story) -> None:
    """A schema, or any object; with functions beside it, one or the other."""
    alone = await grammar_of(story, tools=[], response_format=FORMAT)
    assert '"city"' in alone
    assert "turn: answer\n" in alone
    await story.run(response_format={"type": "json_object"})
    assert "turn: answer | " in story.engine.requests[1].grammar


async def test_the_model_is_told_the_form(story: Story) -> None:
    """It is in its prompt, behind the instructions that its cache shares with others."""
    plain, formed = [await story.run(**asked) for asked in ({}, {"response_format": FORMAT})]
    assert plain["status"] == formed["status"] == "completed"
    before, after = story.engine.prompts
    assert '"schema": {"type": "object", "properties": {"city"' not in before
    assert '"schema": {"type": "object", "properties": {"city"' in after
    shared = [request.shared_tokens for request in story.engine.requests]
    assert 0 < shared[0] < shared[1]


async def test_a_form_that_has_no_room_is_not_told(story: Story) -> None:
    """The answer is held to it all the same."""
    city = {"type": "string", "description": "Where. " * 2000}
    schema = {**CITY, "properties": {"city": city}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    assert (await story.run(response_format=form))["status"] == "completed"
    assert "Your answer must be JSON." not in story.engine.prompts[0]
    assert '"city"' in story.engine.requests[0].grammar


async def test_a_refused_grammar_gives_way_to_a_loose_one(story: Story) -> None:
    """The run goes on; what is strict is still held to, and what is not no longer."""
    story.engine.fails(GrammarRefused("The grammar is refused: too large."))
    story.engine.says(written(("get_weather", ROME)))
    run = await story.run(tools=[WEATHER, STRICT])
    assert run["status"] == "requires_action"
    assert calls_of(run)[0]["function"]["arguments"] == ROME
    whole, loose = (request.grammar for request in story.engine.requests)
    assert whole.count('"city"') > loose.count('"city"') > 0
    assert await metric(story, "assistants_engine_refused_grammars_total") == 1


async def test_a_grammar_that_is_refused_twice_fails_the_run(story: Story) -> None:
    """With the reason, in words that are not the engine's."""
    for _ in range(2):
        story.engine.fails(GrammarRefused("The grammar is refused: too large."))
    run = await story.run()
    assert run["status"] == "failed"
    assert run["last_error"] == {
        "code": "invalid_prompt",
        "message": UNENFORCEABLE,
    }


async def test_what_was_said_already_is_not_said_again(story: Story) -> None:
    """A grammar that breaks off in mid-answer fails the run, and the words stay."""
    story.engine.fails(GrammarRefused("The grammar cannot be followed."), after=1, text="So far")
    run = await story.run()
    assert run["last_error"]["message"] == UNENFORCEABLE
    assert len(story.engine.requests) == 1
    [message] = await story.answers(run)
    assert text_of(message) == "So"
