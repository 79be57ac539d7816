"""Model calls in one line each."""

from __future__ import annotations

from dataclasses import dataclass

from server.engine.client import WorkerEngine
from server.engine.generation import WorkerGeneration
from server.engine.protocol import Finished, Request, Sampling, Span, Tokens

GREEDY = Sampling(temperature=0)


@dataclass(frozen=True, slots=True)
class Said:
    ids: tuple[int, ...]
    data: bytes
    end: Finished


def chat(*turns: str) -> list[Span]:
    """User and assistant turns, in ChatML, with the user's words as content."""
    spans = [Span("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", True)]
    for number, turn in enumerate(turns):
        role = "assistant" if number % 2 else "user"
        spans += [Span(f"<|im_start|>{role}\n", True), Span(turn, False)]
        spans.append(Span("<|im_end|>\n", True))
    return [*spans, Span("<|im_start|>assistant\n", True)]


async def read(generation: WorkerGeneration) -> Said:
    """A generation to its end."""
    ids: tuple[int, ...] = ()
    data = b""
    async for event in generation:
        if isinstance(event, Finished):
            return Said(ids, data, event)
        ids, data = ids + event.ids, data + event.data
    raise AssertionError("a generation ended without Finished")


async def ask(engine: WorkerEngine, *turns: str, most: int = 48, scope: str = "") -> Said:
    """The greedy answer to a conversation."""
    prompt = await engine.tokenize(chat(*turns))
    return await read(engine.generate(Request(prompt, most, GREEDY, scope)))


async def first_tokens(events: object) -> Tokens:
    """The first event of a generation that is being iterated."""
    event = await anext(events)  # type: ignore[call-overload]
    assert isinstance(event, Tokens)
    return event


def endless(prompt: list[int], most: int = 3000, seed: int = 7) -> Request:
    """A request that is most unlikely to end by itself soon."""
    return Request(prompt, most, Sampling(temperature=5.0, top_k=0, seed=seed))
