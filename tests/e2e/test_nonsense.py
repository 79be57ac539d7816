"""Models that know nothing, served whole: what their runs answer and call is valid all the same.

Random weights under the vocabularies and templates of real families; another validator judges.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai.types.beta.threads import Run

from tests.engine.grammar_vocabulary import grammar_vocabulary
from tests.engine.nonsense import FAMILIES
from tests.engine.shapes import Shape, root_shape, valid
from tests.process import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNS = {"bundled": 200, "qwen": 250, "llama": 250}
AT_ONCE = 32
MOST = 600  # tokens
HELLO: Any = {"messages": [{"role": "user", "content": "Hello!"}]}


@dataclass(frozen=True, slots=True)
class Nonsense:
    """A server over such a model, and how many runs are to be made of it."""

    client: openai.AsyncOpenAI
    assistant_id: str
    logit_bias: dict[str, float]  # what ends strings and numbers comes somewhat oftener
    runs: int
    turn: asyncio.Semaphore

    async def run(self, seed: int, **asked: Any) -> Run:
        """A streamed run to its end, or to what it asks for."""
        sampling = {"seed": seed, "top_k": 0, "logit_bias": self.logit_bias}
        async with (
            self.turn,
            self.client.beta.threads.create_and_run_stream(
                assistant_id=self.assistant_id,
                thread=HELLO,
                max_completion_tokens=MOST,
                temperature=1.0,
                extra_body={"x_sampling": sampling},
                **asked,
            ) as stream,
        ):
            return await stream.get_final_run()

    async def text_of(self, run: Run) -> str:
        """What the run's only message says."""
        (message,) = (await self.client.beta.threads.messages.list(run.thread_id)).data[:-1]
        (content,) = message.content
        assert content.type == "text"
        return content.text.value


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FAMILIES)
async def nonsense(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Nonsense]:
    """`assistants serve` on the model, as a process of its own."""
    folder = tmp_path_factory.mktemp("nonsense")
    path = FAMILIES[request.param].write(folder / "nonsense.gguf")
    vocabulary = grammar_vocabulary(path)
    ends = {str(vocabulary.letter(end)): 4.0 for end in '"}],'}
    with served(folder / "server", "--model", str(path)) as server:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="local") as client:
            assistant = await client.beta.assistants.create(model="nonsense")
            yield Nonsense(
                client, assistant.id, ends, RUNS[request.param], asyncio.Semaphore(AT_ONCE)
            )


def schemas(count: int, seed: str) -> list[tuple[Shape, bool]]:
    """In turns strict and not."""
    kinds = [number % 2 == 0 for number in range(count)]
    return [(root_shape(random.Random(f"{seed} {n}"), strict=s), s) for n, s in enumerate(kinds)]


async def test_every_answer_has_its_schema(nonsense: Nonsense) -> None:
    """Of all runs with a `response_format`, not one answers with anything else."""
    asked = schemas(nonsense.runs // 2, "answers")

    async def answer(seed: int, schema: Shape, strict: bool) -> bool | None:
        form = {"name": "shape", "schema": schema, "strict": strict}
        run = await nonsense.run(seed, response_format={"type": "json_schema", "json_schema": form})
        assert run.status in ("completed", "incomplete"), run.last_error
        return valid(await nonsense.text_of(run), schema) if run.status == "completed" else None

    judged = await asyncio.gather(*(answer(n, *schema) for n, schema in enumerate(asked)))
    assert judged.count(False) == 0
    assert judged.count(True) > 0.9 * len(judged)  # a long one may reach the limit, by chance


async def test_every_forced_call_is_valid(nonsense: Nonsense) -> None:
    """Of all runs that must call, each calls what is offered or named, and with its parameters."""
    asked = schemas(nonsense.runs // 2 * 2, "calls")

    async def call(seed: int, *two: tuple[Shape, bool]) -> bool | None:
        shapes = {f"f{number}": shape for number, (shape, _) in enumerate(two)}
        functions = [
            {"name": f"f{number}", "parameters": shape, "strict": strict}
            for number, (shape, strict) in enumerate(two)
        ]
        named = {"type": "function", "function": {"name": "f1"}}
        run = await nonsense.run(
            seed,
            tools=[{"type": "function", "function": function} for function in functions],
            tool_choice=named if seed % 3 == 0 else "required",
            parallel_tool_calls=seed % 2 == 0,
        )
        if run.status == "incomplete":
            return None
        assert run.required_action is not None, (run.status, run.last_error)
        calls = [call.function for call in run.required_action.submit_tool_outputs.tool_calls]
        assert len(calls) == 1 or seed % 2 == 0
        assert seed % 3 or {call.name for call in calls} == {"f1"}
        assert all(json.loads(call.arguments) is not None for call in calls)
        return all(valid(call.arguments, shapes[call.name]) for call in calls)

    pairs = zip(asked[::2], asked[1::2], strict=True)
    judged = await asyncio.gather(*(call(n, *pair) for n, pair in enumerate(pairs)))
    assert judged.count(False) == 0
    assert judged.count(True) > 0.8 * len(judged)  # one that may call on and on may reach the limit
