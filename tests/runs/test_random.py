"""Random lives of runs: whatever is done to them, and whenever, these things hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from server.access.keys import DEFAULT_PROJECT
from server.config import BUSY_POLICIES, BusyPolicy
from server.engine.scripted import ScriptedEngine
from server.runs.state import TERMINAL, TRANSITIONS
from tests.runs.story import HELLO, Json, Story, begin_story, calls_of, text_of, written
from tests.support import Event, ManualClock, live_server, parse_events

CALL = written(("get_weather", '{"city": "Rome"}'))
THREADS, CLIENTS, ACTIONS = 3, 3, 12
MAY_BE_REFUSED = (200, 400, 404)


class Client:
    """Does random things to a few threads, and remembers what it was given."""

    def __init__(self, stories: list[Story], clock: ManualClock, seed: int) -> None:
        self.runs: list[tuple[Story, Json]] = []
        self.said: list[tuple[Story, Json]] = []
        self._stories = stories
        self._clock = clock
        self._random = random.Random(seed)
        self._known = dict[str, Json]()

    async def live(self) -> None:
        """So many actions, one after the other."""
        actions: list[Callable[[Story], Awaitable[int]]] = [
            self._create,
            self._create,
            self._create,
            self._submit,
            self._submit,
            self._cancel,
            self._say,
            self._change_its_mind,
            self._pass_time,
            self._read_a_little,
        ]
        for _ in range(ACTIONS):
            act = self._random.choice(actions)
            assert await act(self._random.choice(self._stories)) in MAY_BE_REFUSED

    async def _create(self, story: Story) -> int:
        self._script(story.engine)
        more = [{"role": "user", "content": "And this."}] * self._random.randrange(2)
        answer = await story.create(busy=self._policy(), additional_messages=more)
        if answer.status_code == 200:
            self._known[story.thread_id] = answer.json()
            self.runs.append((story, answer.json()))
        return answer.status_code

    def _script(self, engine: ScriptedEngine) -> None:
        match self._random.randrange(5):
            case 0:
                engine.says("one two three four five")
            case 1:
                engine.says("Let me look.\n" + CALL)
            case 2:
                engine.says(CALL)
            case 3:
                engine.crashes(after=self._random.randrange(4))
            case 4:
                engine.says(pieces=["Gr", b"\xc3", b"\xbc\xc3", b"\x9fe"], finish="length")

    async def _submit(self, story: Story) -> int:
        if (run := self._known.get(story.thread_id)) is None:
            return 200
        run = await story.now(run)
        if run["status"] != "requires_action":
            return 200
        return (await story.submit(run, *("ok" for _ in calls_of(run)))).status_code

    async def _cancel(self, story: Story) -> int:
        run = self._known.get(story.thread_id)
        return 200 if run is None else (await story.cancel(run)).status_code

    async def _say(self, story: Story) -> int:
        answer = await story.say("More.", busy=self._policy())
        if answer.status_code == 200:
            self.said.append((story, answer.json()))
        return answer.status_code

    def _policy(self) -> BusyPolicy | None:
        return self._random.choice(["error", "queue", "queue", "interrupt", None, None])

    async def _change_its_mind(self, story: Story) -> int:
        policy: BusyPolicy | None = self._random.choice([*BUSY_POLICIES, None])
        await story.server.services.keys.set_busy_policy(DEFAULT_PROJECT, policy)
        return 200

    async def _pass_time(self, story: Story) -> int:
        self._clock.advance(self._random.choice([1, 100, 400]))
        await story.server.services.executor.sweep()
        return 200

    async def _read_a_little(self, story: Story) -> int:
        if (run := self._known.get(story.thread_id)) is None:
            return 200
        url = f"{story.url}/runs/{run['id']}/events"
        async with story.http.stream("GET", url) as stream:
            await anext(stream.aiter_bytes())
        return stream.status_code


@pytest.mark.parametrize("seed", range(3))
async def test_random_lives(tmp_path: Path, clock: ManualClock, seed: int) -> None:
    """One active run a thread, legal orders, one end, streams that tell what is stored.

    Whatever waited had its turn.
    """
    engine = ScriptedEngine(slots=2)
    async with (
        live_server(tmp_path, engine, clock=clock, streams__keep=1e9) as server,
        begin_story(server, engine) as story,
    ):
        stories = [story, *[await story.another(HELLO) for _ in range(THREADS - 1)]]
        clients = [Client(stories, clock, seed * CLIENTS + n) for n in range(CLIENTS)]
        await asyncio.gather(*(client.live() for client in clients))
        runs = [pair for client in clients for pair in client.runs]
        ended = await asyncio.gather(*(brought_to_an_end(owner, run) for owner, run in runs))
        for (owner, _), run in zip(runs, ended, strict=True):
            told = parse_events((await owner.events(run)).text)
            check_order(told, run)
            await check_text(told, owner, run)
        assert await story.running() == 0
        for each in stories:
            said = [
                message for client in clients for owner, message in client.said if owner is each
            ]
            await check_messages(each, said)
            assert (await each.run())["status"] in {*TERMINAL, "requires_action"}
            await check_turns(each)


async def brought_to_an_end(owner: Story, run: Json) -> Json:
    """The run, once it has ended; one that waits for outputs is cancelled."""
    while (run := await owner.settled(run))["status"] not in TERMINAL:
        await owner.cancel(run)
    return run


async def check_messages(story: Story, said: list[Json]) -> None:
    """What was added is shown as it was answered, once, and nothing waits any more."""
    shown = {message["id"]: message for message in await story.messages()}
    assert [shown[message["id"]] for message in said] == said
    assert len(shown) == len(await story.messages())
    waiting = await story.server.services.db.read(
        lambda tx: [*tx.messages.held(story.thread_id), *tx.runs.held(story.thread_id)]
    )
    assert waiting == []


def check_order(told: list[Event], run: Json) -> None:
    """The run went along the arrows of the table to one end; its objects opened and closed."""
    states = [e.data["status"] for e in told if e.data != "[DONE]" and e.data["id"] == run["id"]]
    assert states[:2] == ["queued", "queued"]
    for frm, to in pairwise(states[1:]):
        assert to in TRANSITIONS[frm], states
    assert states[-1] == run["status"]
    assert sum(state in TERMINAL for state in states) == 1
    open_objects: list[str] = []
    for event in told[:-1]:
        kind, _, what = event.name.rpartition(".")
        if kind == "thread.run":
            assert what in ("requires_action", "cancelling") or not open_objects
        elif what == "created":
            open_objects.append(event.data["id"])
        elif what in ("in_progress", "delta"):
            assert event.data["id"] == open_objects[-1]
        else:
            assert open_objects.pop() == event.data["id"]


async def check_text(told: list[Event], story: Story, run: Json) -> None:
    """The deltas of each message, joined, are its stored text; its calls likewise."""
    texts: dict[str, str] = {}
    for event in told:
        if event.name == "thread.message.delta":
            part = event.data["delta"]["content"][0]["text"]
            assert ("annotations" in part) == (event.data["id"] not in texts)
            texts[event.data["id"]] = texts.get(event.data["id"], "") + part["value"]
    stored = {message["id"]: text_of(message) for message in await story.answers(run)}
    assert stored == texts
    spent = [step["usage"]["total_tokens"] for step in await story.steps(run)]
    assert run["usage"]["total_tokens"] >= sum(spent)


async def check_turns(story: Story) -> None:
    """The thread's runs did not overlap, and none of their objects was left open."""
    listed = await story.http.get(f"{story.url}/runs", params={"limit": 100, "order": "asc"})
    *ended, _ = listed.json()["data"]
    for run in ended:
        assert run["status"] in TERMINAL
        for each in [*await story.steps(run), *await story.answers(run)]:
            assert each["status"] != "in_progress"
