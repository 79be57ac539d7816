"""Strings that end an answer, and calls that end in the middle."""

from __future__ import annotations

import pytest

from tests.runs.story import Story, calls_of, granted, text_of, written

ROME = '{"city": "Rome"}'


async def said(story: Story, stop: str | list[str]) -> str:
    """The one message of a run that may be stopped so."""
    run = await story.run(x_sampling={"stop": stop})
    assert run["status"] == "completed"
    [message] = await story.answers(run)
    return text_of(message)


async def test_an_answer_ends_before_a_stop_string(story: Story) -> None:
    """The model is not asked for more, and what it had written by then is counted."""
    story.engine.says(pieces=["One ", "tw", "o ", "th", "ree ", *["more "] * 50])
    run = await story.run(x_sampling={"stop": ["never", "three"]})
    [message] = await story.answers(run)
    assert (run["status"], text_of(message)) == ("completed", "One two ")
    assert run["usage"]["completion_tokens"] == len("One two three ")
    story.engine.says("One EN")
    assert await said(story, "END") == "One EN"


async def test_nothing_of_a_stop_string_is_streamed(story: Story) -> None:
    """Also where it is cut anywhere."""
    story.engine.says(pieces=["One E", "N", "D two"])
    events = await story.stream(x_sampling={"stop": "END"})
    deltas = [event.data for event in events if event.name == "thread.message.delta"]
    texts = [part["text"]["value"] for data in deltas for part in data["delta"]["content"]]
    assert "".join(texts) == "One "


@pytest.mark.parametrize("stop", ["Rome", "\n", "name", "}", "</tool_call>"])
async def test_a_call_is_no_place_to_stop(story: Story, stop: str) -> None:
    """Its markup is not the answer's words, nor are its arguments."""
    story.engine.says("Let me look. " + written(("get_weather", ROME)))
    run = await story.run(x_sampling={"stop": stop})
    assert [call["function"]["arguments"] for call in calls_of(run)] == [ROME]


async def test_reasoning_is_no_place_to_stop(story: Story) -> None:
    """Nobody hears it."""
    story.engine.says("<think>One.\n\nTwo.</think>Three.\n\nFour.")
    assert await said(story, "\n\n") == "Three."


async def test_an_answer_that_was_stopped_is_told_as_it_was_heard(story: Story) -> None:
    """The tokens of the string are no part of it."""
    story.engine.says("One END")
    await said(story, "END")
    await story.say("And?")
    await story.run()
    assert "END" not in story.engine.prompts[1]


async def test_a_call_that_the_model_does_not_finish(story: Story) -> None:
    """It is not asked for: the run is incomplete, and the next one goes on."""
    for call in (written(("get_weather", ROME))[:-20], '<tool_call>\n{"name": "get_we'):
        story.engine.says(call)
        run = await story.run()
        assert (run["status"], run["required_action"]) == ("incomplete", None)
        granted(await story.say("Go on."))
    assert (await story.run())["status"] == "completed"
