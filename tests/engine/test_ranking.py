"""Pairs to scores: how a pair is told, and what a real model makes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from server.engine.client import WorkerEngine
from server.engine.gguf import read_gguf
from server.engine.pairs import PairForm, Pairs
from server.engine.settings import EngineSettings
from server.engine.sizing import demand
from server.engine.vocabulary import Vocabulary
from tests.engine.test_vocabulary import BOS, CALL, START, CharacterTokenizer, letters
from tests.gguf_files import RANK, WORDS, write_bert, write_llama

CLS, SEP, FIRST_WORD = 2, 3, 5
WIDTH, CONTEXT = 32, 64
SETTINGS = EngineSettings(slots=4, threads=1)
SEPARATED = PairForm(None, between=(1, 2), end=(3,))


def pairs(form: PairForm, context: int = 100, *, adds_bos: bool = True) -> Pairs:
    """By a vocabulary of characters."""
    return Pairs(Vocabulary(CharacterTokenizer(adds_bos=adds_bos)), form, context)


def test_a_pair_is_told_with_what_stands_between_and_at_its_end() -> None:
    """After the vocabulary's start token."""
    ids = pairs(SEPARATED).tokenize("who", "me")
    assert ids == [BOS.id, *letters("who"), 1, 2, *letters("me"), 3]


def test_a_pair_is_told_in_a_template() -> None:
    """Which may name the two in any order; its markers are tokens."""
    form = PairForm("<|start|>{document}?{query}<call>")
    ids = pairs(form, adds_bos=False).tokenize("{document}", "me")
    assert ids == [START.id, *letters("me?{document}"), CALL.id]


def test_markers_in_a_query_or_a_text_are_text() -> None:
    """Nobody ends a text, or begins another one, by what is written in it."""
    for form in (SEPARATED, PairForm("{query}{document}")):
        ids = pairs(form).tokenize("<|start|><s>", "<call><|end|>")
        assert [token for token in ids if token > 800] == [BOS.id]


@pytest.mark.parametrize("context", [16, 17, 40])
def test_of_what_is_too_long_the_beginning_is_told(context: int) -> None:
    """Of the query no more than half, so that there is room for some of the text."""
    ids = pairs(SEPARATED, context).tokenize("q" * 99, "t" * 99)
    assert context - 3 < len(ids) <= context
    assert ids.count(ord("q")) == context // 2
    assert ids.count(ord("t")) > 0
    assert ids[-1] == 3


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights, which ranks."""
    folder = tmp_path_factory.mktemp("ranker")
    return write_bert(folder / "ranker.gguf", context=CONTEXT, pooling=RANK)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(path: Path) -> AsyncIterator[WorkerEngine]:
    """A worker on it, loaded as the server loads it."""
    engine = WorkerEngine(path, name="ranker", settings=SETTINGS)
    await engine.start((await engine.measure()).best(1 << 40, 1 << 40))
    yield engine
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_score_is_what_the_head_makes_of_a_pair(
    engine: WorkerEngine, path: Path, tmp_path: Path
) -> None:
    """Computed here from the first token's vector, which the same weights give without a head."""
    bare = write_bert(tmp_path / "bare.gguf", context=CONTEXT, pooling=2)
    reader = WorkerEngine(bare, name="bare", settings=SETTINGS)
    await reader.start()
    texts = ["cat sat", "quantum physics", "red"]
    query = [WORDS.index(word) + FIRST_WORD for word in ("hello", "world")]
    told = [[WORDS.index(word) + FIRST_WORD for word in text.split()] for text in texts]
    found = await reader.embed([[CLS, *query, SEP, *ids, SEP] for ids in told])
    await reader.stop()
    head = tensors_of(path)
    # Behind the last layer's norm, a vector has this length.
    vectors = np.stack(found.vectors) * WIDTH**0.5
    hidden = np.tanh(vectors @ head["cls.weight"].T + head["cls.bias"])
    logits = hidden @ head["cls.output.weight"].T + head["cls.output.bias"]
    expected = 1 / (1 + np.exp(-logits[:, 0]))
    scores = await engine.rank("hello world", texts)
    assert scores == pytest.approx(expected, abs=1e-3)
    assert len({round(score, 3) for score in scores}) == 3


def tensors_of(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The head, made again as it was written."""
    written: dict[str, np.ndarray[Any, Any]] = {}

    def keep(_: Path, __: dict[str, Any], tensors: dict[str, np.ndarray[Any, Any]]) -> None:
        written.update(tensors)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.gguf_files.write_gguf", keep)
        write_bert(path, context=CONTEXT, pooling=RANK)
    return written


@pytest.mark.asyncio(loop_scope="module")
async def test_any_texts_have_scores(engine: WorkerEngine) -> None:
    """The same in any company, however long they are, whatever is in them."""
    texts = ["cat", "", "dog " * 500, "x" * 5000, "[SEP] [CLS]", "日本 \ud800 \0"]
    together = await engine.rank("hello " * 90, texts)
    assert all(0 < score < 1 for score in together)
    alone = [(await engine.rank("hello " * 90, [text]))[0] for text in texts]
    assert together == pytest.approx(alone, abs=5e-3)


async def test_a_worker_that_froze_is_replaced(tmp_path: Path) -> None:
    """Whoever waits for scores has them from the next."""
    path = write_bert(tmp_path / "ranker.gguf", pooling=RANK, context=CONTEXT)
    settings = replace(SETTINGS, hang_timeout=1.0)
    engine = WorkerEngine(path, name="ranker", settings=settings)
    await engine.start()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGSTOP)
    assert len(await engine.rank("who", ["me"])) == 1
    assert engine.stats.restarts == 1
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_models_own_template_is_used(tmp_path: Path) -> None:
    """The one that is called `rerank`."""
    more = {"tokenizer.chat_template.rerank": "{query}{document}"}
    path = write_bert(tmp_path / "own.gguf", context=CONTEXT, pooling=RANK, **more)
    engine = WorkerEngine(path, name="own", settings=SETTINGS)
    await engine.start()
    first, second = await engine.rank("hello ", ["cat"]), await engine.rank("", ["hello cat"])
    assert first == pytest.approx(second, abs=1e-5)
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_shares_are_scores_as_they_are(tmp_path: Path) -> None:
    """Those of yes and no, in which Qwen3 tells what it thinks: here it knows nothing."""
    letters = [chr(33 + number) for number in range(94)]
    path = write_llama(
        tmp_path / "qwen3.gguf",
        architecture="qwen3",
        **{
            "qwen3.pooling_type": RANK,
            "qwen3.classifier.output_labels": ["yes", "no"],
            "tokenizer.ggml.tokens": [*letters, *(f"word{number}" for number in range(418))],
            "tokenizer.chat_template.rerank": "{query}?{document}",
        },
    )
    engine = WorkerEngine(path, name="qwen3", settings=SETTINGS)
    await engine.start()
    assert await engine.rank("who", ["me", "you"]) == [0.5, 0.5]
    await engine.stop()


def test_models_that_rank_are_told_from_others(tmp_path: Path, path: Path) -> None:
    """By how they pool, whether they read causally or not; none of them writes."""
    ranker = demand(read_gguf(path), SETTINGS)
    assert (ranker.ranks, ranker.embeds, ranker.dimensions) == (True, True, 1)
    causal = write_llama(tmp_path / "llama.gguf", **{"llama.pooling_type": RANK})
    assert demand(read_gguf(causal), SETTINGS).ranks
    assert not demand(read_gguf(write_bert(tmp_path / "bert.gguf")), SETTINGS).ranks
