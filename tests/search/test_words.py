"""Texts and queries as the index of words takes them."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.search.words import MOST_WORDS, TOKENIZER, folded, terms


@pytest.fixture
def words() -> Iterator[sqlite3.Connection]:
    """An empty index of words."""
    with contextlib.closing(index_of_words()) as db:
        yield db


def index_of_words() -> sqlite3.Connection:
    """With SQLite's tokenizer."""
    db = sqlite3.connect(":memory:")
    db.execute(f'CREATE VIRTUAL TABLE word USING fts5(words, tokenize="{TOKENIZER}")')
    return db


def matches(db: sqlite3.Connection, text: str, query: str) -> int:
    """How many of the query's words are in a text that is put."""
    db.execute("DELETE FROM word")
    db.execute("INSERT INTO word VALUES (?)", (folded(text),))
    found = "SELECT count(*) FROM word WHERE word MATCH ?"
    return sum(db.execute(found, (term,)).fetchone()[0] for term in terms(query))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The Cat sat.", "cat"),
        ("Crème brûlée", "creme"),
        ("creme", "CRÈME"),
        ("cafe\u0301", "café"),
        ("Straße", "STRASSE"),
        ("the ef\ufb01cient way", "efficient"),
        ("\uff21\uff22\uff23", "abc"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("error E-1042: disk_full", "1042"),
        ("disk_full", "full"),
        ("東京都に住んでいます", "東京"),
        ("東京都に住んでいます", "都"),
        ("東京都に住んでいます", "す"),
        ("我们在北京大学学习", "大学"),
        ("ภาษาไทยไม่มีช่องว่าง", "ไทย"),
        ("서울에서 만나요", "서울"),
        ("ﾃｽﾄ", "テスト"),
        ("x東京y", "東京"),
    ],
)
def test_a_word_is_found_however_it_is_written(
    words: sqlite3.Connection, text: str, query: str
) -> None:
    """Whatever its case, accents and width, also within what is written without spaces."""
    assert matches(words, text, query) == len(terms(query)) > 0


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("東京都", "京東"),
        ("concatenate", "cat"),
        ("हिन्दी", "हन"),
        ("北京大学", "北大"),
        ("a b", "c"),
    ],
)
def test_another_word_is_not_found(words: sqlite3.Connection, text: str, query: str) -> None:
    """Neither a part of a word, nor characters in another order."""
    assert matches(words, text, query) == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"a" OR b*', ['"a"', '"or"', '"b"']),
        (
            "NEAR(a b, 5) AND words: -c ^d",
            ['"near"', '"a"', '"b"', '"5"', '"and"', '"words"', '"c"', '"d"'],
        ),
        ("a A a", ['"a"']),
        ("", []),
        ("?! … \x00 \ud800 🙂", []),
        ("字", ['"字"*']),
        ("漢字", ['"漢字"']),
        ("漢字の", ['"漢字"', '"字の"']),
    ],
)
def test_a_query_is_only_its_words(query: str, expected: list[str]) -> None:
    """What FTS5 would take for an operator is a word or nothing."""
    assert terms(query) == expected


def test_a_query_has_a_bounded_number_of_words() -> None:
    """The first ones."""
    assert terms(" ".join(map(str, range(1000)))) == [f'"{n}"' for n in range(MOST_WORDS)]


@given(st.text(), st.text())
def test_any_text_can_be_searched_for_anything(text: str, query: str) -> None:
    """No query is an error, and none has more words in a text than it has at all."""
    storable = text.encode(errors="ignore").decode().replace("\x00", "")
    with contextlib.closing(index_of_words()) as db:
        assert 0 <= matches(db, storable, query) <= len(terms(query))


SCRIPTS = "aBz09_ .-\"'*\néÉßﬁ\u0301ΑΣςаЯёहिन्दी漢字東京カタナかなｶﾞ서울ไทยนี้ខ្មែរ🙂"


@given(st.text(SCRIPTS, max_size=40))
def test_a_text_has_all_of_its_words(text: str) -> None:
    """In whatever scripts they are, beside each other or apart."""
    with contextlib.closing(index_of_words()) as db:
        letters = [term for term in terms(text) if re.search(r"\w", term)]
        assert len(letters) <= matches(db, text, text) <= len(terms(text))
