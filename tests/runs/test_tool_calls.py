"""Function calls: what the run asks for, what it is answered, and what the model then sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.engine.scripted import ScriptedEngine, encode
from tests.covering import covers
from tests.runs.story import (
    HELLO,
    WEATHER,
    Json,
    Story,
    begin_story,
    calls_of,
    granted,
    refusal,
    text_of,
    written,
)
from tests.support import live_server

TIME: Json = {"type": "function", "function": {"name": "get_time"}}
ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'


@covers(
    "POST /v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", "answer tool_outputs", "taken"
)
@covers("POST /v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", "stream", "default")
@covers("ToolOutput", "tool_call_id output", "taken")
async def test_call_and_answer(story: Story) -> None:
    """A run asks for an output, is given it, and answers with it in its prompt."""
    story.engine.says(written(("get_weather", ROME)))
    story.engine.says("It is sunny.")
    waiting = await story.run()
    assert (waiting["status"], waiting["usage"]) == ("requires_action", None)
    [call] = calls_of(waiting)
    assert call["type"] == "function"
    assert call["function"] == {"name": "get_weather", "arguments": ROME}
    [step] = await story.steps(waiting)
    assert (step["status"], step["usage"], step["completed_at"]) == ("in_progress", None, None)
    [stored] = step["step_details"]["tool_calls"]
    assert stored == {**call, "function": {**call["function"], "output": None}}
    resumed = granted(await story.submit(waiting, "sunny"))
    assert (resumed["status"], resumed["required_action"]) == ("queued", None)
    run = await story.settled(waiting)
    assert run["status"] == "completed"
    tool, message = await story.steps(run)
    assert tool["id"] == step["id"]
    assert tool["status"] == message["status"] == "completed"
    assert tool["step_details"]["tool_calls"][0]["function"]["output"] == "sunny"
    for name, total in run["usage"].items():
        if name.endswith("_tokens"):
            assert total == tool["usage"][name] + message["usage"][name]
    assert f'"name": "get_weather", "arguments": {ROME}' in story.engine.prompts[1]
    assert "<tool_response>\nsunny\n</tool_response>" in story.engine.prompts[1]


async def test_two_rounds(story: Story) -> None:
    """A model that has got one output may ask for another; each round is a step."""
    story.engine.says(written(("get_weather", ROME)))
    story.engine.says(written(("get_weather", OSLO)))
    story.engine.says("Sun and snow.")
    waiting = await story.run()
    granted(await story.submit(waiting, "sunny"))
    again = await story.settled(waiting)
    assert again["status"] == "requires_action"
    assert calls_of(again)[0]["id"] != calls_of(waiting)[0]["id"]
    granted(await story.submit(again, "snow"))
    run = await story.settled(again)
    assert run["status"] == "completed"
    steps = await story.steps(run)
    assert [step["type"] for step in steps] == ["tool_calls", "tool_calls", "message_creation"]
    prompt = story.engine.prompts[2]
    assert prompt.index("Rome") < prompt.index("sunny") < prompt.index("Oslo")
    assert prompt.index("Oslo") < prompt.index("snow")
    spent = sum(step["usage"]["total_tokens"] for step in steps)
    assert run["usage"]["total_tokens"] == spent


async def test_a_run_that_calls_for_ever_is_stopped(tmp_path: Path) -> None:
    """After as many rounds as the settings allow it fails and says why; the thread goes on."""
    engine = ScriptedEngine()
    async with (
        live_server(tmp_path, engine, runs__tool_rounds=3) as server,
        begin_story(server, engine) as story,
    ):
        for _ in range(3):
            engine.says(written(("get_weather", ROME)))
        run = await story.run()
        for _ in range(3):
            assert run["status"] == "requires_action"
            granted(await story.submit(run, "sunny"))
            run = await story.settled(run)
        assert run["status"] == "failed"
        assert run["last_error"] == {
            "code": "server_error",
            "message": "The run called tools 3 times and came to no answer.",
        }
        assert len(engine.requests) == 3
        assert [step["status"] for step in await story.steps(run)] == ["completed"] * 3
        assert (await story.run())["status"] == "completed"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=str
)
async def test_a_forced_call_is_forced_once(story: Story, choice: Any) -> None:
    """Before it answers the user: with the output at hand, it may answer, or call what it likes."""
    story.engine.says(written(("get_weather", ROME)))
    story.engine.says("It is sunny.")
    run = await story.run(tools=[WEATHER, TIME], tool_choice=choice)
    granted(await story.submit(run, "sunny"))
    assert (await story.settled(run))["status"] == "completed"
    forced, free = (request.grammar for request in story.engine.requests)
    assert "TEXT" not in forced
    assert "TEXT" in free
    assert "get_time" in free


@covers("POST /v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", "tool_outputs", "error")
@covers("ToolOutput", "tool_call_id", "error")
async def test_parallel_calls(story: Story) -> None:
    """The calls of one turn are one step; their outputs may come in any order, but all of them."""
    calls = [("get_weather", ROME), ("get_time", "{}"), ("get_weather", OSLO)]
    story.engine.says(written(*calls))
    story.engine.says("Done.")
    waiting = await story.run(tools=[WEATHER, TIME])
    asked = calls_of(waiting)
    assert [(c["function"]["name"], c["function"]["arguments"]) for c in asked] == calls
    assert len({call["id"] for call in asked}) == 3
    url = f"{story.url}/runs/{waiting['id']}/submit_tool_outputs"
    outputs = [{"tool_call_id": c["id"], "output": f"out {i}"} for i, c in enumerate(asked)]
    ids = [call["id"] for call in asked]
    missing = await story.http.post(url, json={"tool_outputs": outputs[:2]})
    assert refusal(missing) == f"Expected tool outputs for call_ids {ids}, got {ids[:2]}"
    twice = await story.http.post(url, json={"tool_outputs": [*outputs[:2], outputs[1]]})
    assert refusal(twice).startswith(f"Expected tool outputs for call_ids {ids}, got ")
    assert (await story.now(waiting))["status"] == "requires_action"
    granted(await story.http.post(url, json={"tool_outputs": outputs[::-1]}))
    run = await story.settled(waiting)
    [step, _] = await story.steps(run)
    stored = step["step_details"]["tool_calls"]
    assert [call["id"] for call in stored] == ids
    assert [call["function"]["output"] for call in stored] == ["out 0", "out 1", "out 2"]
    prompt = story.engine.prompts[1]
    assert prompt.index("out 0") < prompt.index("out 1") < prompt.index("out 2")


async def test_one_call_at_a_time(story: Story) -> None:
    """Without parallel calls the model is stopped after its first one."""
    story.engine.says(written(("get_weather", ROME), ("get_weather", OSLO)))
    waiting = await story.run(parallel_tool_calls=False)
    assert waiting["parallel_tool_calls"] is False
    assert [call["function"]["arguments"] for call in calls_of(waiting)] == [ROME]


async def test_words_before_a_call(story: Story) -> None:
    """What the model says before its calls is a message of its own, and one turn for the model."""
    story.engine.says("Let me look.\n" + written(("get_weather", ROME)))
    story.engine.says("It is sunny.")
    waiting = await story.run()
    [said] = await story.answers(waiting)
    assert (said["status"], text_of(said)) == ("completed", "Let me look.")
    message, tool = await story.steps(waiting)
    assert (message["type"], message["status"]) == ("message_creation", "completed")
    assert (tool["type"], tool["status"]) == ("tool_calls", "in_progress")
    granted(await story.submit(waiting, "sunny"))
    run = await story.settled(waiting)
    steps = await story.steps(run)
    assert run["usage"]["total_tokens"] == sum(s["usage"]["total_tokens"] for s in steps)
    assert [text_of(m) for m in await story.answers(run)] == ["Let me look.", "It is sunny."]
    turn = "<|im_start|>assistant\nLet me look.\n<tool_call>\n"
    assert story.engine.prompts[1].count(turn) == 1
    assert story.engine.prompts[1].count("Let me look.") == 1


async def test_words_after_a_call_are_dropped(story: Story) -> None:
    """The step that waits for outputs ends the turn: nothing is said after it."""
    story.engine.says(written(("get_weather", ROME)) + "\nThere you are.")
    waiting = await story.run()
    assert waiting["status"] == "requires_action"
    assert await story.answers(waiting) == []


async def test_unknown_function_is_text(story: Story) -> None:
    """A call of a function that was not offered is what the model said, not a call."""
    story.engine.says(written(("launch", "{}")))
    run = await story.run()
    assert run["status"] == "completed"
    assert "launch" in text_of((await story.answers(run))[0])


async def test_call_that_the_limit_cuts_off(story: Story) -> None:
    """A call that is not finished is not asked for: the run is incomplete, the step has failed."""
    story.engine.says(written(("get_weather", '{"city": "' + "Llanfair" * 20 + '"}')))
    run = await story.run(max_completion_tokens=100)
    assert (run["status"], run["required_action"]) == ("incomplete", None)
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    [step] = await story.steps(run)
    assert step["status"] == "failed"
    assert step["last_error"]["message"] == "The answer ended inside a tool call."
    [told] = step["step_details"]["tool_calls"]
    assert told["function"]["name"] == "get_weather"
    assert '{"city": "' in told["function"]["arguments"]  # as far as its deltas told of them


async def test_completion_limit_is_of_the_whole_run(story: Story) -> None:
    """The second turn may write what the first one left."""
    call = written(("get_weather", "{}"))
    spent = len(encode(call, special=True)) + 1
    story.engine.says(call)
    story.engine.says("a" * 300)
    waiting = await story.run(max_completion_tokens=200)
    granted(await story.submit(waiting, "sunny"))
    run = await story.settled(waiting)
    assert [request.max_tokens for request in story.engine.requests] == [200, 200 - spent]
    assert (run["status"], run["usage"]["completion_tokens"]) == ("incomplete", 200)


async def test_completion_limit_that_is_spent(story: Story) -> None:
    """Where the first turn has left nothing, the model is not asked again."""
    call = written(("get_weather", "{}"))
    spent = len(encode(call, special=True)) + 1
    story.engine.says(call)
    waiting = await story.run(max_completion_tokens=spent)
    granted(await story.submit(waiting, "sunny"))
    run = await story.settled(waiting)
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert (len(story.engine.requests), run["usage"]["completion_tokens"]) == (1, spent)


async def test_prompt_limit_is_of_the_whole_run(story: Story) -> None:
    """The prompts of all turns count together; what is left may be too little for the next."""
    story.engine.says(written(("get_weather", "{}")))
    waiting = await story.run(max_prompt_tokens=600)
    first = len(story.engine.requests[0].prompt)
    assert first < 600 < 2 * first
    granted(await story.submit(waiting, "sunny"))
    run = await story.settled(waiting)
    assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}
    assert run["usage"]["prompt_tokens"] == first


async def test_answers_without_a_limit_are_capped_each(story: Story) -> None:
    """Every turn of a run without a limit of its own may write as much as the server's cap."""
    story.engine.says(written(("get_weather", "{}")))
    waiting = await story.run()
    granted(await story.submit(waiting, "sunny"))
    await story.settled(waiting)
    assert [request.max_tokens for request in story.engine.requests] == [2048, 2048]


