"""Code in runs, in a real sandbox: what a model writes is run, wherever this machine has one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.config import CodeInterpreterSettings
from server.engine.scripted import ScriptedEngine
from server.sandbox.choice import open_sandbox
from tests.runs.story import Json, Story, begin_story, granted, running, text_of
from tests.support import ManualClock, live_server
from tests.untested import not_tested

CODE: Json = {"type": "code_interpreter"}
MEAN = """
import csv
with open("/mnt/data/sales.csv") as file:
    rows = list(csv.DictReader(file))
with open("/mnt/data/out.txt", "w") as file:
    file.write(rows[0]["month"])
sum(int(row["sold"]) for row in rows) / len(rows)
"""


@pytest.fixture
async def coding(tmp_path: Path, engine: ScriptedEngine) -> AsyncIterator[Story]:
    """An assistant that runs code in the best sandbox that this machine has."""
    sandbox = await open_sandbox(CodeInterpreterSettings(), ManualClock())
    if sandbox.problem is not None:
        not_tested("code in runs", sandbox.problem)
    async with (
        live_server(tmp_path / "data", engine, sandbox=sandbox) as server,
        begin_story(server, engine, tools=[CODE]) as story,
    ):
        yield story


async def test_a_file_is_read_an_error_mended_and_state_kept(coding: Story) -> None:
    """Variables live from run to run; what the answer links to can be downloaded."""
    sent = {"file": ("sales.csv", b"month,sold\nMay,2\nJune,4\n"), "purpose": (None, "assistants")}
    file_id = granted(await coding.http.post("/v1/files", files=sent))["id"]
    body = {
        "role": "user",
        "content": "Mean?",
        "attachments": [{"file_id": file_id, "tools": [CODE]}],
    }
    granted(await coding.http.post(f"{coding.url}/messages", json=body))
    coding.engine.says(running("mean = 1 / 0"))
    coding.engine.says(running(MEAN))
    coding.engine.says("It is 3: sandbox:/mnt/data/out.txt")
    run = await coding.run()
    assert run["status"] == "completed"
    failed, done, _ = await coding.steps(run)
    [error] = failed["step_details"]["tool_calls"][0]["code_interpreter"]["outputs"]
    assert "ZeroDivisionError" in error["logs"]
    [output] = done["step_details"]["tool_calls"][0]["code_interpreter"]["outputs"]
    assert output["logs"].strip() == "3.0"
    assert "Files: /mnt/data/out.txt" in coding.engine.prompts[-1]
    [message] = await coding.answers(run)
    [link] = message["content"][0]["text"]["annotations"]
    made = await coding.http.get(f"/v1/files/{link['file_path']['file_id']}/content")
    assert made.content == b"May"
    await coding.say("How many rows?")
    coding.engine.says(running("print(len(rows))"))
    coding.engine.says("Two.")
    run = await coding.run()
    assert text_of((await coding.answers(run))[0]) == "Two."
    assert "<tool_response>\n2\n</tool_response>" in coding.engine.prompts[-1]


async def test_a_loop_is_stopped_with_its_run(coding: Story) -> None:
    """A cancelled run ends at once, and its session can be used again."""
    coding.engine.says(running("x = 5\nprint('on', flush=True)\nwhile True: pass"))
    run = await coding.start()
    async with coding.http.stream("GET", f"{coding.url}/runs/{run['id']}/events") as answer:
        async for line in answer.aiter_lines():
            if '"logs":"on' in line:
                break
    begun = time.monotonic()
    granted(await coding.cancel(run))
    assert (await coding.settled(run))["status"] == "cancelled"
    await coding.say("Still there?")
    coding.engine.says(running("x"))
    coding.engine.says("Yes.")
    async with asyncio.timeout(10):
        run = await coding.run()
    assert time.monotonic() - begun < 5
    step, _ = await coding.steps(run)
    [output] = step["step_details"]["tool_calls"][0]["code_interpreter"]["outputs"]
    assert output["logs"].strip().endswith("5")
