"""Runs of models that speak in other ways than Hermes, through the whole server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.engine.protocol import EngineUnavailable
from server.engine.scripted import CHAT_TEMPLATE, SCRIPTED_MODEL, ScriptedEngine
from server.runs.local import LocalModel
from server.runs.turns import Budget, TurnRequest
from tests.chat.turns import STRICT_TEMPLATE
from tests.runs.story import Story, begin_story, calls_of, granted, text_of
from tests.support import live_server

ROME = '{"city": "Rome"}'
NO_TOOLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
HARMONY = (
    "{% if reasoning_effort %}Effort: {{ reasoning_effort }}\n{% endif %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{% if m.tool_calls %}<|start|>assistant to=functions.{{ m.tool_calls[0].function.name }}"
    "<|channel|>commentary json<|message|>{{ m.tool_calls[0].function.arguments | tojson }}<|call|>"
    "{% else %}<|start|>{{ m.role }}<|channel|>final<|message|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)

SOURCE_TREE = os.environ.get("ASSISTANTS_LLAMA_CPP_DIR")
NEMO = Path(SOURCE_TREE or "", "models/templates/mistralai-Mistral-Nemo-Instruct-2407.jinja")
needs_source = pytest.mark.skipif(SOURCE_TREE is None, reason="ASSISTANTS_LLAMA_CPP_DIR is not set")


@pytest.fixture(params=["strict", pytest.param("nemo", marks=needs_source)])
def strict_template(request: pytest.FixtureRequest) -> str:
    """One that counts turns, but no calls and results: a short one, and Mistral Nemo's."""
    return STRICT_TEMPLATE if request.param == "strict" else NEMO.read_text()


@contextlib.asynccontextmanager
async def story_of(
    folder: Path, template: str, *, context: int = 8192, **settings: object
) -> AsyncIterator[Story]:
    """A story on a model with this chat template."""
    info = replace(SCRIPTED_MODEL, chat_template=template, context=context)
    engine = ScriptedEngine(info=info)
    async with (
        live_server(folder, engine, **settings) as server,
        begin_story(server, engine) as story,
    ):
        yield story


async def test_a_model_that_knows_no_functions_is_told_how_to_call(tmp_path: Path) -> None:
    """It calls with an object, is told the result in the user's words, and answers."""
    async with story_of(tmp_path, NO_TOOLS) as story:
        story.engine.says(f'{{"name": "get_weather", "arguments": {ROME}}}')
        story.engine.says("It is sunny.")
        waiting = await story.run()
        assert [call["function"]["arguments"] for call in calls_of(waiting)] == [ROME]
        await story.submit(waiting, "sunny")
        run = await story.settled(waiting)
        assert run["status"] == "completed"
        assert [text_of(message) for message in await story.answers(run)] == ["It is sunny."]
        asked, answered = story.engine.prompts
    assert "You can call functions." in asked
    assert f'{{"name": "get_weather", "arguments": {ROME}}}' in answered
    assert "user\nThe function get_weather returned:\nsunny" in answered


async def test_reasoning_is_kept_apart_and_counted(tmp_path: Path) -> None:
    """The effort reaches the template, thoughts reach nobody, and their tokens are counted."""
    async with story_of(tmp_path, HARMONY) as story:
        story.engine.says(
            "<|channel|>analysis<|message|>one two three<|end|><|start|>assistant"
            f"<|channel|>commentary to=functions.get_weather<|message|>{ROME}"
        )
        story.engine.says("<|channel|>final<|message|>It is sunny.")
        waiting = await story.run(reasoning_effort="high")
        [call] = calls_of(waiting)
        assert (call["function"]["name"], call["function"]["arguments"]) == ("get_weather", ROME)
        await story.submit(waiting, "sunny")
        run = await story.settled(waiting)
        events = (await story.events(run)).text
        thought, said = [
            step["usage"]["completion_tokens_details"]["reasoning_tokens"]
            for step in await story.steps(run)
        ]
    assert "three" not in events
    assert story.engine.prompts[0].startswith("Effort: high\n")
    assert (thought > 0, said) == (True, 0)
    assert run["usage"]["completion_tokens_details"] == {"reasoning_tokens": thought}
    assert run["usage"]["completion_tokens"] > thought


