"""Vectors without a model: what is near what, on every machine alike."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.search import ngrams
from server.search.embedder import NgramEmbedder
from tests.timing import little_work

DIGEST = "db58ec3fc31221de"
TEXTS = [
    "The warranty covers the battery for two years.",
    "Returns are free within thirty days; write to the shop first.",
    "Die Donaudampfschifffahrtsgesellschaft fährt im Winter nicht.",
    "お問い合わせは東京本社まで",
    "def parse_header(line): return line.split(':', 1)",
]


def near(query: str, texts: list[str]) -> int:
    """Which of the texts is the nearest."""
    rows = ngrams.embed([query, *texts])
    return int(np.argmax(rows[1:] @ rows[0]))


@pytest.mark.parametrize(
    ("query", "nearest"),
    [
        ("How long is the battery covered?", 0),
        ("is there a waranty for bateries", 0),
        ("how do I return something for free", 1),
        ("Dampfschifffahrt im Winter", 2),
        ("DONAUDAMPFSCHIFF", 2),
        ("東京の本社", 3),
        ("parse header", 4),
    ],
)
def test_texts_with_common_words_or_pieces_are_near(query: str, nearest: int) -> None:
    """Other forms of a word, typing errors, parts of compounds, languages without spaces."""
    assert near(query, TEXTS) == nearest


def test_the_words_that_every_text_has_decide_nothing() -> None:
    """A rare word weighs more than several common ones."""
    assert near("what is the price of it and is it for you", [TEXTS[0], "Its price: 9"]) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café crème", "CAFE CREME"),
        ("cafe\u0301", "caf\u00e9"),
        ("ﬁle Ｆｕｌｌ", "file full"),
        ("a-b\n\n c!", "a b c"),
        ("naïve\x00 text", "naive text"),
        ("straße", "STRASSE"),
    ],
)
def test_what_is_written_in_two_ways_is_the_same(one: str, other: str) -> None:
    """Case, accents, width, punctuation and spaces tell nothing."""
    first, second = ngrams.embed([one, other])
    assert first @ second == pytest.approx(1, abs=1e-6)


def test_order_tells_characters_and_not_words() -> None:
    """Words are a bag; a word is not."""
    rows = ngrams.embed(["alpha beta", "beta alpha", "dog", "god", "日本", "本日"])
    assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-6)
    assert rows[2] @ rows[3] < 0.3
    assert rows[4] @ rows[5] < 0.9


def test_a_text_without_words_is_far_from_everything() -> None:
    """Its vector is zero; no texts at all are fine, too."""
    rows = ngrams.embed(["", " \n", "-- !?", "\u0301", "words"])
    assert not rows[:4].any()
    assert ngrams.embed([]).shape == (0, ngrams.DIMENSIONS)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec=None), max_size=40), max_size=6))
def test_a_text_has_its_vector_in_any_company(texts: list[str]) -> None:
    """Of length 1 or zero, whatever characters there are, halves of surrogates too."""
    together = ngrams.embed(texts)
    lengths = np.linalg.norm(together, axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))
    for text, row in zip(texts, together, strict=True):
        assert np.allclose(ngrams.embed([text])[0], row, atol=1e-6)


def test_vectors_are_the_same_on_every_machine() -> None:
    """And in every process: what is on a disk can be compared with what is computed."""
    code = (
        "from server.search import ngrams; from tests.search.test_ngrams import TEXTS, digest; "
        "print(digest())"
    )
    told = subprocess.check_output(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."}, text=True
    )
    assert told.strip() == digest() == DIGEST


def digest() -> str:
    """Of the vectors to five digits."""
    rounded = np.round(ngrams.embed(TEXTS) * 1e5).astype("<i4")
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:16]


async def test_the_embedder_computes_beside_the_loop() -> None:
    """Queries and texts alike."""
    embedder = NgramEmbedder()
    query, text = [await embedder.embed(["battery"], query=query) for query in (True, False)]
    assert query[0].tolist() == text[0].tolist()
    assert query[0].shape == (embedder.dimensions,)
    assert query[0].dtype == np.float32


def test_a_megabyte_takes_no_two_seconds() -> None:
    """In windows as an index cuts them; a generous bound, for busy machines."""
    dice = np.random.default_rng(1)
    words = [f"w{number:x}" * int(dice.integers(1, 4)) for number in dice.integers(0, 9999, 9999)]
    windows = [" ".join(dice.choice(words, 120)) for _ in range(1000)]
    ngrams.embed(windows[:10])
    with little_work(2.0 * sum(map(len, windows)) / 1e6, time.process_time):
        ngrams.embed(windows)
