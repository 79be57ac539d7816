"""The manuals of made-up software, and the questions about them that the bundled model learns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TRAINING = Path(__file__).parents[2] / "models" / "training"
NUMBERS = range(200)


@pytest.fixture
def technical(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The generator of manuals."""
    monkeypatch.syspath_prepend(TRAINING)
    from corpus import technical

    return technical


@pytest.fixture
def conversations(technical: ModuleType) -> list[Any]:
    """Short and long ones, as training has them."""
    from corpus import build
    from corpus.dice import Dice

    kinds = [build.technical_short, build.technical_long]
    return [kind(Dice(f"test/{number}")) for kind in kinds for number in NUMBERS]


def libraries(technical: ModuleType, held_out: bool = False) -> Iterator[Any]:
    """Passages with what they answer: few sentences, or many."""
    from corpus.dice import Dice

    for number in NUMBERS:
        yield technical.library(Dice(f"test/{number}", held_out), wordy=number % 4 == 0)


def as_told(passage: str) -> str:
    """The passage without its breaks, each row of a table as its first cell and its last."""
    rows = re.sub(r"^\| (.+?) \|(?:.+ \|)? (.+) \|$", r"\1: \2", passage, flags=re.MULTILINE)
    return " ".join(rows.split())


def test_an_answer_stands_word_for_word_in_its_passage(technical: ModuleType) -> None:
    """A sentence, a line of a list, or the cells of a row; lines may be broken anywhere."""
    seen = 0
    for library in libraries(technical):
        for _, passage in library.passages:
            text = as_told(passage.text)
            for fact, answer in passage.facts:
                assert answer in text
                assert fact.value.casefold() in answer.casefold()
                seen += 1
    assert seen > 1000


def test_an_answer_stands_in_one_passage_alone(technical: ModuleType) -> None:
    """No other passage says the same, and no question is asked of two sentences."""
    for library in libraries(technical):
        texts = [as_told(p.text) for _, p in library.passages]
        for _, passage in library.passages:
            assert all(sum(answer in text for text in texts) == 1 for _, answer in passage.facts)
        questions = [fact.question.casefold() for fact in library.facts]
        assert len(questions) == len(set(questions))
        assert library.missing.question.casefold() not in questions


def test_what_is_said_of_the_same_in_the_same_way_is_told_apart(technical: ModuleType) -> None:
    """A question names something that no other sentence of its sort speaks of."""
    from corpus.dice import Dice

    for number in NUMBERS:
        told = technical.Manual(Dice(f"test/{number}"), 2, 3).all_told(8)
        for each in told:
            others = [other for other in told if other is not each and other.sort == each.sort]
            assert not any(each.asked <= other.keys for other in others)


def test_manuals_are_cited_from_the_passage_of_that_number(conversations: list[Any]) -> None:
    """Few questions have no answer; under instructions there may be words around a sentence."""
    good, missing, others = 0, 0, 0
    for conversation in conversations:
        shown: dict[str, str] = {}
        for message in conversation.messages:
            text = message["content"] or ""
            if message["role"] != "assistant":
                parts = re.findall(
                    r"^\[(\d+)\] \S+\n(.+?)(?=\n\n\[\d+\] |\Z)", text, re.MULTILINE | re.DOTALL
                )
                shown |= {number: as_told(passage) for number, passage in parts}
            elif found := re.fullmatch(r"(.+) \[(\d+)\]", text):
                inside = shown[found[2]].casefold()
                good += found[1].casefold() in inside
                others += found[1].casefold() not in inside
            else:
                missing += text == "I did not find that in the files."
    assert good > 600
    assert others < good / 8  # two sentences, or words around one
    assert good / 50 < missing < good / 10


def test_no_conversation_about_manuals_is_longer_than_the_context(
    conversations: list[Any],
) -> None:
    """A token of such text has two characters, or a little less."""
    assert max(len(conversation.text()) for conversation in conversations) < 1.9 * 4096


def test_held_out_ways_to_ask_and_to_say_it_are_not_trained_on(technical: ModuleType) -> None:
    """The last question of each matter, and words of a list of their own, are for evaluation."""
    slot = re.compile(r"\\\{[\w:]+\\\}")
    kept = [
        re.compile(slot.sub(".+", re.escape(matter.questions[-1])))
        for matter in technical.matters()
    ]
    asked = [fact.question for each in libraries(technical) for fact in each.facts]
    held_out = [fact.question for each in libraries(technical, True) for fact in each.facts]

    def as_kept(question: str) -> bool:
        return any(pattern.fullmatch(question) for pattern in kept)

    assert all(map(as_kept, held_out))
    assert not any(map(as_kept, asked))
    nouns = [*technical.listed("parts held out"), *technical.listed("things held out")]
    said = " ".join(p.text for each in libraries(technical) for _, p in each.passages)
    assert not set(nouns) & set(re.findall(r"\w+", said))


def test_sentences_to_repeat_are_repeated(technical: ModuleType, conversations: list[Any]) -> None:
    """Some conversations have a sentence of a manual that the user quotes."""
    repeated = 0
    for conversation in conversations:
        for message, answer in zip(conversation.messages, conversation.messages[1:], strict=False):
            said = answer["content"] or ""
            repeated += message["role"] == "user" and "`" in said and said in message["content"]
    assert repeated > 30


@pytest.mark.parametrize("name", ["documents", "manuals"])
def test_what_is_asked_by_hand_is_in_the_passage_that_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Evaluation expects of an answer what its passage says."""
    monkeypatch.syspath_prepend(TRAINING)
    import cases

    questions = cases.wild_questions(name)
    assert len(questions) > 20
    for passages, (_, part, number) in questions:
        named = re.findall(
            r"^\[(\d+)\] .+\n([\s\S]+?)(?=\n\n\[\d+\] |\Z)", passages, flags=re.MULTILINE
        )
        assert part in as_told(dict(named)[number])
