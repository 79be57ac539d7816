"""Whatever a grammar lets a model write, in any dialect: its reader finds valid calls in it.

The writer takes tokens by dice, and scraps of calls wherever they are allowed: well formed ones,
ones that its grammar does not write, and ones with arguments that no schema here allows.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest

from server.bundled import bundled_path
from server.chat.answers import AnswerForm, callable_beside
from server.chat.dialects import DIALECTS, Dialect
from server.chat.grammar import turn_grammar, words_grammar
from server.chat.turn import TurnParser
from server.chat.values import ToolSpec
from tests.chat.vocabularies import CONTROL, USER_DEFINED, load_vocabulary, with_markers
from tests.engine.grammar_vocabulary import GrammarVocabulary, grammar_vocabulary
from tests.engine.shapes import Shape, root_shape

SOURCE_TREE = os.environ.get("ASSISTANTS_LLAMA_CPP_DIR")
BUNDLED = "bundled"
NEAREST = {
    "qwen3-coder": "qwen2",
    "hermes": "qwen2",
    "mistral": "llama-bpe",
    "mistral-list": "llama-bpe",
    "deepseek": "deepseek-llm",
    "deepseek-v3.1": "deepseek-llm",
    "harmony": "llama-bpe",
    "command-r": "command-r",
    "phi4-mini": "llama-bpe",
    "granite": "starcoder",
    "gemma4": "gemma-4",
    "llama3": "llama-bpe",
    "json": "gemma-4",
}

CITY: Shape = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Rome"]},
        "days": {"type": "integer", "maximum": 9},
        "note": {"type": "string", "maxLength": 9},
    },
    "required": ["city"],
    "additionalProperties": False,
}
AWKWARD: Shape = {
    "type": "object",
    "properties": {
        'quo"te': {"type": "string", "maxLength": 3},
        "co:lon, {": {"enum": ["x</parameter>y", "\n", '<|"|>']},
        "long" * 40: {"type": "boolean"},
        "</parameter>": {"type": "array", "items": {"enum": ["</parameter>", "]"]}, "maxItems": 2},
    },
    "additionalProperties": False,
}
TAGS: Shape = {
    "type": "object",
    "properties": {
        "word": {
            "type": "string",
            "anyOf": [{"pattern": "^[a-z]{1,3}$"}, {"const": "</parameter>"}],
        },
        "words": {
            "type": "array",
            "items": {"enum": ["</parameter>", "<tool_call>"]},
            "maxItems": 2,
        },
        "some": {"enum": ["a", "b"], "const": "b"},
    },
    "additionalProperties": False,
}
NOTHING: Shape = {"type": "object", "properties": {}, "additionalProperties": False}
LETTER: Shape = {
    "type": "object",
    "properties": {
        "body": {"type": "string"},
        "copies": {"type": "array", "items": {"type": "string"}},
        "heads": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["body"],
    "additionalProperties": False,
}
SHAPES = {"weather": CITY, "awkward": AWKWARD, "tags": TAGS, "time": NOTHING}
TOOLS = [
    ToolSpec("weather", None, CITY),
    ToolSpec("awkward", None, AWKWARD),
    ToolSpec("tags", None, TAGS),
    ToolSpec("time", strict=True),
]

ALL_MARKERS = sorted(
    {
        marker
        for dialect in DIALECTS.values()
        for marker in (*dialect.markers, *dialect.separators, dialect.call_tail)
    }
    - {""}
)


class Voice(NamedTuple):
    """A dialect, a vocabulary to write it in, and how many turns of a kind are written in it."""

    dialect: Dialect
    vocabulary: GrammarVocabulary
    turns: int = 40


@lru_cache
def real_vocabulary(name: str, kind: int, folder: Path) -> GrammarVocabulary:
    """One that has the markers of all dialects as tokens of their own, of this kind."""
    markers = " ".join(marker for dialect in DIALECTS.values() for marker in dialect.markers)
    words = set(re.findall(r"<[^<>\s]+>|\[[A-Z_]+\]", markers))
    source = Path(SOURCE_TREE or "/nowhere") / f"models/ggml-vocab-{name}.gguf"
    target = folder / f"{kind}-{source.name}"
    return GrammarVocabulary(load_vocabulary(with_markers(source, target, words, kind)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the vocabularies that are made."""
    return tmp_path_factory.mktemp("vocabularies")


