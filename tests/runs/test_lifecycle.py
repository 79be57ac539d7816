"""The ways a run can go, through the API: every status, what it stores and what it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server.engine.protocol import EngineError
from server.engine.scripted import CHAT_TEMPLATE, SCRIPTED_MODEL, ScriptedEngine
from tests.covering import covers
from tests.runs.story import HELLO, Story, begin_story, refusal, text_of
from tests.support import ManualClock, live_server

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
NOTHING_SPENT = {
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "total_tokens": 0,
    "prompt_token_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


async def test_completed(story: Story) -> None:
    """A run answers, and what it stores says when, at what cost and with which words."""
    story.engine.says("Hello there.")
    begun = await story.start()
    assert (begun["status"], begun["started_at"]) == ("queued", None)
    assert begun["expires_at"] == begun["created_at"] + 600
    run = await story.settled(begun)
    assert (run["status"], run["expires_at"], run["last_error"]) == ("completed", None, None)
    assert run["created_at"] <= run["started_at"] <= run["completed_at"]
    [message] = await story.answers(run)
    assert (message["status"], text_of(message)) == ("completed", "Hello there.")
    assert message["assistant_id"] == story.assistant_id
    [step] = await story.steps(run)
    assert (step["type"], step["status"]) == ("message_creation", "completed")
    assert step["step_details"]["message_creation"] == {"message_id": message["id"]}
    assert step["completed_at"] is not None
    prompt, said = len(story.engine.requests[0].prompt), len("Hello there.") + 1
    assert run["usage"] == step["usage"]
    assert run["usage"] == NOTHING_SPENT | {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
    }


async def test_empty_answer(story: Story) -> None:
    """A model that says nothing has answered with an empty message."""
    story.engine.says(pieces=[])
    run = await story.run()
    assert run["status"] == "completed"
    [message] = await story.answers(run)
    assert [part["text"]["value"] for part in message["content"]] == [""]


async def test_completion_limit(story: Story) -> None:
    """A run that writes as much as it may is incomplete; its message says so, its step is done."""
    story.engine.says("twenty-six letters are here")
    run = await story.run(max_completion_tokens=16)
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert run["completed_at"] is not None
    assert (run["expires_at"], run["last_error"]) == (None, None)
    assert run["usage"]["completion_tokens"] == 16
    [message] = await story.answers(run)
    assert message["status"] == "incomplete"
    assert message["incomplete_details"] == {"reason": "max_tokens"}
    assert (message["incomplete_at"] is None, message["completed_at"]) == (False, None)
    assert text_of(message) == "twenty-six lette"
    [step] = await story.steps(run)
    assert (step["status"], step["usage"]) == ("completed", run["usage"])


async def test_prompt_limit(story: Story) -> None:
    """A run whose newest message alone is too long ends before the model is asked."""
    await story.say("word " * 100)
    run = await story.run(max_prompt_tokens=256)
    assert run["status"] == "incomplete"
    assert run["incomplete_details"] == {"reason": "max_prompt_tokens"}
    assert run["completed_at"] is not None
    assert run["usage"] == NOTHING_SPENT
    assert await story.steps(run) == await story.answers(run) == []
    assert story.engine.requests == []


async def test_engine_error(story: Story) -> None:
    """A failure of the engine fails the run with its words, and keeps what was said until then."""
    story.engine.fails(EngineError("The model ran out of luck."), after=2, text="One two three")
    run = await story.run()
    assert run["status"] == "failed"
    error = {"code": "server_error", "message": "The model ran out of luck."}
    assert run["last_error"] == error
    assert run["failed_at"] is not None
    assert (run["expires_at"], run["completed_at"]) == (None, None)
    [message] = await story.answers(run)
    assert message["incomplete_details"] == {"reason": "run_failed"}
    assert text_of(message) == "One two"
    [step] = await story.steps(run)
    assert (step["status"], step["last_error"]) == ("failed", error)
    assert step["failed_at"] is not None
    assert run["usage"]["completion_tokens"] == len("One two")


async def test_images_need_a_model_that_sees(story: Story) -> None:
    """An image in the thread fails the run, which names the model and the message."""
    posted = await story.http.post(
        f"{story.url}/messages",
        json={"role": "user", "content": [{"type": "text", "text": "Look:"}, IMAGE]},
    )
    run = await story.run()
    assert (run["status"], run["last_error"]["code"]) == ("failed", "invalid_prompt")
    assert posted.json()["id"] in run["last_error"]["message"]
    assert "tiny-assistant" in run["last_error"]["message"]
    assert run["usage"] == NOTHING_SPENT


async def test_template_that_refuses(tmp_path: Path) -> None:
    """What a model's chat template refuses fails the run with the template's words."""
    refuse = "{% if messages | length > 2 %}{{ raise_exception('Take turns.') }}{% endif %}"
    template = refuse + CHAT_TEMPLATE
    engine = ScriptedEngine(info=replace(SCRIPTED_MODEL, chat_template=template))
    async with live_server(tmp_path, engine) as server, begin_story(server, engine) as story:
        assert (await story.run())["status"] == "completed"
        run = await story.run()
    assert (run["status"], run["last_error"]["code"]) == ("failed", "invalid_prompt")
    assert "Take turns." in run["last_error"]["message"]


async def test_cancel_while_queued(tmp_path: Path) -> None:
    """A run that waits for the model is cancelled at once; the answer is still `cancelling`."""
    engine = ScriptedEngine(slots=1)
    engine.says("one two", pause_after=1)
    async with live_server(tmp_path, engine) as server, begin_story(server, engine) as story:
        await story.paused()
        other = await story.another(HELLO)
        run = await other.start()
        answer = (await other.cancel(run)).json()
        assert (answer["status"], answer["cancelled_at"]) == ("cancelling", None)
        assert answer["expires_at"] == run["expires_at"]
        run = await other.now(run)
        assert (run["status"], run["started_at"], run["expires_at"]) == ("cancelled", None, None)
        assert run["cancelled_at"] is not None
        assert run["usage"] == NOTHING_SPENT
        assert await other.steps(run) == []
        engine.resume()


@covers("POST /v1/threads/{thread_id}/runs/{run_id}/cancel", "answer thread_id run_id", "taken")
async def test_cancel_while_in_progress(story: Story) -> None:
    """A run that is cancelled while the model talks keeps what was said, as incomplete."""
    story.engine.says("one two three", pause_after=2)
    begun = await story.paused()
    answer = (await story.cancel(begun)).json()
    assert (answer["status"], answer["cancelled_at"]) == ("cancelling", None)
    run = await story.settled(begun)
    assert (run["status"], run["expires_at"]) == ("cancelled", None)
    assert run["cancelled_at"] is not None
    [message] = await story.answers(run)
    assert (message["status"], text_of(message)) == ("incomplete", "one two")
    assert message["incomplete_details"] == {"reason": "run_cancelled"}
    [step] = await story.steps(run)
    assert step["status"] == "cancelled"
    assert step["cancelled_at"] is not None
    assert run["usage"] == step["usage"]
    assert run["usage"]["completion_tokens"] == len("one two")


async def test_cancel_while_waiting_for_outputs(story: Story) -> None:
    """A run that waits for outputs is cancelled at once, with its step, and takes none any more."""
    story.engine.calls("get_weather", {"city": "Rome"})
    waiting = await story.run()
    answer = (await story.cancel(waiting)).json()
    assert (answer["status"], answer["required_action"]) == ("cancelling", None)
    run = await story.now(waiting)
    assert (run["status"], run["required_action"]) == ("cancelled", None)
    assert run["usage"]["completion_tokens"] > 0
    [step] = await story.steps(run)
    assert step["status"] == "cancelled"
    assert step["step_details"]["tool_calls"][0]["function"]["output"] is None
    text = refusal(await story.submit(waiting, "sunny"))
    assert text == 'Runs in status "cancelled" do not accept tool outputs.'


@pytest.mark.parametrize("limit", [{}, {"max_completion_tokens": 16}])
async def test_ended_runs_cannot_be_cancelled(story: Story, limit: dict[str, int]) -> None:
    """A run that has ended stays as it is."""
    story.engine.says("a long story of old")
    run = await story.run(**limit)
    text = refusal(await story.cancel(run))
    assert text == f"Cannot cancel run with status '{run['status']}'."
    assert await story.now(run) == run


async def test_cancel_twice(story: Story) -> None:
    """A run that is cancelled already cannot be cancelled again."""
    story.engine.calls("get_weather", {})
    run = await story.run()
    assert (await story.cancel(run)).status_code == 200
    assert refusal(await story.cancel(run)) == "Cannot cancel run with status 'cancelled'."


@pytest.fixture
async def slow(tmp_path: Path, clock: ManualClock):  # type: ignore[no-untyped-def]
    """A story whose time stands still, on a model with one sequence."""
    engine = ScriptedEngine(slots=1)
    async with (
        live_server(tmp_path / "slow", engine, clock=clock) as server,
        begin_story(server, engine) as story,
    ):
        yield story


async def test_expires_in_progress(slow: Story, clock: ManualClock) -> None:
    """A run that is still talking when its time is over expires, with its message and step."""
    slow.engine.says("one two three", pause_after=2)
    begun = await slow.paused()
    clock.advance(599)
    await slow.server.services.executor.sweep()
    assert (await slow.now(begun))["status"] == "in_progress"
    clock.advance(1)
    await slow.server.services.executor.sweep()
    run = await slow.settled(begun)
    assert (run["status"], run["expires_at"], run["completed_at"]) == ("expired", None, None)
    [message] = await slow.answers(run)
    assert message["incomplete_details"] == {"reason": "run_expired"}
    assert text_of(message) == "one two"
    [step] = await slow.steps(run)
    assert (step["status"], step["expired_at"]) == ("expired", clock.now())
    assert run["usage"]["completion_tokens"] == len("one two")


async def test_expires_while_queued(slow: Story, clock: ManualClock) -> None:
    """A run that no sequence was free for expires too, and the one before it as well."""
    slow.engine.says("one two three", pause_after=2)
    first = await slow.paused()
    other = await slow.another(HELLO)
    second = await other.start()
    clock.advance(600)
    await slow.server.services.executor.sweep()
    assert (await slow.settled(first))["status"] == "expired"
    run = await other.settled(second)
    assert (run["status"], run["usage"]) == ("expired", NOTHING_SPENT)


async def test_expires_while_waiting_for_outputs(slow: Story, clock: ManualClock) -> None:
    """A run whose outputs never come expires; they are refused from then on."""
    slow.engine.calls("get_weather", {})
    waiting = await slow.run()
    clock.advance(600)
    await slow.server.services.executor.sweep()
    run = await slow.now(waiting)
    assert (run["status"], run["required_action"]) == ("expired", None)
    assert [step["status"] for step in await slow.steps(run)] == ["expired"]
    text = refusal(await slow.submit(waiting, "sunny"))
    assert text == 'Runs in status "expired" do not accept tool outputs.'


async def test_submitting_does_not_extend_the_time(slow: Story, clock: ManualClock) -> None:
    """The ten minutes of a run begin at its creation, whatever happens since."""
    slow.engine.calls("get_weather", {})
    waiting = await slow.run()
    clock.advance(500)
    slow.engine.says("late", pause_after=0)
    resumed = (await slow.submit(waiting, "sunny")).json()
    assert (resumed["status"], resumed["expires_at"]) == ("queued", waiting["expires_at"])
    assert resumed["started_at"] == waiting["started_at"]
    await slow.engine.paused.wait()
    assert (await slow.now(waiting))["started_at"] == waiting["started_at"] + 500
    clock.advance(100)
    await slow.server.services.executor.sweep()
    assert (await slow.settled(waiting))["status"] == "expired"


async def test_sweep_comes_by_itself(tmp_path: Path) -> None:
    """Nobody has to ask for a run to expire."""
    engine = ScriptedEngine()
    engine.calls("get_weather", {})
    options = {"runs__expires_after": 1, "runs__sweep_interval": 0.02}
    async with (
        live_server(tmp_path, engine, **options) as server,
        begin_story(server, engine) as story,
    ):
        events = await story.stream()
        run = events[0].data
        assert run["expires_at"] == run["created_at"] + 1
        after = len(events) - 1
        async with server.http(verify=False) as http:
            rest = await http.get(f"{story.url}/runs/{run['id']}/events?starting_after={after}")
        assert "event: done" in rest.text
        subscription = server.services.bus.subscribe(run["id"], after, past_pauses=False)
        told = b"".join([chunk async for chunk in subscription.chunks()])
        assert b"event: thread.run.expired" in told
