"""Texts to vectors: how a scripted model is given them, and what a real one makes of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from server.engine.client import WorkerEngine
from server.engine.embedding import Embedder, Texts
from server.engine.messages import Embedded, Unread
from server.engine.protocol import EngineUnavailable, Unreadable
from server.engine.settings import EngineSettings
from server.engine.vectors import Vector, normalised, packed, unpacked
from tests.gguf_files import write_bert
from tests.support import eventually

CONTEXT = 64
HANG_TIMEOUT = 1.0


class Lengths:
    """A model whose vectors are the length of a text and its first token."""

    slots = 3
    context = 8
    batch = 10
    vocabulary = 100
    ranks = False

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.now = 0.0
        self.seconds = 1.0  # that a token takes

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        self.batches.append([len(text) for text in texts])
        self.now += self.seconds * sum(map(len, texts))
        return [np.array([len(text), text[0]], np.float32) for text in texts]


def test_requests_take_turns_in_batches_that_are_as_full_as_they_can_be() -> None:
    """Text by text, up to the slots and the tokens of a batch; each keeps its own order."""
    model = Lengths()
    embedder = Embedder(model)
    embedder.submit(Texts(1, [[0] * 8, [1] * 8, [2] * 2]))
    embedder.submit(Texts(2, [[3]]))
    embedder.submit(Texts(3, [[7], [8, 8]]))
    told = []
    while not embedder.idle:
        told.append([(e.number, e.index, e.tokens, e.last) for e in embedder.step()])
    assert told == [
        [(1, 0, 8, False), (2, 0, 1, True), (3, 0, 1, False)],
        [(1, 1, 8, False), (3, 1, 2, True)],
        [(1, 2, 2, True)],
    ]
    assert model.batches == [[8, 1, 1], [8, 2], [2]]


def test_projects_take_turns_and_then_the_requests_of_each() -> None:
    """However many requests one has, another's next text is read right after one of its texts."""
    model = Lengths()
    model.slots = 1
    embedder = Embedder(model)
    for number in (1, 2, 3):
        embedder.submit(Texts(number, [[0], [0]], "large"))
    embedder.step()
    embedder.submit(Texts(4, [[0], [0]], "small"))
    embedder.submit(Texts(5, [[0]], "other"))
    embedder.cancel(3)
    told = []
    while not embedder.idle:
        told += [(e.number, e.index) for e in embedder.step()]
    assert told == [(2, 0), (4, 0), (5, 0), (1, 1), (4, 1), (2, 1)]


def test_a_request_is_dropped_in_its_middle() -> None:
    """Others keep their turns; one that is over, or never came, is none to drop."""
    model = Lengths()
    embedder = Embedder(model)
    embedder.submit(Texts(1, [[0] * 8, [1] * 8]))
    embedder.submit(Texts(2, [[0] * 8, [3] * 7]))
    embedder.step()
    for number in (1, 3):
        embedder.cancel(number)
    told = []
    while not embedder.idle:
        told += [(e.number, e.index, e.last) for e in embedder.step()]
    assert told == [(2, 0, False), (2, 1, True)]
    embedder.cancel(2)
    assert embedder.idle


def test_only_a_single_text_is_longer_than_a_batch() -> None:
    """One step is never so long that others wait for more than a batch, if their texts allow it."""
    model = Lengths()
    model.batch = 4
    embedder = Embedder(model)
    embedder.submit(Texts(1, [[0] * 2, [0] * 8, [0] * 2, [0] * 2]))
    while not embedder.idle:
        embedder.step()
    assert model.batches == [[2], [8], [2, 2]]


def test_every_vector_tells_how_fast_texts_are_read() -> None:
    """From the start on; what is too short to tell changes nothing."""
    model = Lengths()
    embedder = Embedder(model, clock=lambda: model.now)
    embedder.warm_up()
    assert embedder.pace == 1
    model.seconds = 3
    embedder.submit(Texts(1, [[0] * 2]))
    assert [embedded.pace for embedded in embedder.step()] == [1]
    embedder.submit(Texts(2, [[0] * 8]))
    assert [embedded.pace for embedded in embedder.step()] == [3]


