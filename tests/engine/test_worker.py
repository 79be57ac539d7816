"""The engine over a real worker process and a real model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.engine.client import WorkerEngine
from server.engine.generation import WorkerGeneration
from server.engine.protocol import EngineError, Finished, PromptTooLong, Request, Sampling, Span
from server.engine.settings import EngineSettings
from tests.engine.calls import GREEDY, ask, chat, endless, first_tokens, read

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTIONS = [
    "Hello!",
    "Hi, how are you?",
    "Thank you very much.",
    "What can you do?",
    "Good morning!",
    "Who are you?",
    "Bye!",
    "Are you a human?",
]


@contextlib.asynccontextmanager
async def started(model_path: Path) -> AsyncIterator[WorkerEngine]:
    """A worker of its own, stopped at the end."""
    engine = WorkerEngine(model_path, name="tiny", settings=EngineSettings(threads=2))
    await engine.start()
    yield engine
    await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model_path: Path) -> AsyncIterator[WorkerEngine]:
    """One worker for this file: its tests leave nothing behind."""
    async with started(model_path) as engine:
        yield engine


async def test_the_file_tells_what_the_model_is(engine: WorkerEngine, model_path: Path) -> None:
    """Sizes, context, template and special tokens come from the GGUF."""
    info = engine.info
    assert (info.name, info.path) == ("tiny", str(model_path))
    assert info.size > 1_000_000
    assert info.context >= 1024
    assert info.parameters > 1_000_000
    assert info.chat_template is not None
    assert "<|im_start|>" in info.chat_template
    assert info.eos == "<|im_end|>"
    assert engine.slots == 16


async def test_the_model_answers_and_ends_its_turn(engine: WorkerEngine) -> None:
    """An answer is text that ends with the model's own end of turn, which is counted, not said."""
    said = await ask(engine, "Hello!")
    assert said.data.decode().strip()
    assert b"<|" not in said.data
    assert said.end.reason == "stop"
    assert said.end.completion_tokens == len(said.ids) + 1
    assert said.end.prompt_tokens == len(await engine.tokenize(chat("Hello!")))


async def test_sixteen_streams_say_what_each_says_alone(engine: WorkerEngine) -> None:
    """Sequences that decode together do not see each other."""
    alone = [await ask(engine, question) for question in QUESTIONS]
    together = await asyncio.gather(*(ask(engine, question) for question in QUESTIONS * 2))
    assert [said.data for said in together] == [said.data for said in alone] * 2


async def test_a_seed_makes_a_sampled_answer_repeatable(model_path: Path) -> None:
    """The same seed draws the same tokens; another one draws others.

    Where a sequence lies in the cache changes the rounding, and so, rarely, a token. Hence a worker
    that has decoded nothing yet, a scope for each, and a prompt without an obvious answer.
    """
    async with started(model_path) as engine:
        said = [
            await read(engine.generate(Request([1, 2, 3], 8, Sampling(20.0, seed=seed), scope)))
            for seed, scope in ((1, "a"), (1, "b"), (2, "c"))
        ]
    assert said[0].ids == said[1].ids != said[2].ids


async def test_max_tokens_ends_with_length(engine: WorkerEngine) -> None:
    """The limit is exact."""
    said = await ask(engine, "Hello!", most=3)
    assert (said.end.reason, said.end.completion_tokens, len(said.ids)) == ("length", 3, 3)


async def test_a_full_context_ends_with_length(engine: WorkerEngine) -> None:
    """A generation may fill the context, and no more."""
    room = 20
    prompt = (await engine.tokenize([Span("word ", False)]) * 10_000)[: engine.info.context - room]
    said = await read(engine.generate(endless(prompt)))
    assert said.end.reason in {"length", "stop"}
    assert said.end.completion_tokens <= room


