"""Whatever the schema, and however little a model knows: what it is made to write is valid.

The models have random weights, so that their words are noise; another validator judges.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from server.chat.answers import AnswerForm
from server.chat.dialects import HERMES, PLAIN
from server.chat.grammar import turn_grammar
from server.chat.turn import TurnParser
from server.chat.values import ToolSpec
from server.engine.client import WorkerEngine
from server.engine.protocol import Request, Sampling, Span
from server.engine.settings import EngineSettings
from server.schemas.json_schema import check_strict
from tests.engine.calls import Said, read
from tests.engine.nonsense import FAMILIES
from tests.engine.shapes import Shape, root_shape, valid

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWERS = {"bundled": 500, "qwen": 250, "llama": 250}
MOST = 600  # tokens


@dataclass(frozen=True, slots=True)
class Nonsense:
    """A model that talks nonsense, and how many answers it is asked for."""

    engine: WorkerEngine
    prompt: list[int]
    sampling: Sampling
    answers: int

    async def says(self, grammar: str, seed: int) -> Said:
        """What it says under a grammar."""
        sampling = Sampling(1.0, top_k=0, seed=seed, logit_bias=self.sampling.logit_bias)
        return await read(
            self.engine.generate(Request(self.prompt, MOST, sampling, grammar=grammar))
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FAMILIES)
async def nonsense(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Nonsense]:
    """Random weights, a real vocabulary; what ends strings and numbers comes somewhat oftener."""
    path = FAMILIES[request.param].write(tmp_path_factory.mktemp("nonsense") / "model.gguf")
    engine = WorkerEngine(path, name="nonsense", settings=EngineSettings(threads=1, slots=16))
    await engine.start()
    ends = [await engine.tokenize([Span(text, False)]) for text in ('"', "}", "]", ",")]
    sampling = Sampling(logit_bias=tuple((ids[0], 4.0) for ids in ends))
    yield Nonsense(
        engine, await engine.tokenize([Span("Hello", False)]), sampling, ANSWERS[request.param]
    )
    await engine.stop()


async def test_every_answer_has_its_schema(nonsense: Nonsense) -> None:
    """Of hundreds of schemas, strict ones and others, not one is missed."""
    shapes: list[tuple[Shape, bool]] = []
    for number in range(nonsense.answers):
        strict = number % 2 == 0
        shapes.append((root_shape(random.Random(number), strict=strict), strict))
    for schema, strict in shapes:
        if strict:
            check_strict(schema)
    tags = nonsense.engine.info.tags
    said = await asyncio.gather(
        *(
            nonsense.says(turn_grammar(PLAIN, [], form=AnswerForm(*asked), tags=tags), seed)
            for seed, asked in enumerate(shapes)
        )
    )
    whole = [(each, asked[0]) for each, asked in zip(said, shapes, strict=True) if _ended(each)]
    assert len(whole) > 0.95 * nonsense.answers  # a schema without end may go on beyond the limit
    missed = [
        (schema, each.data) for each, schema in whole if not valid(each.data.decode(), schema)
    ]
    assert missed == []


async def test_every_call_has_its_parameters(nonsense: Nonsense) -> None:
    """Several in a turn, of several functions, each with arguments that are valid."""
    called = 0
    for seed in range(nonsense.answers // 10):
        dice = random.Random(f"calls {seed}")
        shapes = {f"f{n}": root_shape(dice, strict=n == 0) for n in range(3)}
        tools = [ToolSpec(name, None, shape, name == "f0") for name, shape in shapes.items()]
        tags = nonsense.engine.info.tags
        grammar = turn_grammar(HERMES, tools, must_call=True, tags=tags)
        said = await nonsense.says(grammar, seed)
        parser = TurnParser(HERMES, tools)
        parser.feed(said.data.decode("utf-8", "replace"))
        parser.finish()
        assert parser.text == ""
        calls = parser.calls[:-1] if parser.unfinished_call else parser.calls
        assert all(valid(arguments, shapes[name]) for _, name, arguments in calls)
        called += len(calls)
    assert called > nonsense.answers // 20


def _ended(said: Said) -> bool:
    return said.end.reason == "stop"
