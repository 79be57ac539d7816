"""Two who want the same run or thread at once: one of them wins, the other is told."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from server import schemas
from tests.runs.gate import Gate
from tests.runs.story import HELLO, Json, Story, granted, refusal, text_of, written
from tests.support import DEADLINE, ManualClock, eventually, parse_events

CALL = written(("get_weather", '{"city": "Rome"}'))


async def names(story: Story, run: Json) -> list[str]:
    """The events of a run from its first step on, without deltas."""
    told = [event.name for event in await story.told(run) if not event.name.endswith(".delta")]
    return [name.removeprefix("thread.") for name in told[3:]]


async def test_cancel_before_the_end_is_written(story: Story) -> None:
    """A cancel that commits first wins: the run is cancelled, and keeps all that was said."""
    story.engine.says("one two", pause_after=2)
    run = await story.paused()
    with Gate("run.cancelling") as gate:
        cancelling = asyncio.create_task(story.cancel(run))
        await gate.reached.wait()
        story.engine.resume()
        await gate.open()
        assert granted(await cancelling)["status"] == "cancelling"
    assert (await story.settled(run))["status"] == "cancelled"
    [message] = await story.answers(run)
    assert (message["status"], text_of(message)) == ("incomplete", "one two")
    assert (await names(story, run))[4:] == [
        "run.cancelling",
        "message.incomplete",
        "run.step.cancelled",
        "run.cancelled",
        "done",
    ]


async def test_cancel_after_the_end_is_written(story: Story) -> None:
    """A cancel that comes while the end is written finds a run that has ended."""
    story.engine.says("one two", pause_after=2)
    run = await story.paused()
    with Gate("run.completed") as gate:
        story.engine.resume()
        await gate.reached.wait()
        cancelling = asyncio.create_task(story.cancel(run))
        await gate.open()
        assert refusal(await cancelling) == "Cannot cancel run with status 'completed'."
    assert (await story.settled(run))["status"] == "completed"


async def test_cancel_before_a_call_is_asked_for(story: Story) -> None:
    """A cancel that commits before the run waits for outputs wins: nothing is asked for."""
    story.engine.says(pieces=[CALL], pause_after=1)
    run = await story.paused()
    with Gate("run.cancelling") as gate:
        cancelling = asyncio.create_task(story.cancel(run))
        await gate.reached.wait()
        story.engine.resume()
        await gate.open()
        granted(await cancelling)
    run = await story.settled(run)
    assert (run["status"], run["required_action"]) == ("cancelled", None)
    assert [step["status"] for step in await story.steps(run)] == ["cancelled"]


async def test_cancel_behind_the_opening_of_the_message(story: Story) -> None:
    """A cancel that commits just after the message was opened leaves it incomplete."""
    story.engine.says("one two", pause_after=0)
    run = await story.paused()
    with Gate("commit.before") as gate:
        story.engine.resume()
        await gate.reached.wait()
        cancelling = asyncio.create_task(story.cancel(run))
        await gate.open()
        await cancelling
    run = await story.settled(run)
    assert run["status"] in ("cancelled", "completed")
    ended = "incomplete" if run["status"] == "cancelled" else "completed"
    assert [message["status"] for message in await story.answers(run)] == [ended]


async def test_cancel_before_the_opening_of_the_message(story: Story) -> None:
    """A cancel that commits first keeps the message from being opened at all."""
    story.engine.says("one two", pause_after=0)
    run = await story.paused()
    with Gate("commit.before") as gate:
        cancelling = asyncio.create_task(story.cancel(run))
        await gate.reached.wait()
        story.engine.resume()
        await gate.open()
        granted(await cancelling)
    run = await story.settled(run)
    assert run["status"] == "cancelled"
    assert await story.answers(run) == await story.steps(run) == []
    assert await names(story, run) == ["run.cancelling", "run.cancelled", "done"]


async def test_cancel_as_soon_as_it_is_created(story: Story) -> None:
    """However close a cancel follows the creation, the run ends, and as cancelled."""
    services = story.server.services
    body = schemas.CreateRun.model_validate({"assistant_id": story.assistant_id})
    for _ in range(12):
        create = partial(
            services.lifecycle.create,
            project="default",
            thread_id=story.thread_id,
            body=body,
            allowance=services.keys.without,
        )
        run = await services.db.write(create)
        cancel = partial(
            services.lifecycle.cancel,
            project="default",
            thread_id=story.thread_id,
            run_id=run.id,
        )
        await services.db.write(cancel)
        assert (await story.settled({"id": run.id}))["status"] == "cancelled"
    await eventually(story.running, lambda count: count == 0)


async def test_only_one_run_at_a_time(story: Story) -> None:
    """Of many runs that are asked for at once, the thread gets one."""
    story.engine.says("one two", pause_after=1)
    answers = await asyncio.gather(*(story.create() for _ in range(8)))
    [made] = [answer.json() for answer in answers if answer.status_code == 200]
    refused = [refusal(answer) for answer in answers if answer.status_code != 200]
    text = f"Thread {story.thread_id} already has an active run {made['id']}."
    assert refused == [text] * 7
    await story.engine.paused.wait()
    assert refusal(await story.create(stream=True)) == text
    story.engine.resume()
    assert (await story.settled(made))["status"] == "completed"
    assert (await story.run())["status"] == "completed"


async def test_no_messages_during_a_run(story: Story) -> None:
    """A thread takes no messages while its run is active, waiting for outputs included."""
    story.engine.says("one two", pause_after=1)
    run = await story.paused()
    text = f"Can't add messages to {story.thread_id} while a run {run['id']} is active."
    assert refusal(await story.say("Wait!")) == text
    story.engine.resume()
    await story.settled(run)
    granted(await story.say("Now."))
    story.engine.says(CALL)
    waiting = await story.run()
    assert waiting["id"] in refusal(await story.say("Wait!"))
    extra = await story.create(additional_messages=[HELLO])
    assert waiting["id"] in refusal(extra)
    granted(await story.cancel(waiting))
    granted(await story.say("Now."))
    assert [text_of(m) for m in await story.messages()].count("Now.") == 2


async def test_thread_is_deleted_while_the_model_talks(alone: Story) -> None:
    """The streams of its run break off, nothing of it is left, and the model is free again."""
    alone.engine.says("one two three", pause_after=1)
    stream = asyncio.create_task(alone.create(stream=True))
    await alone.engine.paused.wait()
    other = await alone.another(HELLO)
    granted(await alone.http.delete(alone.url))
    begun, *_, error, done = parse_events((await stream).text)
    assert (error.name, done.name) == ("error", "done")
    assert error.data["error"]["message"] == f"Thread {alone.thread_id} was deleted."
    run_id = begun.data["id"]
    gone = await alone.http.get(f"{alone.url}/runs/{run_id}")
    assert refusal(gone, 404) == f"No thread found with id '{alone.thread_id}'."
    assert (await other.run())["status"] == "completed"
    left = await alone.server.services.db.read(
        lambda tx: (tx.runs.by_id(run_id), tx.messages.of_run(run_id), tx.steps.of_run(run_id))
    )
    assert left == (None, [], [])


async def test_thread_is_deleted_while_its_message_is_opened(alone: Story) -> None:
    """A thread may go between the model's first word and the message for it."""
    alone.engine.says("one two", pause_after=0)
    await alone.paused()
    other = await alone.another(HELLO)
    with Gate("commit.before") as gate:
        deleting = asyncio.create_task(alone.http.delete(alone.url))
        await gate.reached.wait()
        alone.engine.resume()
        await gate.open()
        granted(await deleting)
    assert (await other.run())["status"] == "completed"


