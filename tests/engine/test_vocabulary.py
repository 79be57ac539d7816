"""Prompts to ids: honest text as llama.cpp has it, hostile text never as a marker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.llama import ErrorLog, Model
from server.engine.protocol import Span
from server.engine.settings import EngineSettings
from server.engine.vocabulary import LONGEST_WORD, Special, Vocabulary, divide_words
from tests.chat.vocabularies import load_vocabulary

SOURCE_TREE = os.environ.get("ASSISTANTS_LLAMA_CPP_DIR")

START = Special(900, "<|start|>", "control")
END = Special(901, "<|end|>", "control", strips_left=True, strips_right=True)
CALL = Special(902, "<call>", "user_defined")
SPACES = Special(903, "   ", "user_defined")
BOS = Special(904, "<s>", "control")
QUOTE = Special(905, '<|"|>', "user_defined")


class CharacterTokenizer:
    """Like llama.cpp without special parsing: user-defined tokens match, the rest is characters.

    `merges` are spellings that it turns into an id, as some vocabularies do by their merges.
    """

    def __init__(self, *, adds_bos: bool = False, merges: dict[str, int] | None = None) -> None:
        self.bos = BOS.id
        self.adds_bos = adds_bos
        self.matched = {s.text: s.id for s in (CALL, SPACES, QUOTE)} | (merges or {})

    def specials(self) -> list[Special]:
        return [START, END, CALL, SPACES, BOS, QUOTE]

    def tokenize(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            found = next((known for known in self.matched if text.startswith(known)), None)
            ids.append(self.matched[found] if found else ord(text[0]))
            text = text[len(found) if found else 1 :]
        return ids

    def text(self, token: int) -> bytes:
        spelled = {number: text for text, number in self.matched.items()}
        return spelled.get(token, chr(token)).encode()


def template(text: str) -> Span:
    """What the chat template wrote."""
    return Span(text, True)


def content(text: str) -> Span:
    """What a user wrote."""
    return Span(text, False)


def letters(text: str) -> list[int]:
    """The ids of text without markers."""
    return list(map(ord, text))


def test_markers_are_found_in_the_templates_text() -> None:
    """Control and user-defined markers become their tokens, also when written in two steps."""
    ids = Vocabulary(CharacterTokenizer()).tokenize([template("<|st"), template("art|>a<call>")])
    assert ids == [START.id, *letters("a"), CALL.id]


@pytest.mark.parametrize("marker", [START, END, CALL, BOS, QUOTE], ids=lambda marker: marker.text)
def test_markers_in_content_stay_text(marker: Special) -> None:
    """What a user spells is letters, alone, repeated, and overlapping its own start."""
    for text in (marker.text, marker.text * 2, marker.text[0] + marker.text):
        ids = Vocabulary(CharacterTokenizer()).tokenize([template("x"), content(text)])
        assert ids == letters("x" + text)


def test_a_marker_across_the_border_is_none() -> None:
    """Neither half template and half content, nor two pieces of content around nothing."""
    for spans in (
        [template("<ca"), content("ll>")],
        [content("<ca"), template("ll>")],
        [content("<ca"), template(""), content("ll>")],
    ):
        assert Vocabulary(CharacterTokenizer()).tokenize(spans) == letters("<call>")


def test_plain_user_defined_tokens_are_ordinary_text() -> None:
    """Runs of spaces keep their own token, also across the border."""
    ids = Vocabulary(CharacterTokenizer()).tokenize([template("a  "), content(" b")])
    assert ids == [ord("a"), SPACES.id, ord("b")]


def test_a_control_token_reached_by_merging_is_taken_apart() -> None:
    """A vocabulary that merges the spelling into the token is tried again with it cut."""
    vocabulary = Vocabulary(CharacterTokenizer(merges={START.text: START.id}))
    assert vocabulary.tokenize([content(f"a{START.text}")]) == letters(f"a{START.text}")


def test_a_marker_that_strips_swallows_the_space_beside_it() -> None:
    """As llama.cpp does for tokens with these attributes."""
    ids = Vocabulary(CharacterTokenizer()).tokenize([template("a \n<|end|> b")])
    assert ids == [ord("a"), END.id, ord("b")]


def test_bos_is_added_once_and_only_to_prompts() -> None:
    """Not where the template wrote it, and not to bare content, whose tokens are only counted."""
    vocabulary = Vocabulary(CharacterTokenizer(adds_bos=True))
    assert vocabulary.tokenize([template("a")]) == [BOS.id, ord("a")]
    assert vocabulary.tokenize([template("<s>a")]) == [BOS.id, ord("a")]
    assert vocabulary.tokenize([content("a")]) == [ord("a")]


@given(st.lists(st.text('<cal>|strend/" ', max_size=12), max_size=6))
def test_content_never_yields_a_marker(texts: list[str]) -> None:
    """Whatever is spelled, in however many pieces, none of it becomes a marker."""
    spans = [content(text) for text in texts]
    ids = Vocabulary(CharacterTokenizer()).tokenize([template("t"), *spans])
    assert {START.id, END.id, CALL.id, BOS.id, QUOTE.id}.isdisjoint(ids)


@given(st.text("a é日😀<cal>", max_size=12))
def test_tokens_end_where_their_bytes_do(text: str) -> None:
    """Also where what is spelled is a marker, which is then more than one token."""
    ends = Vocabulary(CharacterTokenizer()).token_ends(text)
    tokenized = Vocabulary(CharacterTokenizer()).tokenize([content(text)])
    assert len(ends) == len(tokenized)
    assert ends == sorted(ends)
    assert ends[-1:] == [len(text)] * bool(text)


def test_a_space_that_is_put_before_the_text_has_no_place_in_it() -> None:
    """As SentencePiece does it."""

    class SpaceFirst(CharacterTokenizer):
        def tokenize(self, text: str) -> list[int]:
            return super().tokenize(f" {text}")

    assert Vocabulary(SpaceFirst()).token_ends("né") == [0, 1, 2]


def test_tokens_of_other_text_end_where_words_do() -> None:
    """A vocabulary that drops what marks letters; between a word's ends they are spread."""

    class Plain(CharacterTokenizer):
        def tokenize(self, text: str) -> list[int]:
            return super().tokenize(text.lower().replace("ü", "ue").replace(" ", ""))

    assert Vocabulary(Plain()).token_ends("AÜ  b\n") == [1, 2, 2, 5]
    assert Vocabulary(Plain()).token_ends(" \n") == []