async def test_unanswered_calls_are_forgotten(story: Story) -> None:
    """A call of a run that was cancelled before its output came is in no later prompt."""
    story.engine.says(written(("get_weather", ROME)))
    waiting = await story.run()
    granted(await story.cancel(waiting))
    story.engine.says("Fine.")
    run = await story.run()
    assert run["status"] == "completed"
    assert "Rome" not in story.engine.prompts[1]


async def test_answered_calls_are_remembered(story: Story) -> None:
    """Calls of earlier runs are in the prompt with their outputs, between the words around them."""
    story.engine.says(written(("get_weather", ROME)))
    story.engine.says("It is sunny.")
    waiting = await story.run()
    granted(await story.submit(waiting, "22 degrees"))
    await story.settled(waiting)
    await story.say("And now?")
    await story.run()
    prompt = story.engine.prompts[2]
    places = [prompt.index(t) for t in ("Hello!", "Rome", "22 degrees", "It is sunny.", "And now?")]
    assert places == sorted(places)


@covers("FunctionChoice", "function", "taken")
@covers("ChosenFunction", "name", "taken")
async def test_choice_of_tools(story: Story) -> None:
    """The model is told of no function, of one, or of all, as the run's choice of tools says."""
    tools = [WEATHER, TIME]
    await story.run(tools=tools, tool_choice="none")
    named = {"type": "function", "function": {"name": "get_time"}}
    await story.run(tools=tools, tool_choice=named)
    await story.run(tools=tools)
    seen = [[n for n in ("get_weather", "get_time") if n in p] for p in story.engine.prompts]
    assert seen == [[], ["get_time"], ["get_weather", "get_time"]]


@covers("ToolOutput", "output", "default")
async def test_output_may_be_left_out(story: Story) -> None:
    """An output that is not given is the empty text."""
    story.engine.says(written(("get_weather", ROME)))
    waiting = await story.run()
    url = f"{story.url}/runs/{waiting['id']}/submit_tool_outputs"
    given = [{"tool_call_id": calls_of(waiting)[0]["id"]}]
    granted(await story.http.post(url, json={"tool_outputs": given}))
    run = await story.settled(waiting)
    [step, _] = await story.steps(run)
    assert step["step_details"]["tool_calls"][0]["function"]["output"] == ""


@covers("POST /v1/threads/{thread_id}/runs/{run_id}/cancel", "run_id", "error")
@covers("GET /v1/threads/{thread_id}/runs/{run_id}/events", "run_id", "error")
async def test_another_thread_knows_nothing_of_it(story: Story) -> None:
    """A run is found under its own thread only."""
    run = await story.run()
    other = await story.another(HELLO)
    assert refusal(await other.cancel(run), 404) == f"No run found with id '{run['id']}'."
    assert (await other.events(run)).status_code == 404
