"""What the server counts of runs and streams."""

from __future__ import annotations

import pytest

from tests.runs.story import Story, granted, metric
from tests.support import eventually


async def test_runs_and_streams(story: Story) -> None:
    """A run counts while it is executed, a stream while it is read, a claim when it is over."""
    answer = await story.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    story.engine.says("one two", pause_after=1)
    run = await story.paused()
    assert await metric(story, "assistants_running_runs") == 1
    async with story.http.stream("GET", f"{story.url}/runs/{run['id']}/events") as stream:
        read = stream.aiter_bytes()  # held: it would hang up
        await anext(read)
        assert await metric(story, "assistants_open_streams") == 1
    await eventually(story.readers, lambda count: count == 0)
    story.engine.resume()
    await story.settled(run)
    await eventually(story.running, lambda count: count == 0)
    assert await metric(story, "assistants_running_runs") == 0
    assert await metric(story, "assistants_run_claim_seconds_count") == 1


async def test_requests(story: Story) -> None:
    """Requests are counted by route, not by URL."""
    await story.run()
    text = (await story.http.get("/metrics")).text
    assert story.thread_id not in text
    assert 'route="/v1/threads/{thread_id}/runs"' in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health(story: Story, path: str) -> None:
    """A server that runs says so to whoever asks, without a key."""
    assert granted(await story.http.get(path, headers={"OpenAI-Beta": ""}))["status"]