@pytest.fixture(params=[BUNDLED, CONTROL, USER_DEFINED], ids=["bundled", "control", "user-defined"])
def voice(request: pytest.FixtureRequest, dialect: Dialect, folder: Path) -> Voice:
    """The bundled vocabulary, which has few of the markers as tokens, or the nearest real one."""
    if request.param == BUNDLED:
        return Voice(dialect, grammar_vocabulary(bundled_path("models/tiny-assistant.gguf")))
    if SOURCE_TREE is None:
        pytest.skip("ASSISTANTS_LLAMA_CPP_DIR is not set")
    return Voice(dialect, real_vocabulary(NEAREST[dialect.name], request.param, folder), turns=10)


each_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())


def scraps_of(dialect: Dialect) -> list[str]:
    """What calls are made of, in this dialect and about it."""
    layout = dialect.layout
    assert layout is not None
    around = [layout.section_open, layout.before, layout.between, layout.after, layout.separator]
    heads = [f"{layout.before}{name}{layout.between}" for name in SHAPES]
    calls = [
        f"{layout.section_open}{head}{arguments}{layout.after}{layout.section_close}"
        for head in heads
        for arguments in ('{"city": 5}', '{"city": "Rome"}', "{}", "7")
    ]
    objects = [
        '{"name": "weather", "parameters": {"city": 5}}',
        '{"name":"weather","parameters":{"city":5}}',
        '{"name":"weather","arguments":{"city":5}}',
        '{\n  "name": "weather",\n  "arguments": {\n    "city": 5\n  }\n}',
        '{"type": "function", "name": "weather", "parameters": {"city": 5}}',
        '{"id": 1, "name": "weather", "parameters": {"city": 5}}',
        '{"parameters": {"city": 5}, "name": "weather"}',
        '{"n\\u0061me": "weather", "parameters": {"city": 5}}',
        '{"name": "weather"}',
        '{"name": "Ann"',
    ]
    blocks = [
        "<function=weather>\n<parameter=city>\nLondon\n</parameter>\n</function>",
        "<function=weather>",
        "<function= weather >\n<parameter=city>\n5\n</parameter>\n</function>",
        "<parameter=city>\nRome\n</parameter>\n",
        "<parameter=word>\n",
        "</parameter>",
    ]
    messages = [
        "to=functions.weather",
        " to=functions.time",
        "<|channel|>commentary",
        "<|start|>assistant to=functions.weather<|channel|>commentary<|message|>{}",
    ]
    words = [
        "```json",
        "```json\n",
        "\n",
        "\n\n",
        " ",
        "\t",
        "\r",
        "\u00a0",
        "Well. ",
        "{",
        "}",
        '"',
    ]
    marks = [*dialect.markers, dialect.answer_open, dialect.remark_open, "<think>", "</think>"]
    return [
        *filter(
            None, [*around, *heads, *calls, *objects, *objects, *blocks, *messages, *words, *marks]
        )
    ]


def judged(shape: Shape, text: str) -> str | None:
    """What another implementation says against it."""
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    judge = jsonschema.Draft202012Validator(shape, format_checker=checker)
    return next((f"{text}: {error.message}" for error in judge.iter_errors(json.loads(text))), None)


def read(
    dialect: Dialect,
    tools: Sequence[ToolSpec],
    shapes: dict[str, Shape],
    text: str,
    *,
    has_form: bool = False,
) -> TurnParser:
    """Its reader, once each of its calls was found valid."""
    parser = TurnParser(dialect, tools, has_form=has_form)
    for letter in text:
        parser.feed(letter)
    parser.finish()
    assert not parser.unfinished_call, text
    for _, name, arguments in parser.calls:
        assert judged(shapes[name], arguments) is None, text
    return parser


