"""One run from its creation to its end, as the SDK sees it."""

from __future__ import annotations

import openai

from server.engine.scripted import ScriptedEngine


async def test_streamed_run_writes_a_message(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    """The stream helper gives the model's text, and the thread keeps it."""
    engine.says("Hello there, friend.")
    assistant = await client.beta.assistants.create(model="gpt-4o", instructions="Be kind.")
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hi!"}])
    async with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id
    ) as stream:
        text = "".join([piece async for piece in stream.text_deltas])
    assert text == "Hello there, friend."
    messages = await client.beta.threads.messages.list(thread.id)
    assert messages.data[0].content[0].text.value == text  # type: ignore[union-attr]
    assert "Be kind." in engine.prompts[0]
    assert "Hi!" in engine.prompts[0]