@pytest.mark.parametrize(("dialect", "calls"), [("auto", False), ("llama3", True)])
async def test_a_dialect_can_be_set(tmp_path: Path, dialect: str, calls: bool) -> None:
    """Against what the template shows: here it writes calls as Hermes does."""
    setting = {"model__tiny-assistant__dialect": dialect}
    async with story_of(tmp_path, CHAT_TEMPLATE, **setting) as story:
        story.engine.says(f'{{"name": "get_weather", "parameters": {ROME}}}')
        run = await story.run()
    assert (run["status"] == "requires_action") == calls


async def test_arguments_of_any_depth_spoil_no_thread(tmp_path: Path) -> None:
    """A function without a schema may be called with them; this run and later ones go on."""
    deep = '{"a":' * 400 + "1" + "}" * 400
    async with story_of(tmp_path, CHAT_TEMPLATE, context=32768) as story:
        story.engine.says(f'<tool_call>{{"name": "get_weather", "arguments": {deep}}}</tool_call>')
        waiting = await story.run(max_completion_tokens=9000)
        assert calls_of(waiting)[0]["function"]["arguments"] == deep
        granted(await story.submit(waiting, "sunny"))
        assert (await story.settled(waiting))["status"] == "completed"
        await story.say("And now?")
        assert (await story.run())["status"] == "completed"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("<|im_start|>assistant", "It tells nothing of what the user says"),
        ("{% for %}", "has an error in line 1"),
    ],
)
async def test_a_template_that_is_of_no_use(template: str, fault: str) -> None:
    """The model is not loaded, and its engine not left running."""
    engine = ScriptedEngine(info=replace(SCRIPTED_MODEL, chat_template=template))
    model = LocalModel(engine)
    with pytest.raises(EngineUnavailable, match=fault):
        await model.load(None)
    with pytest.raises(EngineUnavailable, match="not loaded"):
        model.turn(TurnRequest(None, [], Budget(None, 1, 1)))


@pytest.mark.parametrize(("rounds", "end"), [(9, "cancelled"), (1, "failed")])
async def test_a_run_that_ends_between_its_calls_does_not_wedge_its_thread(
    tmp_path: Path, strict_template: str, rounds: int, end: str
) -> None:
    """Its last result got no answer, and the next question is answered all the same."""
    async with story_of(tmp_path, strict_template, runs__tool_rounds=rounds) as story:
        for _ in range(rounds)[:2]:
            story.engine.says(f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {ROME}}}]')
        waiting = await story.run()
        granted(await story.submit(waiting, "sunny"))
        run = await story.settled(waiting)
        if run["status"] == "requires_action":
            granted(await story.cancel(run))
            run = await story.settled(run)
        assert run["status"] == end
        await story.say("Never mind.")
        assert (await story.run())["status"] == "completed"
        assert (await story.run())["status"] == "completed"
    prompt = story.engine.prompts[-2]
    assert prompt.index("sunny") < prompt.index("…") < prompt.index("Never mind.")


async def test_a_thread_that_is_cut_before_an_answer(tmp_path: Path, strict_template: str) -> None:
    """Whichever of its messages is the oldest in the prompt, the rest is told."""
    async with story_of(tmp_path, strict_template, context=600) as story:
        await story.run(tools=[])
        await story.say("And you?")
        strategy = {"type": "last_messages", "last_messages": 2}
        run = await story.run(tools=[], truncation_strategy=strategy)
        assert (run["status"], run["last_error"]) == ("completed", None)
        assert "Hello! How can I help you today?" in story.engine.prompts[1]
        for number in range(40):
            await story.say(f"Question {number}?")
            story.engine.says(f"Answer {number}.")
            assert (await story.run(tools=[]))["status"] == "completed"
    begun_by_answers = [prompt for prompt in story.engine.prompts[2:] if "…" in prompt]
    assert 0 < len(begun_by_answers) < 40