def test_vectors_are_normalised_and_survive_their_journey() -> None:
    """Of length 1, but for one that is zero."""
    embedder = Embedder(Lengths())
    embedder.submit(Texts(1, [[4, 4, 4]]))
    (embedded,) = embedder.step()
    assert unpacked(embedded.vector).tolist() == pytest.approx([0.6, 0.8])
    assert normalised(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
    assert unpacked(packed(np.array([1.5, -2], np.float32))).tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("texts", "index", "reason"),
    [
        ([[0], [1] * 9], 1, "has 9 tokens; the model reads 8 at most."),
        ([[]], 0, "is empty."),
        ([[5], [100]], 1, "has a token that the model does not know."),
        ([[-1]], 0, "has a token that the model does not know."),
    ],
)
def test_a_text_that_cannot_be_read_refuses_its_request_and_no_other(
    texts: list[list[int]], index: int, reason: str
) -> None:
    """Before anything of it is computed."""
    embedder = Embedder(Lengths())
    embedder.submit(Texts(1, [[0]]))
    assert embedder.submit(Texts(2, texts)) == Unread(2, f"Text {index} {reason}")
    assert [embedded.number for embedded in embedder.step()] == [1]
    assert embedder.idle


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights."""
    return write_bert(tmp_path_factory.mktemp("bert") / "bert.gguf", context=CONTEXT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(bert: Path) -> AsyncIterator[WorkerEngine]:
    """A worker on it, loaded as the server loads it."""
    engine = WorkerEngine(bert, name="bert", settings=EngineSettings(slots=8, threads=1))
    await engine.start((await engine.measure()).best(1 << 40, 1 << 40))
    yield engine
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_text_has_the_same_vector_in_any_company(engine: WorkerEngine) -> None:
    """Alone, in a batch, beside other requests: directions differ by rounding only."""
    assert engine.info.embedding == 32
    texts = ["the cat sat on the mat", "quantum physics", "hello", "x y z"]
    alone = [(await engine.embed([text])).vectors[0] for text in texts]
    together = (await engine.embed(texts)).vectors
    crowd = await asyncio.gather(*(engine.embed([*texts, "hello " * n]) for n in range(1, 9)))
    for one, other, many in zip(alone, together, crowd[3].vectors, strict=False):
        assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
        assert one @ other == pytest.approx(1, abs=1e-4)
        assert one @ many == pytest.approx(1, abs=1e-4)
    assert alone[0] @ alone[1] < 0.99


@pytest.mark.asyncio(loop_scope="module")
async def test_tokens_are_counted_with_those_around_a_text(engine: WorkerEngine) -> None:
    """The model's own start and end; ids that are given are taken as they are."""
    before = engine.stats.prompt_tokens
    words = await engine.embed(["hello world"])
    assert words.tokens == 4
    given = await engine.embed([[2, 5, 6, 3]])
    assert given.tokens == 4
    assert engine.stats.prompt_tokens == before + 8
    assert given.vectors[0] @ words.vectors[0] == pytest.approx(1, abs=1e-5)


async def test_a_text_may_have_more_tokens_than_bytes(tmp_path: Path) -> None:
    """A space is put before it, and tokens around it: `x` is four of them."""
    path = write_bert(tmp_path / "unigram.gguf", unigram=True)
    engine = WorkerEngine(path, name="unigram", settings=EngineSettings(slots=2, threads=1))
    await engine.start()
    found = await engine.embed(["x"])
    assert (found.tokens, engine.stats.restarts) == (4, 0)
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_text_is_read_up_to_the_models_context(engine: WorkerEngine) -> None:
    """And one token more is refused."""
    await engine.embed([[5] * CONTEXT])
    with pytest.raises(Unreadable, match=r"Text 1 has 65 tokens; the model reads 64 at most\."):
        await engine.embed(["hello", [5] * (CONTEXT + 1)])


@pytest.mark.asyncio(loop_scope="module")
async def test_a_text_that_nothing_can_read_harms_nobody_else(engine: WorkerEngine) -> None:
    """Whoever asked is told, and the worker lives on: here it was sent no text at all."""
    worker = engine.pid
    others = asyncio.gather(*(engine.embed(["hello"] * 50) for _ in range(2)))
    with pytest.raises(Unreadable, match=r"^The model cannot read the text\.$"):
        await engine.embed(["hello", 5])  # type: ignore[list-item]
    assert [len(each.vectors) for each in await others] == [50, 50]
    assert engine.pid == worker


