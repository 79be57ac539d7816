"""Sessions under runs, over the API and in a real sandbox: a scripted model, all else as it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.config import CodeInterpreterSettings
from server.engine.protocol import Request
from server.engine.scripted import ScriptedEngine, ScriptedGeneration, decode
from server.sandbox.choice import open_sandbox
from server.sandbox.pool import SessionPool
from server.sandbox.session import GRACE_ON_CANCEL
from server.sandbox.usage import at_work
from tests.runs.story import Json, Story, begin_story, granted, running, text_of
from tests.sandbox.support import until
from tests.support import ManualClock, live_server
from tests.timing import little_work
from tests.untested import not_tested

CODE: Json = {"type": "code_interpreter"}
THREADS = 20


class Obedient(ScriptedEngine):
    """Unless a test says otherwise, runs what the user writes, and repeats what came of it."""

    def generate(self, request: Request) -> ScriptedGeneration:
        if not self._answers:
            prompt = decode(request.prompt).decode()
            last = prompt.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
            output = last.removeprefix("<tool_response>\n")
            self.says(running(last) if output == last else output.partition("\n</tool_")[0])
        return super().generate(request)


@pytest.fixture
async def pool() -> AsyncIterator[SessionPool]:
    """The best sandbox that this machine has."""
    settings = CodeInterpreterSettings(spare=0)
    sandbox = await open_sandbox(settings, ManualClock())
    if not isinstance(sandbox, SessionPool):
        not_tested("code in many runs", str(sandbox.problem))
    yield sandbox
    await sandbox.close()


@pytest.fixture
async def coding(tmp_path: Path, pool: SessionPool) -> AsyncIterator[Story]:
    """An assistant that runs code."""
    engine = Obedient()
    async with (
        live_server(tmp_path / "data", engine, sandbox=pool) as server,
        begin_story(server, engine, tools=[CODE]) as story,
    ):
        yield story


def logs_of(step: Json) -> str:
    """What the one call of a step printed."""
    [call] = step["step_details"]["tool_calls"]
    return "".join(each["logs"] for each in call["code_interpreter"]["outputs"])


async def test_an_error_is_mended_within_a_run(coding: Story) -> None:
    """Three calls of one session: what the first made is there after the second has failed."""
    for code in ("prices = [3, 4]", "sum(prices) / quux", "sum(prices) / len(prices)"):
        coding.engine.says(running(code))
    coding.engine.says("It is 3.5.")
    run = await coding.run()
    assert run["status"] == "completed"
    *calls, _ = await coding.steps(run)
    assert [step["status"] for step in calls] == ["completed"] * 3
    made, failed, mended = map(logs_of, calls)
    assert made == ""
    assert failed.endswith("NameError: name 'quux' is not defined\n")
    assert "NameError" in coding.engine.prompts[2]
    assert mended == "3.5\n"
    assert text_of((await coding.answers(run))[0]) == "It is 3.5."


async def test_a_cancelled_run_leaves_the_sandbox_idle(coding: Story, pool: SessionPool) -> None:
    """Half a second after a cancel in the middle of a loop nothing of it works any more."""
    session = ("default", coding.thread_id)
    coding.engine.says(running("x = 5\nprint('begun')\nwhile True: pass"))
    run = await coding.start()
    async with coding.http.stream("GET", f"{coding.url}/runs/{run['id']}/events") as answer:
        async for line in answer.aiter_lines():
            if '"logs":"begun' in line:
                break
    assert at_work(pool.pids(session))
    began = time.monotonic()
    with little_work(0.5, time.monotonic):
        granted(await coding.cancel(run))
        await until(lambda: not at_work(pool.pids(session)))
        took = time.monotonic() - began
    assert (await coding.settled(run))["status"] == "cancelled"
    await coding.say("x")
    step, _ = await coding.steps(await coding.run())
    assert logs_of(step) == "5\n" if took < GRACE_ON_CANCEL else "restarted" in logs_of(step)


async def test_threads_have_sessions_of_their_own(coding: Story, pool: SessionPool) -> None:
    """However many run code at once: variables and files of each are there in its next run."""
    pids: list[int] = []

    async def use(number: int) -> None:
        code = f"x = {number}; _ = open('/mnt/data/me', 'w').write(str(x)); print('set', x)"
        story = await coding.another({"role": "user", "content": code})
        step, _ = await story.steps(await story.run())
        assert logs_of(step) == f"set {number}\n"
        await story.say("import time; time.sleep(0.1); print(x, open('me').read())")
        step, _ = await story.steps(await story.run())
        assert logs_of(step) == f"{number} {number}\n"
        pids.extend(pool.pids(("default", story.thread_id)))

    await asyncio.gather(*map(use, range(THREADS)))
    assert pool.sessions == THREADS
    assert len(set(pids)) == len(pids) >= 2 * THREADS
