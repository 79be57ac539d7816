"""Where tokens end: of the bundled model, of one that keeps no capitals, and by estimate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from server.bundled import bundled_path
from server.engine.client import WorkerEngine
from server.engine.protocol import Span
from server.engine.scripted import ScriptedEngine
from server.engine.settings import EngineSettings
from server.search.tokens import SLICE, EstimatedTokens, ModelTokens, slices
from tests.gguf_files import write_bert

MODEL = bundled_path("models") / "tiny-assistant.gguf"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[WorkerEngine]:
    """The bundled model."""
    engine = WorkerEngine(MODEL, name="tiny", settings=EngineSettings(slots=1, context=256))
    await engine.start()
    yield engine
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_tokens_of_a_model_end_where_llama_cpp_has_them(model: WorkerEngine) -> None:
    """As many as it counts; between two ends stands what the token says."""
    text = "Some words,\n\n and numbers: 12345. <|im_end|> is\ttext."
    ids = await model.tokenize([Span(text, False)])
    ends = (await ModelTokens(model).token_ends(text)).tolist()
    assert len(ends) == len(ids)
    assert ends[-1] == len(text)
    for start, end, token in zip([0, *ends], ends, ids, strict=False):
        assert await model.tokenize([Span(text[start:end], False)]) == [token]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_token_that_ends_inside_a_character_ends_with_it(model: WorkerEngine) -> None:
    """So several may end at the same place, and none between two places."""
    text = "a 😀日"
    ids = await model.tokenize([Span(text, False)])
    ends = await ModelTokens(model).token_ends(text)
    assert len(ends) == len(ids)
    assert len(set(ends.tolist())) < len(ends)
    assert ends.tolist() == sorted(ends.tolist())
    assert ends[-1] == len(text)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_long_text_has_the_tokens_that_it_has_as_a_whole(model: WorkerEngine) -> None:
    """To one token for each place where it was cut to be asked for."""
    text = bundled_path("docs").joinpath("models.md").read_text() * 40
    ids = await model.tokenize([Span(text, False)])
    ends = await ModelTokens(model).token_ends(text)
    seams = len(list(slices(text))) - 1
    assert seams > 2
    assert abs(len(ends) - len(ids)) <= seams
    assert ends[-1] == len(text)


async def test_a_vocabulary_without_capitals_knows_where_words_end(tmp_path: Path) -> None:
    """Its tokens' text is not the document's, so between a word's ends they are guessed."""
    engine = WorkerEngine(write_bert(tmp_path / "bert.gguf"), name="bert")
    await engine.start()
    try:
        text = "Ünder the  BRIDGE"
        ends = (await ModelTokens(engine).token_ends(text)).tolist()
        ids = await engine.token_ends("ünder")
    finally:
        await engine.stop()
    assert {5, 9, len(text)} <= set(ends)
    assert ends == sorted(ends)
    assert len([end for end in ends if end <= 5]) == len(ids)


async def test_slices_are_asked_for_one_by_one(engine: ScriptedEngine) -> None:
    """A model with a token a byte has the ends of characters, however long the text is."""
    text = "Grüße\n" * (SLICE // 4)
    ends = await ModelTokens(engine).token_ends(text)
    sizes = [len(character.encode()) for character in text]
    assert ends.tolist() == [end for end, size in enumerate(sizes, 1) for _ in range(size)]
    assert (await ModelTokens(engine).token_ends("")).tolist() == []


@given(st.text("a \n日", max_size=20), st.integers(1, 3))
def test_slices_are_the_text(unit: str, times: int) -> None:
    """Whatever there is to cut at; none is too long."""
    text = unit * times * (SLICE // 7)
    pieces = [text[start:end] for start, end in slices(text)]
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= SLICE for piece in pieces)
    if "\n" in unit:
        assert all(piece.endswith("\n") for piece in pieces[:-1])


@given(st.text())
async def test_an_estimate_is_a_token_for_three_bytes(text: str) -> None:
    """They end in order, and the last one with the text."""
    size = len(text.encode("utf-8", "replace"))
    ends = (await EstimatedTokens().token_ends(text)).tolist()
    assert len(ends) == -(-size // 3)
    assert ends == sorted(ends)
    assert ends[-1:] == [len(text)] * bool(text)
    for count, end in enumerate(ends[:-1], 1):
        assert len(text[: end - 1].encode("utf-8", "replace")) < 3 * count
        assert len(text[:end].encode("utf-8", "replace")) >= 3 * count