@pytest.mark.asyncio(loop_scope="module")
async def test_what_a_dead_worker_was_asked_is_asked_of_the_next(engine: WorkerEngine) -> None:
    """Whoever waits gets the answer, a little later."""
    expected = (await engine.embed(["hello"])).vectors[0]
    assert engine.pid is not None
    asked = asyncio.create_task(engine.embed(["hello"] * 500))
    await asyncio.sleep(0)
    os.kill(engine.pid, signal.SIGKILL)
    found = await asked
    assert len(found.vectors) == 500
    assert found.vectors[-1] @ expected == pytest.approx(1, abs=1e-5)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_may_have_so_many_tokens_together(engine: WorkerEngine) -> None:
    """With those around each text; of what has more nothing is read, and others go on."""
    texts = ["hello", "hello world", [5] * 10]
    assert (await engine.embed(texts, most=17)).tokens == 17
    before = engine.stats.prompt_tokens
    with pytest.raises(Unreadable, match=r"^The texts have more than 16 tokens together\.$"):
        await engine.embed(texts, most=16)
    assert (await engine.embed(["hello"])).tokens == 3
    assert engine.stats.prompt_tokens == before + 3


async def test_what_has_too_many_tokens_is_not_owed(bert: Path) -> None:
    """Its refusal is the answer."""
    settings = EngineSettings(threads=1, hang_timeout=HANG_TIMEOUT)
    engine = WorkerEngine(bert, name="bert", settings=settings)
    await engine.start()
    with pytest.raises(Unreadable):
        await engine.embed(READ, most=100_000)
    await passed(2 * HANG_TIMEOUT)
    assert engine.stats.restarts == 0
    await engine.stop()


READ = [[5] * CONTEXT] * 2048
UNREAD = ["hello " * CONTEXT] * 2048


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("texts", "begun"), [(READ, False), (UNREAD, False), (READ, True)])
async def test_texts_that_nobody_waits_for_are_dropped(
    engine: WorkerEngine, texts: list[str | list[int]], *, begun: bool
) -> None:
    """Before anything of them was read, and in their middle: the next texts are alone."""
    await give_up(engine, texts, begun=begun)
    await engine.embed(["hello"])  # what was sent before this was heard
    before = engine.stats.prompt_tokens
    assert (await engine.embed(["hello"])).tokens == 3
    assert engine.stats.prompt_tokens == before + 3


@pytest.mark.asyncio(loop_scope="module")
async def test_who_gives_up_is_charged_for_what_was_read(engine: WorkerEngine) -> None:
    """Text by text, so that to leave early makes nothing free."""
    charged: list[int] = []
    await engine.embed(["hello", "hello world"], charge=charged.append)
    assert charged == [3, 4]
    charged.clear()
    await give_up(engine, READ, begun=True, charge=charged.append)
    assert charged
    assert set(charged) == {CONTEXT}


async def give_up(
    engine: WorkerEngine,
    texts: Sequence[str | list[int]],
    *,
    begun: bool = False,
    charge: Callable[[int], None] | None = None,
) -> None:
    """Ask for vectors and leave, at once or when the first were made."""
    before = engine.stats.prompt_tokens
    asked = asyncio.create_task(engine.embed(texts, charge=charge))
    await asyncio.sleep(0)

    async def tokens() -> int:
        return engine.stats.prompt_tokens - before

    if begun:
        await eventually(tokens, bool)
    asked.cancel()
    await asyncio.wait((asked,))


class Silent:
    """A worker that has said nothing for a while."""

    def __init__(self, silence: float) -> None:
        self.silence = silence


