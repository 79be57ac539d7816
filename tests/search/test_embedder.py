"""Embedding by a model: on demand, in batches, whatever the texts are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from server.catalog import ModelProblem, build_embedder, embedding_model
from server.config import Settings
from server.engine.client import WorkerEngine
from server.engine.pool import ModelPool, Stay
from server.engine.protocol import Embeddings, Engine, EngineUnavailable
from server.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from server.engine.settings import EngineSettings
from server.engine.sizing import Demand, Fit
from server.search import minilm
from server.search.embedder import BATCH, LONGEST_TOKEN, ModelEmbedder, NgramEmbedder
from server.search.prefixes import Prefixes, prefixes_of
from tests.gguf_files import write_bert
from tests.support import settings_for

LETTERS = replace(SCRIPTED_MODEL, embedding=SCRIPTED_MODEL.vocabulary)


class Loadable:
    """An engine as the pool has it."""

    trouble = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def measure(self) -> Demand:
        return await self._engine.measure()

    async def load(self, fit: Fit | None) -> None:
        await self._engine.start(fit)

    async def unload(self) -> None:
        await self._engine.stop()


class Recorder(ScriptedEngine):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(info=LETTERS)
        self.asked: list[list[str | list[int]]] = []

    async def embed(
        self, texts: Sequence[str | list[int]], *, cut: bool = False, project: str = ""
    ) -> Embeddings:
        assert cut
        self.asked.append(list(texts))
        return await super().embed(texts, cut=cut)


def pool_of(**engines: Engine) -> ModelPool:
    """A pool with room for all."""
    loadable = {name: Loadable(engine) for name, engine in engines.items()}
    loop = asyncio.get_running_loop()
    pool = ModelPool(loadable, {name: Stay() for name in engines}, memory=None, now=loop.time)

    def forgive() -> None:  # as the executor does, when it has told all runs
        for name in pool.failures():
            pool.forgive(name)

    pool.listen(forgive)
    return pool


async def embedder_of(engine: Engine, name: str = "letters", **more: object) -> ModelEmbedder:
    """As the server makes it."""
    settings = settings_for(Path("data"), search__embedding_model=name, **more)
    embedder = await build_embedder({name: engine}, pool_of(**{name: engine}), settings)
    assert isinstance(embedder, ModelEmbedder)
    return embedder


async def test_the_model_is_loaded_by_the_first_text() -> None:
    """What is known of it before is from its file; blank texts need no model."""
    engine = Recorder()
    embedder = await embedder_of(engine)
    assert (embedder.dimensions, embedder.window) == (LETTERS.embedding, LETTERS.context)
    blank = await embedder.embed(["", " \n"], query=False)
    assert not np.any(blank)
    assert not engine.started
    first, none, last = await embedder.embed(["ab", " ", "b"], query=True)
    assert engine.started
    assert engine.asked == [["ab", "b"]]
    assert first[ord("a")] == pytest.approx(0.5**0.5)
    assert not none.any()
    assert last[ord("b")] == 1


async def test_many_texts_are_sent_in_batches() -> None:
    """Each gets its own vector."""
    engine = Recorder()
    embedder = await embedder_of(engine)
    texts = [chr(33 + number % 90) for number in range(2 * BATCH + 1)]
    vectors = await embedder.embed(texts, query=False)
    assert [len(batch) for batch in engine.asked] == [BATCH, BATCH, 1]
    assert [chr(int(np.argmax(vector))) for vector in vectors] == texts


async def test_no_more_of_a_text_is_sent_than_can_be_read() -> None:
    """A window of tokens has a bounded number of characters."""
    engine = Recorder()
    embedder = await embedder_of(engine)
    await embedder.embed(["x" * 10**6], query=False)
    assert len(engine.asked[0][0]) == LONGEST_TOKEN * embedder.window


async def test_queries_and_passages_are_told_apart() -> None:
    """As the model's authors say, or as the settings do; its vectors are others then."""
    engine = Recorder()
    embedder = await embedder_of(engine, "e5-small")
    await embedder.embed(["what"], query=True)
    await embedder.embed(["that"], query=False)
    assert engine.asked == [["query: what"], ["passage: that"]]
    own = await embedder_of(engine, "e5-small", **{"model__e5-small__query_prefix": "Q "})
    await own.embed(["what"], query=True)
    assert engine.asked[-1] == ["Q what"]
    assert own.fingerprint != embedder.fingerprint
    again = await embedder_of(engine, "e5-small")
    assert again.fingerprint == embedder.fingerprint


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("all-MiniLM-L6-v2", Prefixes()),
        ("bge-m3-q8_0", Prefixes()),
        ("multilingual-e5-base.Q8_0", Prefixes("query: ", "passage: ")),
        ("nomic-embed-text-v1.5", Prefixes("search_query: ", "search_document: ")),
        (
            "bge-small-en-v1.5",
            Prefixes("Represent this sentence for searching relevant passages: "),
        ),
        ("snowflake-arctic-embed-m-v2.0", Prefixes("query: ")),
    ],
)
def test_what_models_want_before_a_text_is_known(name: str, prefixes: Prefixes) -> None:
    """By their names."""
    assert prefixes_of(name) == prefixes


