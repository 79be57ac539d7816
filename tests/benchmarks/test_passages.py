"""The questions of the retrieval benchmark."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.passages import Corpus, documents, products


@pytest.mark.parametrize("make", [documents, products])
def test_every_answer_stands_where_it_is_said_to(make: Callable[[int, int], Corpus]) -> None:
    """Once in its file; the same seed asks the same, another one something else."""
    corpus = make(1, 100)
    assert len(corpus.questions) == 100
    for question in corpus.questions:
        answer = corpus.files[question.file][question.start : question.end]
        assert len(answer.split()) >= 3
        assert corpus.files[question.file].count(answer) == 1
        assert question.text not in corpus.files[question.file]
    assert make(1, 100) == corpus
    assert make(2, 100).questions != corpus.questions


def test_questions_about_products_use_other_words_than_the_answers() -> None:
    """All but the name: who has only words to go by must find it hard."""
    corpus = products(1, 300)
    shared = [
        {word for word in question.text.lower().split() if len(word) > 4}
        & set(corpus.files[question.file][question.start : question.end].lower().split())
        for question in corpus.questions
    ]
    assert sum(map(bool, shared)) < 0.1 * len(shared)