@pytest.fixture(scope="module")
def model(model_path: Path) -> Model:
    """The model's file in this process: only its vocabulary is used."""
    return Model(str(model_path), EngineSettings(gpu_layers=0), ErrorLog())


CONVERSATION = [
    template("<|im_start|>user\n"),
    content('Grüße, 日本! 😀\n\n  two  spaces, a\ttab, and {"json": "a \\"b\\"\\n"}'),
    template("<|im_end|>\n<|im_start|>assistant\n"),
    content("3.14 is <b>not</b> 22/7"),
    template("<|im_end|>\n"),
]


def test_an_honest_conversation_has_llama_cpps_own_ids(model: Model) -> None:
    """The ids are those of the whole text, tokenized in one go with its markers."""
    whole = "".join(span.text for span in CONVERSATION)
    ids = Vocabulary(model.vocabulary).tokenize(CONVERSATION)
    assert ids == model.vocabulary.tokenize(whole, special=True)


def test_no_spelling_of_a_marker_becomes_its_token(model: Model) -> None:
    """Every special token of the real vocabulary, as a user would type it."""
    vocabulary = Vocabulary(model.vocabulary)
    markers = [special for special in model.vocabulary.specials() if special.is_marker]
    forbidden = {marker.id for marker in markers}
    assert forbidden
    for text in (marker.text for marker in markers):
        for typed in (text, f"a{text}b", text * 2, text[0] + text):
            ids = vocabulary.tokenize([template("\n"), content(typed), template("\n")])
            assert forbidden.isdisjoint(ids)
            assert b"".join(map(model.vocabulary.text, ids)).decode() == f"\n{typed}\n"


def test_the_bytes_of_tokens_join_to_the_text(model: Model) -> None:
    """Characters that take several tokens come back whole when their bytes are joined."""
    text = "Grüße 😀 日本語 \\n"
    ids = model.vocabulary.tokenize(text)
    pieces = [model.vocabulary.text(token) for token in ids]
    assert b"".join(pieces) == text.encode()
    assert any(not piece.isascii() and len(piece) < 2 for piece in pieces)


def test_ends_of_a_turn_have_no_text_and_other_markers_do(model: Model) -> None:
    """The parser of turns must see a tool call's markers, and nobody the end of the turn."""
    vocabulary = model.vocabulary
    named = {special.text: special.id for special in vocabulary.specials()}
    assert vocabulary.text(named["<|im_end|>"]) == b""
    assert vocabulary.text(named["<|im_start|>"]) == b"<|im_start|>"
    assert vocabulary.text(named["<tool_call>"]) == b"<tool_call>"


@pytest.mark.skipif(SOURCE_TREE is None, reason="ASSISTANTS_LLAMA_CPP_DIR is not set")
def test_a_character_may_be_more_tokens_than_bytes() -> None:
    """Where a vocabulary spells out what it stands for, however many there are of them."""
    folder = Path(SOURCE_TREE or "/nowhere") / "models"
    vocabulary = load_vocabulary(folder / "ggml-vocab-nomic-bert-moe.gguf")
    spelled = vocabulary.tokenize("صلى الله عليه وسلم")
    assert vocabulary.tokenize("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}") == spelled
    many = vocabulary.tokenize("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 50, around=True)
    assert len(many) > 3 * 50 + 2


def test_only_words_without_end_are_divided() -> None:
    """Nothing is lost, and what people write stays whole."""
    honest = "Some words, as always. " * LONGEST_WORD
    assert divide_words(honest) == [honest]
    assert divide_words("") == [""]
    endless = "a" * (2 * LONGEST_WORD + 1) + " " * (LONGEST_WORD + 1) + "b"
    parts = divide_words(endless)
    assert "".join(parts) == endless
    assert [len(part) for part in parts] == [LONGEST_WORD, LONGEST_WORD, 1 + LONGEST_WORD, 2]
    assert divide_words("a" * LONGEST_WORD + " b") == ["a" * LONGEST_WORD, " b"]