async def test_a_prompt_longer_than_the_context_is_refused(engine: WorkerEngine) -> None:
    """The error says both sizes, and the engine goes on."""
    prompt = [1] * (engine.info.context + 1)
    with pytest.raises(PromptTooLong, match=rf"{len(prompt)} tokens.*{engine.info.context}"):
        await read(engine.generate(Request(prompt, 8, GREEDY)))
    assert (await ask(engine, "Hello!")).data


async def test_tokens_that_the_model_does_not_have_are_refused(engine: WorkerEngine) -> None:
    """A wrong id is an error of its request alone; it would abort the library."""
    with pytest.raises(EngineError, match="vocabulary"):
        await read(engine.generate(Request([1, engine.info.vocabulary], 8, GREEDY)))
    assert engine.stats.restarts == 0


async def test_a_returning_thread_pays_for_its_new_tokens_only(engine: WorkerEngine) -> None:
    """The next turn finds the earlier ones in the cache, and says the same as without it."""
    first = await ask(engine, "Hello! My name is Ada.", scope="cached")
    turns = ("Hello! My name is Ada.", first.data.decode(), "Thank you.")
    warm = await ask(engine, *turns, scope="cached")
    cold = await ask(engine, *turns, scope="cold")
    assert warm.end.cached_tokens >= first.end.prompt_tokens
    assert cold.end.cached_tokens == 0
    assert warm.data == cold.data


async def test_cancel_ends_a_stream_and_keeps_its_text(engine: WorkerEngine) -> None:
    """What was written until then arrives, then the end, with true counts."""
    prompt = await engine.tokenize(chat("Talk."))
    for seed in range(10):  # on a busy machine one may be over before it is cancelled
        ids, end = await begin_and_cancel(engine.generate(endless(prompt, seed=seed)))
        assert end.completion_tokens == len(ids) + (end.reason == "stop")
        if end.reason == "cancelled":
            return
    raise AssertionError("none of ten was cancelled")


async def begin_and_cancel(generation: WorkerGeneration) -> tuple[list[int], Finished]:
    """Read the first tokens, cancel, and read on to the end."""
    ids: list[int] = []
    async for event in generation:
        if isinstance(event, Finished):
            return ids, event
        ids += event.ids
        generation.cancel()
        generation.cancel()
    raise AssertionError("a generation ended without Finished")


async def test_cancel_before_the_first_read_costs_nothing(engine: WorkerEngine) -> None:
    """A call that was given up never reaches the worker."""
    generation = engine.generate(endless([1, 2, 3]))
    generation.cancel()
    said = await read(generation)
    assert said.end == Finished("cancelled", 3, 0, 0)


async def test_dropping_a_generation_frees_its_slot(engine: WorkerEngine) -> None:
    """A reader that goes away, or whose task is cancelled, cancels in the worker too."""
    prompt = await engine.tokenize(chat("Talk."))
    closed = aiter(engine.generate(endless(prompt)))
    await first_tokens(closed)
    await closed.aclose()
    reader = asyncio.create_task(read(engine.generate(endless(prompt))))
    await first_tokens(aiter(engine.generate(endless(prompt, most=2))))
    reader.cancel()
    await asyncio.wait((reader,))
    await ask(engine, "Hello!", most=2)
    assert engine.stats.live == 0


async def test_more_requests_than_slots_wait_their_turn(engine: WorkerEngine) -> None:
    """Forty at once on sixteen slots all get their answer."""
    said = await asyncio.gather(*(ask(engine, QUESTIONS[0], most=6) for _ in range(40)))
    assert len({one.data for one in said}) == 1


async def test_a_reader_that_stalls_holds_up_nobody(engine: WorkerEngine) -> None:
    """While one stream is not read, another one runs to its end."""
    prompt = await engine.tokenize(chat("Talk."))
    stalled = engine.generate(endless(prompt, most=200))
    events = aiter(stalled)
    await first_tokens(events)
    assert (await ask(engine, "Hello!")).end.reason == "stop"
    rest = [event async for event in events]
    assert isinstance(rest[-1], Finished)