def turns(voice: Voice, grammar: str, seed: object, scraps: Sequence[str] = ()) -> Iterator[str]:
    """Some that come to an end."""
    scraps = scraps or scraps_of(voice.dialect)
    for number in range(voice.turns):
        text = voice.vocabulary.written(grammar, f"{seed} {number}", scraps)
        if text is not None:
            yield text


@each_dialect
def test_calls_among_words_are_valid(voice: Voice) -> None:
    """What words may spell is no call, and what begins like one is a valid one."""
    dialect, tags = voice.dialect, voice.vocabulary.tags
    written = list(turns(voice, turn_grammar(dialect, TOOLS, tags=tags), "words"))
    called = [text for text in written if read(dialect, TOOLS, SHAPES, text).calls]
    assert len(written) > voice.turns / 2
    assert called


@each_dialect
def test_a_turn_that_may_not_call_has_no_calls(voice: Voice) -> None:
    """Not even for somebody who reads it as if it might have called these functions."""
    grammar = words_grammar(voice.dialect, TOOLS, tags=voice.vocabulary.tags)
    written = list(turns(voice, grammar, "no calls"))
    assert len(written) > voice.turns / 2
    for text in written:
        assert not read(voice.dialect, TOOLS, SHAPES, text).calls, text


@each_dialect
def test_a_turn_that_must_call_has_only_calls(voice: Voice) -> None:
    """Of functions with any schema, strict or not."""
    whole = 0
    for seed in range(voice.turns):
        dice = random.Random(f"calls {seed}")
        shapes = {f"f{n}": root_shape(dice, strict=n == 0) for n in range(2)} | {"tags": TAGS}
        tools = [ToolSpec(name, None, shape, name == "f0") for name, shape in shapes.items()]
        tags = voice.vocabulary.tags
        grammar = turn_grammar(voice.dialect, tools, must_call=True, tags=tags)
        if (text := voice.vocabulary.written(grammar, seed)) is None:
            continue
        parser = read(voice.dialect, tools, shapes, text)
        assert parser.calls, text
        assert parser.text == ""
        whole += 1
    assert whole > voice.turns / 4


@each_dialect
def test_strings_of_any_length_may_spell_any_marker(voice: Voice) -> None:
    """What stands in an argument is that argument's, and never the end of a call or another one."""
    shapes = {"letter": LETTER, "time": NOTHING}
    tools = [ToolSpec("letter", None, LETTER), ToolSpec("time", strict=True)]
    grammar = turn_grammar(voice.dialect, tools, must_call=True, tags=voice.vocabulary.tags)
    scraps = [*scraps_of(voice.dialect), *ALL_MARKERS]
    written = list(turns(voice, grammar, "letters", scraps))
    assert len(written) > voice.turns / 4
    for text in written:
        assert read(voice.dialect, tools, shapes, text).text == ""


FORMS: dict[str, Shape] = {
    "a schema": CITY,
    "any object": {"type": "object"},
    "anything": {"properties": {"n": {"type": "integer"}}, "additionalProperties": True},
    "one of two": {"anyOf": [CITY, {"type": "object"}]},
    "arguments": {
        "type": "object",
        "properties": {"arguments": {"type": "object"}},
        "additionalProperties": True,
    },
    "a call": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
    },
}


@each_dialect
@pytest.mark.parametrize("shape", FORMS.values(), ids=FORMS.keys())
def test_an_answer_with_a_form_or_calls(voice: Voice, shape: Shape) -> None:
    """One or the other, whole and valid."""
    dialect, tags, form = voice.dialect, voice.vocabulary.tags, AnswerForm(shape)
    tools = callable_beside(form, dialect, TOOLS)
    grammar = turn_grammar(dialect, tools, form=form, tags=tags)
    for text in turns(voice, grammar, "form"):
        parser = read(dialect, tools, SHAPES, text, has_form=True)
        assert bool(parser.calls) != bool(parser.text), text
        assert not parser.text or judged(shape, parser.text) is None