@pytest.mark.parametrize("queued", [True, False])
async def test_thread_is_deleted_while_its_run_waits(alone: Story, queued: bool) -> None:
    """A run that waits for the model, or for outputs, goes with its thread."""
    other = await alone.another(HELLO)
    if queued:
        alone.engine.says("one two", pause_after=1)
        await alone.paused()
        run = await other.start()
        reading = asyncio.create_task(other.told(run))
        await eventually(alone.readers, lambda count: count == 1)
        granted(await alone.http.delete(other.url))
        assert [event.name for event in (await reading)[2:]] == ["error", "done"]
        alone.engine.resume()
    else:
        alone.engine.says(CALL)
        run = await other.run()
        granted(await alone.http.delete(other.url))
    assert (await other.events(run)).status_code == 404
    third = await alone.another(HELLO)
    assert (await third.run())["status"] == "completed"


@pytest.mark.parametrize("ending", ["completed", "cancelled", "calls"])
async def test_message_is_deleted_while_it_is_written(story: Story, ending: str) -> None:
    """Its streams see it closed as any other, with all its text; nothing of it is stored."""
    text = "one two" if ending != "calls" else "one two" + CALL
    story.engine.says(text, pause_after=2)
    run = await story.paused()
    [message] = await story.answers(run)
    granted(await story.http.delete(f"{story.url}/messages/{message['id']}"))
    if ending == "cancelled":
        granted(await story.cancel(run))
    story.engine.resume()
    run = await story.settled(run)
    told = [event for event in await story.told(run) if not event.name.endswith(".delta")]
    [opened] = [event for event in told if event.name == "thread.message.created"]
    last = "incomplete" if ending == "cancelled" else "completed"
    [closed] = [event for event in told if event.name == f"thread.message.{last}"]
    assert (closed.data["id"], closed.data["status"]) == (message["id"], last)
    assert text_of(closed.data) == "one two"
    assert closed.data.keys() == opened.data.keys()
    assert closed.data[f"{last}_at"] is not None
    step_ended = told[told.index(closed) + 1]
    assert step_ended.name == f"thread.run.step.{run['status'] if ending != 'calls' else last}"
    assert await story.answers(run) == []