async def test_a_slow_machine_may_read_its_longest_text(bert: Path) -> None:
    """How long a worker may be silent follows from how fast it was."""
    settings = EngineSettings(threads=1, batch=32, hang_timeout=HANG_TIMEOUT)
    engine = WorkerEngine(bert, name="bert", settings=settings)
    await engine.start()
    assert engine._hangs(Silent(2 * HANG_TIMEOUT))  # type: ignore[arg-type]
    engine._receive(Embedded(0, 0, "", 40, last=True, pace=1.0))
    assert not engine._hangs(Silent(2 * CONTEXT))  # type: ignore[arg-type]
    assert engine._hangs(Silent(20 * CONTEXT))  # type: ignore[arg-type]
    await engine.stop()


async def test_a_slow_machine_is_waited_for_as_long_as_it_reads(bert: Path) -> None:
    """Whoever waits behind others' texts does not give up while vectors come, nor within a text."""
    engine = WorkerEngine(bert, name="bert", settings=EngineSettings(threads=1))
    engine.patience = 0.5
    await engine.start()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(engine.embed(["hello"]))
    for _ in range(10):
        await passed(engine.patience / 5)
        engine._receive(Embedded(0, 0, "", 40, last=False, pace=0.0))
    engine._receive(Embedded(0, 0, "", 40, last=False, pace=1.0))
    await passed(2 * engine.patience)
    assert not waiting.done()
    os.kill(engine.pid, signal.SIGCONT)
    assert len((await waiting).vectors) == 1
    await engine.stop()


async def test_a_worker_that_answers_nobody_is_given_up(bert: Path) -> None:
    """What is asked of it fails, long before it is taken for a hung one and replaced."""
    engine = WorkerEngine(bert, name="bert", settings=EngineSettings(threads=1))
    engine.patience = 0.2
    await engine.start()
    engine._receive(Embedded(0, 0, "", 40, last=True, pace=0.0))
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await engine.embed(["hello"])
    os.kill(engine.pid, signal.SIGCONT)
    await engine.stop()


async def passed(seconds: float) -> None:
    """So much time has gone by."""
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, over.set_result, None)
    await over


async def test_an_embedding_worker_that_froze_is_replaced(bert: Path) -> None:
    """Whoever waits is answered by the next."""
    settings = EngineSettings(threads=1, hang_timeout=HANG_TIMEOUT)
    engine = WorkerEngine(bert, name="bert", settings=settings)
    await engine.start()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    assert len((await engine.embed(["hello"])).vectors) == 1
    assert engine.stats.restarts == 1
    await engine.stop()


async def test_a_worker_that_dropped_texts_owes_nothing(bert: Path) -> None:
    """It has nothing to say, and is not taken for a hung one."""
    settings = EngineSettings(threads=1, hang_timeout=HANG_TIMEOUT)
    engine = WorkerEngine(bert, name="bert", settings=settings)
    await engine.start()
    for texts in (READ, UNREAD):
        await give_up(engine, texts)
    await engine.embed(["hello"])
    await passed(2 * HANG_TIMEOUT)
    assert engine.stats.restarts == 0
    await engine.stop()


async def test_texts_given_up_do_not_hide_that_a_worker_froze(bert: Path) -> None:
    """It still owes a word that it has dropped them."""
    settings = EngineSettings(threads=1, hang_timeout=HANG_TIMEOUT)
    engine = WorkerEngine(bert, name="bert", settings=settings)
    await engine.start()
    frozen = engine.pid
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    while engine.pid == frozen:
        await give_up(engine, ["hello"])
        await passed(HANG_TIMEOUT / 5)
    assert len((await engine.embed(["hello"])).vectors) == 1
    assert engine.stats.restarts == 1
    await engine.stop()


@pytest.mark.parametrize("pooling", [0, 2, 3])
async def test_every_way_of_pooling_gives_vectors(tmp_path: Path, pooling: int) -> None:
    """Where the file names none it is the mean."""
    path = write_bert(tmp_path / "bert.gguf", pooling=pooling)
    engine = WorkerEngine(path, name="bert", settings=EngineSettings(slots=2, threads=1))
    await engine.start()
    (vector,) = (await engine.embed(["hello world"])).vectors
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    await engine.stop()


async def test_an_engine_that_is_not_started_embeds_nothing(bert: Path) -> None:
    """It says so at once."""
    with pytest.raises(EngineUnavailable):
        await WorkerEngine(bert, name="bert").embed(["hello"])
