"""Grammars over a real vocabulary: nothing else is said, and a bad one harms only who sent it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.engine.client import WorkerEngine
from server.engine.constraint import Compiled, ConstraintBroken, Mask
from server.engine.protocol import GrammarRefused, Request, Sampling
from server.engine.settings import EngineSettings
from tests.engine.arithmetic import END, VOCABULARY, ArithmeticBackend
from tests.engine.calls import GREEDY, Said, ask, chat, read
from tests.engine.serving import Served, prompt_of
from tests.engine.test_constraint import Counting, mask_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

WILD = Sampling(temperature=5.0, top_k=0, seed=3)
COLOURS = json.dumps({"enum": ["red", "green"]})
WITH_GRAMMAR = Request(prompt_of(1, 20), 6, GREEDY, grammar="start: /x/")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model_path: Path) -> AsyncIterator[WorkerEngine]:
    """One worker for this file: its tests leave nothing behind."""
    engine = WorkerEngine(model_path, name="tiny", settings=EngineSettings(threads=2, slots=4))
    await engine.start()
    yield engine
    await engine.stop()


async def say(
    engine: WorkerEngine, grammar: str, *, sampling: Sampling = WILD, most: int = 64
) -> Said:
    """What the model says to a greeting under this grammar."""
    prompt = await engine.tokenize(chat("Hello!"))
    return await read(engine.generate(Request(prompt, most, sampling, grammar=grammar)))


async def test_only_what_the_grammar_allows_is_said(engine: WorkerEngine) -> None:
    """By a model that would say anything; the turn ends where the grammar ends, and only there."""
    said = [await say(engine, f"start: %json {COLOURS}") for _ in range(3)]
    assert {each.data for each in said} <= {b'"red"', b'"green"'}
    assert {each.end.reason for each in said} == {"stop"}
    digits = await say(engine, "start: /[0-9]{40}/")
    assert digits.data.decode().isdecimal()
    assert len(digits.data) == 40


async def test_a_turn_may_end_wherever_the_grammar_could(engine: WorkerEngine) -> None:
    """Where more may follow but need not, the model decides: this one ends its greeting."""
    free = await ask(engine, "Hello!", most=64)
    bound = await say(engine, "start: /(?s:.*)/", sampling=GREEDY)
    assert bound.data == free.data
    assert bound.end.reason == "stop"


async def test_tokens_of_the_template_are_known_by_their_ids(engine: WorkerEngine) -> None:
    """They stand in grammars as ids, and no text can become one."""
    tags = engine.info.tags
    name, id = next(tag for tag in tags.items() if tag[0] not in engine.info.turn_ends)
    assert (await engine.tokenize(chat("Hello!")))[0] in tags.values()
    said = await say(engine, f'start: "a" <[{id}]> "b"')
    assert id in said.ids
    spelled = await say(engine, f"start: {json.dumps(name)}")
    assert spelled.data.decode() == name
    assert id not in spelled.ids


@pytest.mark.parametrize(
    "grammar",
    [
        "start: (",
        "start: nowhere",
        'start: %json {"type": "nonsense"}',
        'start: %json {"$ref": "http://elsewhere/"}',
        "start: /(?=a)b/",
        "start: <|no such token|>",
        "x" * (5 << 20),
    ],
    ids=lambda grammar: grammar[:24],
)
async def test_a_grammar_of_no_use_is_refused(engine: WorkerEngine, grammar: str) -> None:
    """Soon, with its reason, and the worker lives."""
    pid, begun = engine.pid, time.monotonic()
    with pytest.raises(GrammarRefused, match="grammar"):
        await say(engine, grammar)
    assert time.monotonic() - begun < 10
    assert engine.pid == pid


async def test_deep_schemas_find_their_way(engine: WorkerEngine) -> None:
    """Far deeper than any that is taken from clients: what reads them has a stack for it."""
    links = {f"d{n}": {"properties": {"x": {"$ref": f"#/$defs/d{n + 1}"}}} for n in range(2000)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**links, "d2000": {"const": 1}}}
    said = await say(engine, f"start: (%json {json.dumps(schema)} | /[a]/) /[b]/", most=2)
    assert said.data


async def test_a_grammar_that_never_ends_ends_its_own_turn_only(engine: WorkerEngine) -> None:
    """A schema that only refers to itself can be read, but no token can begin it."""
    other = asyncio.create_task(ask(engine, "Hello!"))
    with pytest.raises(GrammarRefused, match="cannot be followed"):
        await say(engine, 'start: %json {"$ref": "#"}')
    assert (await other).end.reason == "stop"


async def test_a_turn_is_cancelled_while_its_grammar_is_read(engine: WorkerEngine) -> None:
    """It ends as cancelled, without a word."""
    prompt = await engine.tokenize(chat("Hello!"))
    grammar = "start: /" + "|".join(f"{number}x" for number in range(20_000)) + "/"
    generation = engine.generate(Request(prompt, 8, WILD, grammar=grammar))
    reading = asyncio.create_task(read(generation))
    await engine.tokenize(chat("Hello!"))
    generation.cancel()
    assert (await reading).end.reason == "cancelled"


async def test_a_sequence_waits_for_its_constraint() -> None:
    """Nothing of it is decoded before, and the worker need not look for news meanwhile."""
    served, rules = Served(ArithmeticBackend()), Counting(first=30)
    served.decoder.submit(1, WITH_GRAMMAR)
    assert not served.step().tokens
    assert served.decoder.blocked
    assert not served.decoder.idle
    served.decoder.constrain(Compiled(1, rules))
    assert not served.decoder.blocked
    served.run()
    assert served.said[1] == rules.accepted == list(range(30, 36))


async def test_a_constraint_comes_too_late() -> None:
    """Of a sequence that was cancelled, or refused: there is nothing to be done with it."""
    served = Served(ArithmeticBackend())
    served.decoder.submit(1, WITH_GRAMMAR)
    served.decoder.cancel(1)
    served.decoder.constrain(Compiled(1, Counting(first=30)))
    served.decoder.submit(2, WITH_GRAMMAR)
    served.decoder.constrain(Compiled(2, None, "it is nonsense"))
    served.run()
    assert served.ends[1].reason == "cancelled"
    assert served.failures == {2: "The grammar is refused: it is nonsense."}
    assert not served.said


class Breaking:
    """Allows one token, then gives up: while it is asked, or while it is told."""

    def __init__(self, *, in_mask: bool) -> None:
        self._in_mask = in_mask
        self._asked = 0

    def mask(self) -> Mask:
        self._asked += 1
        if self._in_mask and self._asked > 1:
            raise ConstraintBroken("too much work")
        return mask_of(set(range(VOCABULARY)) - {END}, VOCABULARY)

    def accept(self, token: int) -> None:
        if not self._in_mask and self._asked > 1:
            raise ConstraintBroken("too much work")


@pytest.mark.parametrize("in_mask", [True, False], ids=["mask", "accept"])
async def test_a_constraint_that_gives_up_fails_its_sequence(in_mask: bool) -> None:
    """Beside it another one goes on, with what it would have said alone."""
    served = Served(ArithmeticBackend())
    served.ask(1, prompt_of(1, 20), constraint=Breaking(in_mask=in_mask))
    served.ask(2, prompt_of(2, 20), most=20)
    served.run()
    assert served.failures == {1: "The grammar cannot be followed: too much work."}
    assert len(served.said[1]) == 1
    assert served.said[2] == Served(ArithmeticBackend()).answer(2, prompt_of(2, 20), most=20)