async def test_assistant_is_deleted_during_its_run(story: Story) -> None:
    """A run has from its assistant all it needs; it goes on, and a later one is refused."""
    story.engine.says("one two", pause_after=1)
    run = await story.paused()
    granted(await story.http.delete(f"/v1/assistants/{story.assistant_id}"))
    story.engine.resume()
    assert (await story.settled(run))["status"] == "completed"
    again = await story.create()
    assert refusal(again, 404) == f"No assistant found with id '{story.assistant_id}'."


async def test_outputs_are_submitted_once(story: Story) -> None:
    """Of two who answer at the same time, one is taken; the model sees one answer."""
    story.engine.says(CALL)
    story.engine.says("Thanks.", pause_after=0)
    waiting = await story.run()
    answers = await asyncio.gather(*(story.submit(waiting, text) for text in ("sun", "rain")))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    [refused] = [refusal(answer) for answer in answers if answer.status_code == 400]
    assert refused in [
        f'Runs in status "{status}" do not accept tool outputs.'
        for status in ("queued", "in_progress")
    ]
    await story.engine.paused.wait()
    story.engine.resume()
    assert (await story.settled(waiting))["status"] == "completed"
    assert len(story.engine.prompts) == 2
    assert story.engine.prompts[1].count("<tool_response>\n") == 1


async def test_submit_against_cancel(story: Story) -> None:
    """Whichever commits first counts; in both cases the run ends and the thread is free again."""
    for _ in range(4):
        story.engine.says(CALL)
        waiting = await story.run()
        submitted, cancelled = await asyncio.gather(
            story.submit(waiting, "sun"), story.cancel(waiting)
        )
        run = await story.settled(waiting)
        assert cancelled.status_code == 200 or submitted.status_code == 200
        ended = "completed" if cancelled.status_code == 400 else "cancelled"
        assert run["status"] == ended


async def test_cancel_then_expire(alone: Story, clock: ManualClock) -> None:
    """A run whose time is over while its cancel is written expires after it was cancelling."""
    alone.engine.says("one two", pause_after=1)
    run = await alone.paused()
    clock.advance(600)
    with Gate("run.cancelling") as gate:
        cancelling = asyncio.create_task(alone.cancel(run))
        await gate.reached.wait()
        await alone.server.services.executor.sweep()
        await gate.open()
        granted(await cancelling)
    assert (await alone.settled(run))["status"] == "expired"
    assert (await names(alone, run))[4:] == [
        "run.cancelling",
        "message.incomplete",
        "run.step.expired",
        "run.expired",
        "done",
    ]
    [message] = await alone.answers(run)
    assert message["incomplete_details"] == {"reason": "run_expired"}


async def test_expire_then_cancel(alone: Story, clock: ManualClock) -> None:
    """A cancel that comes while the expiry is written finds a run that has ended."""
    alone.engine.says("one two", pause_after=1)
    run = await alone.paused()
    clock.advance(600)
    with Gate("run.expired") as gate:
        await alone.server.services.executor.sweep()
        await gate.reached.wait()
        cancelling = asyncio.create_task(alone.cancel(run))
        await gate.open()
        assert refusal(await cancelling) == "Cannot cancel run with status 'expired'."


async def test_expire_a_run_that_is_just_claimed(alone: Story, clock: ManualClock) -> None:
    """A run that is claimed as its time ends expires all the same, and frees the model."""
    with Gate("run.in_progress") as gate:
        run = await alone.start()
        await gate.reached.wait()
        clock.advance(600)
        sweeping = asyncio.create_task(alone.server.services.executor.sweep())
        await gate.open()
        await sweeping
    assert (await alone.settled(run))["status"] == "expired"
    other = await alone.another(HELLO)
    assert (await other.run())["status"] == "completed"


async def test_a_run_is_claimed_again_with_the_end_of_its_claim(story: Story) -> None:
    """Where one commit has both, the new claim can be cancelled, and the old one frees its slot."""
    services, engine = story.server.services, story.engine
    engine.crashes()
    engine.says("one two", pause_after=1)
    engine.freeze()

    async def waiting() -> int:
        return services.db.waiting

    run = await story.start()
    await eventually(story.running, lambda count: count == 1)
    await story.another()  # by now the executor has looked whether there is another one to claim
    with Gate("commit.before") as gate:
        writing = asyncio.create_task(story.another())
        await gate.reached.wait()
        engine.resume()
        await eventually(waiting, lambda units: units == 1)  # it is queued again
        services.executor.over("another")  # has it look for runs to claim
        await eventually(waiting, lambda units: units == 2)
        await gate.open()
    await writing
    await asyncio.wait_for(engine.paused.wait(), DEADLINE)
    granted(await story.cancel(run))
    assert (await story.settled(run))["status"] == "cancelled"
    others = [await story.another(HELLO) for _ in range(engine.slots)]
    engine.freeze()
    for other in others:
        await other.start()
    await eventually(story.running, lambda count: count == engine.slots)
    engine.resume()
    await eventually(story.running, lambda count: count == 0)
