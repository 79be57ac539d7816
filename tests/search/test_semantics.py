"""What the embedding model makes of meaning. Skipped where `make embeddings` was not run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from server.bundled import bundled_path
from server.catalog import build_catalog, build_embedder, build_pool, embedding_model, open_engines
from server.engine.client import WorkerEngine
from server.engine.vectors import Vector
from server.search import minilm
from server.search.embedder import Embedder, NgramEmbedder
from tests.support import settings_for
from tests.untested import not_tested

FOLDER = bundled_path("models")
PATH = minilm.path_in(FOLDER)
pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSAGES = [
    "Customers may send goods back within 30 days and are given their money back.",
    "The engine needs an oil change every 15,000 kilometres.",
    "Employees accrue two days of paid leave for each month of service.",
    "The cat slept on the mat all afternoon.",
    "Quarterly revenue rose by eight percent on strong cloud sales.",
    "Store the vaccine between two and eight degrees Celsius.",
]
QUESTIONS = [
    "How do I return a product and get a refund?",
    "How often must the motor be serviced?",
    "How much vacation do I get?",
    "What was the pet doing?",
    "Did the company earn more than before?",
    "At which temperature is the medicine kept?",
]


@pytest.fixture(scope="module", autouse=True)
def needed() -> None:
    """Nothing here is tested without the model."""
    if not PATH.is_file():
        not_tested("the embedding model", f"there is no {PATH.name}: make embeddings")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embedder]:
    """As the server builds it, without being told to: the file is there."""
    settings = settings_for(tmp_path_factory.mktemp("data"), models__directory=str(FOLDER))
    engines = open_engines(settings)
    assert embedding_model(engines, settings) == minilm.NAME
    catalog = build_catalog(engines, {}, settings, created=0)
    pool = build_pool(catalog, settings, time.monotonic)
    yield await build_embedder(engines, pool, settings)
    await pool.close()


async def vector(embedder: Embedder, text: str) -> Vector:
    """Of one passage."""
    return (await embedder.embed([text], query=False))[0]


async def test_the_file_is_the_pinned_one() -> None:
    """Converted here or anywhere, it is the same."""
    assert hashlib.sha256(PATH.read_bytes()).hexdigest() == minilm.MINILM.made


async def test_its_size_is_known_before_it_is_loaded(embedder: Embedder) -> None:
    """Vectors of 384 numbers, of up to 512 tokens."""
    assert (embedder.dimensions, embedder.window) == (384, 512)


@pytest.mark.parametrize(
    ("one", "other", "cosine"),
    [
        ("return a product", "refund", 0.469),
        ("return a product", "cat on the mat", 0.042),
        ("The cat sat on the mat.", "A kitten was sitting on the rug.", 0.650),
        ("How old is the universe?", "the age of the cosmos", 0.709),
        ("Python is a programming language", "Python is a large snake", 0.593),
        ("CAFÉ CRÈME", "cafe creme", 1.000),
    ],
)
async def test_texts_are_as_near_as_the_published_model_says(
    embedder: Embedder, one: str, other: str, cosine: float
) -> None:
    """Whose cosines these are, computed from its own files with 64 bits, as in `berts.py`."""
    first, second = await embedder.embed([one, other], query=False)
    assert first @ second == pytest.approx(cosine, abs=0.01)


async def test_questions_find_what_answers_them_in_other_words(embedder: Embedder) -> None:
    """All of them, though they share hardly a word with it; without the model few are found."""
    found = {}
    for by in (embedder, NgramEmbedder()):
        questions = np.array(await by.embed(QUESTIONS, query=True))
        passages = np.array(await by.embed(PASSAGES, query=False))
        found[by] = np.argmax(questions @ passages.T, axis=1).tolist()
    assert found.pop(embedder) == list(range(len(PASSAGES)))
    (by_words,) = found.values()
    assert by_words != list(range(len(PASSAGES)))


async def test_texts_of_a_batch_have_the_vectors_that_they_have_alone(embedder: Embedder) -> None:
    """Whatever their lengths."""
    texts = [*PASSAGES, "word " * 400, "x", ""]
    together = await embedder.embed(texts, query=False)
    for text, found in zip(texts, together, strict=True):
        alone = await vector(embedder, text)
        assert alone @ found == pytest.approx(1.0 if text else 0.0, abs=1e-3)


async def test_of_a_long_text_the_beginning_is_read(embedder: Embedder) -> None:
    """510 word pieces; what stands behind them changes nothing, and ends no process."""
    beginning = "the cat slept " * 170
    short, long, longer = await embedder.embed(
        [beginning, beginning + PASSAGES[4], beginning + "revenue " * 100_000], query=False
    )
    assert short @ long == pytest.approx(1, abs=1e-4)
    assert short @ longer == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "text",
    ["日本語のテキスト", "emoji 😀 ☃", "\ud800", "\x00\x01", "a" * 200_000, "🏳️‍🌈" * 999],
)
async def test_any_text_has_a_vector(embedder: Embedder, text: str) -> None:
    """Of length 1."""
    assert np.linalg.norm(await vector(embedder, text)) == pytest.approx(1, abs=1e-5)


async def test_pieces_of_words_are_those_of_the_published_tokenizer() -> None:
    """A sample, with accents, punctuation and characters that are words of their own."""
    engine = WorkerEngine(PATH, name=minilm.NAME)
    await engine.start()
    spelled = {
        "unbelievable tokenization": [101, 23653, 19204, 3989, 102],
        "Héllo, wörld!": [101, 7592, 1010, 2088, 999, 102],
    }
    for text, ids in spelled.items():
        by_text, by_ids = (await engine.embed([text, ids])).vectors
        assert by_text @ by_ids == pytest.approx(1, abs=1e-5)
    await engine.stop()
