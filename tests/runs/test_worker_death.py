"""The model's worker dies under a run: it is queued again once, and what was said is kept."""

from __future__ import annotations

from tests.runs.story import Story, granted, text_of, written

FAILED = {"code": "server_error", "message": "Sorry, something went wrong."}


async def test_second_attempt(story: Story) -> None:
    """What was said before the death is kept as incomplete; a new step follows and completes."""
    story.engine.crashes(after=2, text="One two three")
    story.engine.says("One two three four.")
    run = await story.run()
    assert (run["status"], run["last_error"]) == ("completed", None)
    lost, message = await story.answers(run)
    assert (lost["status"], text_of(lost)) == ("incomplete", "One two")
    assert lost["incomplete_details"] == {"reason": "run_failed"}
    assert (message["status"], text_of(message)) == ("completed", "One two three four.")
    failed, step = await story.steps(run)
    assert (failed["status"], failed["last_error"]) == ("failed", FAILED)
    assert (step["status"], step["last_error"]) == ("completed", None)
    for name, total in run["usage"].items():
        if name.endswith("_tokens"):
            assert total == failed["usage"][name] + step["usage"][name]
    assert failed["usage"]["completion_tokens"] == len("One two")


async def test_second_attempt_with_few_messages(story: Story) -> None:
    """What was rescued of the first attempt takes no place of the messages it answers."""
    story.engine.crashes(after=2, text="One two three")
    strategy = {"type": "last_messages", "last_messages": 1}
    await story.run(truncation_strategy=strategy)
    first, second = story.engine.prompts
    assert first == second
    assert "Hello!" in second


async def test_order_of_events(story: Story) -> None:
    """The streams tell of the death as it was: what was open ends, then the run begins again."""
    story.engine.crashes(after=1, text="One two")
    story.engine.says("Three")
    told = await story.stream()
    assert [event.name.removeprefix("thread.") for event in told] == [
        "run.created",
        "run.queued",
        "run.in_progress",
        "run.step.created",
        "run.step.in_progress",
        "message.created",
        "message.in_progress",
        "message.delta",
        "message.incomplete",
        "run.step.failed",
        "run.queued",
        "run.in_progress",
        "run.step.created",
        "run.step.in_progress",
        "message.created",
        "message.in_progress",
        "message.delta",
        "message.completed",
        "run.step.completed",
        "run.completed",
        "done",
    ]
    assert told[11].data["started_at"] >= told[2].data["started_at"]


async def test_death_before_the_first_word(story: Story) -> None:
    """Nothing was said, so nothing is left of the first attempt."""
    story.engine.crashes()
    run = await story.run()
    assert run["status"] == "completed"
    assert len(await story.steps(run)) == len(await story.answers(run)) == 1


async def test_second_death(story: Story) -> None:
    """A run under which the worker dies twice fails."""
    story.engine.crashes(after=1)
    story.engine.crashes(after=1)
    run = await story.run()
    assert (run["status"], run["last_error"]) == ("failed", FAILED)
    assert [step["status"] for step in await story.steps(run)] == ["failed", "failed"]
    assert {m["incomplete_details"]["reason"] for m in await story.answers(run)} == {"run_failed"}
    assert len(story.engine.requests) == 2


async def test_death_inside_a_call(story: Story) -> None:
    """A call that was being written is not asked for; the second attempt asks for its own."""
    call = written(("get_weather", '{"city": "Rome"}'))
    story.engine.crashes(after=5, text=call)
    story.engine.says(call)
    waiting = await story.run()
    assert waiting["status"] == "requires_action"
    assert [step["status"] for step in await story.steps(waiting)] == ["failed", "in_progress"]
    granted(await story.submit(waiting, "sunny"))
    run = await story.settled(waiting)
    assert run["status"] == "completed"
    assert story.engine.prompts[2].count("Rome") == 1


async def test_answered_calls_are_not_asked_again(story: Story) -> None:
    """A death after the outputs came leaves them where they are, in the next attempt's prompt."""
    story.engine.says(written(("get_weather", '{"city": "Rome"}')))
    story.engine.crashes(after=1)
    story.engine.says("Sunny, then.")
    waiting = await story.run()
    granted(await story.submit(waiting, "sunny"))
    run = await story.settled(waiting)
    assert run["status"] == "completed"
    assert story.engine.prompts[1] == story.engine.prompts[2]
    assert "sunny" in story.engine.prompts[2]


async def test_what_later_prompts_hold(story: Story) -> None:
    """A partial answer of a death is in no later prompt; that of a cancelled run is."""
    story.engine.crashes(after=2, text="Rescued words here")
    story.engine.says("Complete words.")
    await story.run()
    story.engine.says("Cancelled words here", pause_after=2)
    run = await story.paused()
    granted(await story.cancel(run))
    await story.settled(run)
    await story.run()
    prompt = story.engine.prompts[-1]
    assert "Rescued" not in prompt
    assert prompt.index("Complete words.") < prompt.index("Cancelled words<|im_end|>")
    assert "Rescued" not in story.engine.prompts[1]


async def test_cancel_against_death(story: Story) -> None:
    """A run that was cancelled is not queued again when its worker dies."""
    story.engine.crashes(after=1)
    run = await story.start()
    answer = await story.cancel(run)
    run = await story.settled(run)
    assert run["status"] == ("cancelled" if answer.status_code == 200 else "completed")
