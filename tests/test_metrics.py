"""What the server counts, as a scraper sees it."""

from __future__ import annotations

import httpx
import openai

from server.engine.scripted import ScriptedEngine


async def test_the_work_of_an_engine_shows_in_the_metrics(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    """After a run its model's tokens are counted under the model's name."""
    engine.says("One two three.")
    assistant = await client.beta.assistants.create(model="gpt-4o", instructions="Count.")
    thread = await client.beta.threads.create()
    await client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
    samples = dict(
        line.rsplit(" ", 1)
        for line in (await http.get("/metrics")).text.splitlines()
        if not line.startswith("#")
    )
    assert float(samples['assistants_engine_generated_tokens{model="tiny-assistant"}']) == 14
    assert float(samples['assistants_engine_live{model="tiny-assistant"}']) == 0
    assert float(samples["assistants_turn_seconds_count"]) == 1