async def test_a_model_that_cannot_be_loaded_is_tried_again() -> None:
    """Whoever asked hears why."""
    engine = Recorder()
    embedder = await embedder_of(engine)
    engine.unusable = "letters.gguf is gone."
    with pytest.raises(EngineUnavailable, match="gone"):
        await embedder.embed(["a"], query=False)
    engine.unusable = None
    await embedder.embed(["a"], query=False)


def chosen(settings: Settings, *models: str) -> str | None:
    """The embedding model among these."""
    return embedding_model(models, settings)


def test_which_model_serves(tmp_path: Path) -> None:
    """The one that is named; without a name the one that is made, if it is there."""
    auto = settings_for(tmp_path)
    assert chosen(auto, "tiny-assistant", "other") is None
    assert chosen(auto, "tiny-assistant", minilm.NAME) == minilm.NAME
    assert chosen(settings_for(tmp_path, search__embedding_model="ngrams"), minilm.NAME) is None
    named = settings_for(tmp_path, search__embedding_model="other")
    assert chosen(named, "other", minilm.NAME) == "other"
    with pytest.raises(ModelProblem, match="no file of a model 'other'"):
        chosen(named, minilm.NAME)


async def test_without_a_model_words_are_compared(tmp_path: Path) -> None:
    """And a model that only writes is refused."""
    engines = {"writer": ScriptedEngine()}
    pool = pool_of(**engines)
    assert isinstance(await build_embedder(engines, pool, settings_for(tmp_path)), NgramEmbedder)
    settings = settings_for(tmp_path, search__embedding_model="writer")
    with pytest.raises(ModelProblem, match="'writer' writes text; it makes no embeddings"):
        await build_embedder(engines, pool, settings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bert(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelEmbedder]:
    """By a tiny BERT of 64 tokens in a worker."""
    path = write_bert(tmp_path_factory.mktemp("bert") / "bert.gguf", context=64)
    # The settings ask for more than it has positions for.
    engine = WorkerEngine(path, name="bert", settings=EngineSettings(context=2048, threads=1))
    embedder = await embedder_of(engine, "bert")
    assert (embedder.dimensions, embedder.window) == (32, 64)
    yield embedder
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("length", [61, 62, 63, 64, 65, 128, 600, 5000])
async def test_a_long_text_is_read_as_far_as_the_model_goes(
    bert: ModelEmbedder, length: int
) -> None:
    """With the tokens around it, and never beyond: llama.cpp would end the process."""
    most = bert.window - 2
    words = ["cat" if number % 3 else "dog" for number in range(length)]
    whole, cut = await bert.embed([" ".join(words), " ".join(words[:most])], query=False)
    assert whole @ cut == pytest.approx(1, abs=1e-5)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "text", ["x" * 300_000, "\ud800 hello", "\x00", "日本 😀 ☃", "[CLS] [SEP]"]
)
async def test_any_text_has_a_vector(bert: ModelEmbedder, text: str) -> None:
    """Of length 1."""
    (vector,) = await bert.embed([text], query=False)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


async def test_vectors_are_known_by_the_files_they_are_from(tmp_path: Path) -> None:
    """The same file under another name is the same; another file is not."""
    (tmp_path / "other").mkdir()
    first = write_bert(tmp_path / "bert.gguf")
    same = write_bert(tmp_path / "other" / "b.gguf")
    other = write_bert(tmp_path / "c.gguf", layers=1)
    found = [await WorkerEngine(path, name="x").identify() for path in (first, same, other)]
    assert found[0] == found[1] != found[2]
    with pytest.raises(EngineUnavailable, match=r"none\.gguf cannot be read: No such file"):
        await WorkerEngine(tmp_path / "none.gguf", name="x").identify()
