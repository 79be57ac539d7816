"""What of a thread is loaded for a run's next turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from server.chat.dialects import HERMES
from server.chat.template import ChatTemplate
from server.db.stores import Record
from server.engine.protocol import Span
from server.engine.scripted import CHAT_TEMPLATE, ScriptedEngine
from server.runs import prompt
from server.runs.context import ContextBuilder, placed_units, written_turns
from server.runs.prompt import PromptBuilder
from server.runs.turns import Budget, TurnRequest
from tests.runs.story import Json, Story

ROUNDS = 36
WORDS = "and so on " * 9


class AttentiveEngine(ScriptedEngine):
    """Keeps what it was last asked to tokenize."""

    spans: Sequence[Span] = ()

    async def tokenize(self, spans: Sequence[Span]) -> list[int]:
        self.spans = spans
        return await super().tokenize(spans)


async def long_talk(story: Story) -> Json:
    """A thread far longer than the context, whose prompts were cut; its last run."""
    for number in range(ROUNDS):
        story.engine.says(f"Answer {number} {WORDS}")
        run = await story.run()
        await story.say(f"Question {number} {WORDS}")
    return run


async def row_of(story: Story, run: Json) -> Record:
    """The run as it is stored."""
    row = await story.server.services.db.read(lambda tx: tx.runs.by_id(run["id"]))
    assert row is not None
    return row


async def spliced(request: TurnRequest) -> Sequence[Span]:
    """The spans of the turn's prompt, with ids where the model's own words stand for themselves."""
    engine = AttentiveEngine()
    template = ChatTemplate(CHAT_TEMPLATE, bos="", eos="<|im_end|>")
    # The instructions are this thread's own, so that nothing is tokenized after the prompt.
    builder = PromptBuilder(engine, template, HERMES)
    await builder.build(replace(request, common_instructions="Others'."))
    return engine.spans


async def test_only_turns_that_can_stand_in_the_prompt_are_loaded(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long thread the newest, and the prompt is the same as with all of them."""
    services = story.server.services
    run = await row_of(story, await long_talk(story))
    model = services.catalog.models[run.model_id]
    monkeypatch.setattr(prompt, "LONGEST_TOKEN", 1)  # as it is with this model
    builder = ContextBuilder(services.db, completion_cap=2048, tool_rounds=100)
    request = (await builder.build(run, model)).request
    every = Budget(None, 1, 1_000_000)
    everything = await services.db.read(
        lambda tx: written_turns(
            tx, run.thread_id, placed_units(tx, run, model.id, limit=1000), every
        )
    )
    assert len(everything) == ROUNDS
    assert 0 < len(request.written) < ROUNDS - 5
    assert list(request.written) == everything[: len(request.written)]
    spans = await spliced(request)
    assert any(span.ids for span in spans)
    assert spans == await spliced(replace(request, written=everything))
