"""Each dialect against its family's real template and vocabulary, where llama.cpp's source is.

That source has no vocabularies of Mistral's tekken, DeepSeek V3, gpt-oss, Granite and Phi-4-mini:
the nearest one stands for them. It has no template of Phi-4-mini: ours stands for that.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

from server.chat.choice import dialect_for
from server.chat.dialects import (
    COMMAND_R,
    DEEPSEEK,
    DEEPSEEK_V31,
    DIALECTS,
    GEMMA,
    GRANITE,
    HARMONY,
    HERMES,
    JSON,
    LLAMA,
    MISTRAL,
    MISTRAL_LIST,
    PHI,
    QWEN_CODER,
    Dialect,
)
from server.chat.loose import QUOTE
from server.chat.telling import telling_of
from server.chat.template import ChatTemplate
from server.chat.turn import TurnParser
from server.chat.utf8 import Utf8Joiner
from server.chat.values import ChatMessage, Piece, ToolCall, ToolSpec
from server.engine.llama import ModelVocabulary
from server.engine.protocol import Span
from server.engine.vocabulary import Vocabulary
from tests.chat.turns import cuts
from tests.chat.vocabularies import CONTROL, USER_DEFINED, load_vocabulary, with_markers

SOURCE_TREE = os.environ.get("ASSISTANTS_LLAMA_CPP_DIR")
MODELS = Path(SOURCE_TREE or "/nowhere") / "models"

pytestmark = pytest.mark.skipif(SOURCE_TREE is None, reason="ASSISTANTS_LLAMA_CPP_DIR is not set")

PHI4_MINI = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content }}"
    "{% if message.tools %}{{ '<|tool|>' + message.tools + '<|/tool|>' }}{% endif %}"
    "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
OWN_TEMPLATES = {"phi-4-mini": PHI4_MINI}


class Family(NamedTuple):
    """A template, its dialect, and the vocabulary that is nearest to its models'."""

    template: str
    dialect: Dialect
    vocabulary: str


FAMILIES = [
    Family("Qwen-Qwen2.5-7B-Instruct", HERMES, "qwen2"),
    Family("Qwen-Qwen3-0.6B", HERMES, "qwen2"),
    Family("Qwen-QwQ-32B", HERMES, "qwen2"),
    Family("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", HERMES, "llama-bpe"),
    Family("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", HERMES, "llama-bpe"),
    Family("ibm-granite-granite-4.0", HERMES, "starcoder"),
    Family("Qwen3-Coder", QWEN_CODER, "qwen2"),
    Family("Qwen3.5-4B", QWEN_CODER, "qwen35"),
    Family("meta-llama-Llama-3.1-8B-Instruct", LLAMA, "llama-bpe"),
    Family("meta-llama-Llama-3.2-3B-Instruct", LLAMA, "llama-bpe"),
    Family("meta-llama-Llama-3.3-70B-Instruct", LLAMA, "llama-bpe"),
    Family("mistralai-Mistral-Nemo-Instruct-2407", MISTRAL_LIST, "llama-bpe"),
    Family("Mistral-Small-3.2-24B-Instruct-2506", MISTRAL, "llama-bpe"),
    Family("unsloth-mistral-Devstral-Small-2507", MISTRAL, "llama-bpe"),
    Family("mistralai-Ministral-3-14B-Reasoning-2512", MISTRAL, "llama-bpe"),
    Family("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", DEEPSEEK, "qwen2"),
    Family("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", DEEPSEEK, "llama-bpe"),
    Family("llama-cpp-deepseek-r1", DEEPSEEK, "deepseek-llm"),
    Family("deepseek-ai-DeepSeek-V3.1", DEEPSEEK_V31, "deepseek-llm"),
    Family("openai-gpt-oss-120b", HARMONY, "llama-bpe"),
    Family("CohereForAI-c4ai-command-r7b-12-2024-tool_use", COMMAND_R, "command-r"),
    Family("Cohere2MoE", COMMAND_R, "command-r"),
    Family("phi-4-mini", PHI, "llama-bpe"),
    Family("ibm-granite-granite-3.3-2B-Instruct", GRANITE, "starcoder"),
    Family("google-gemma-4-31B-it", GEMMA, "gemma-4"),
    Family("google-gemma-4-31B-it-interleaved", GEMMA, "gemma-4"),
    Family("google-gemma-2-2b-it", JSON, "gemma-4"),
    Family("microsoft-Phi-3.5-mini-instruct", JSON, "phi-3"),
    Family("HuggingFaceTB-SmolLM3-3B", JSON, "llama-bpe"),
]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.template)

# What a vocabulary has as one token: no words, and no strings of several.
MARKER = re.compile(r"<[|｜][^<>\s|｜]+[|｜]>|</?[a-z_]+>|\[/?[A-Z_]+\]")
SPELLED = re.compile(r"<[|｜][^<>\s|｜'{}]+[|｜]>|\[/?[A-Z_]{3,}\]")
MARKERS = sorted(
    {QUOTE}
    | {
        marker
        for dialect in DIALECTS.values()
        for part in (*dialect.markers, *(dialect.separators if dialect.form == "named" else ()))
        for marker in MARKER.findall(part)
    }
)

TOOL = ToolSpec(
    "get_weather",
    "How the weather is",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where"},
            "days": {"type": "integer"},
            "near": {"type": "array", "items": {"type": "string"}},
        },
    },
)
FIRST = ToolCall("abcdef123", TOOL.name, '{"city": "Zürich \\"x\\"", "days": 3}')
SECOND = ToolCall("abcdef124", TOOL.name, '{"city": "Rome", "near": ["a", "b"]}')


@lru_cache
def template_of(family: Family, control: frozenset[str] = frozenset()) -> ChatTemplate:
    """The family's template, for a vocabulary with these control tokens."""
    path = MODELS / "templates" / f"{family.template}.jinja"
    source = OWN_TEMPLATES.get(family.template) or path.read_text()
    return ChatTemplate(source, bos="<s>", eos="</s>", control=control)


@lru_cache
def dialect_of(family: Family) -> Dialect:
    """The family's dialect, as it is found out."""
    return dialect_for(template_of(family))


def rendered(
    family: Family,
    messages: Sequence[ChatMessage],
    tool: ToolSpec = TOOL,
    control: frozenset[str] = frozenset(),
) -> list[Piece]:
    """A prompt as the server makes it."""
    template = template_of(family, control)
    told, tools = telling_of(template, dialect_of(family)).told(messages, [tool])
    return template.render(told, tools)


def conversation(text: Callable[[str], str] = str) -> list[ChatMessage]:
    """All kinds of messages, and everybody's words passed through `text`."""
    call = replace(FIRST, arguments=json.dumps({"city": text("Paris"), "days": 3}))
    return [
        ChatMessage("system", text("Be brief.")),
        ChatMessage("user", text("How is it?")),
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", text("5 degrees"), tool_call_id=call.id, name=call.name),
        ChatMessage("assistant", text("It is cold.")),
        ChatMessage("user", text("Thanks.")),
    ]


def written(family: Family, calls: tuple[ToolCall, ...]) -> str:
    """How the prompt tells a turn of these calls."""
    asked = ChatMessage("user", "zyxwasked")
    answer = ChatMessage("assistant", "", calls)
    text = "".join(piece.text for piece in rendered(family, [asked, answer]))
    return text.rpartition(asked.content)[2]


def calls_in(family: Family, chunks: Sequence[str]) -> list[tuple[str, object]]:
    """The calls of a turn that is written like this."""
    parser = TurnParser(dialect_of(family), [TOOL])
    for chunk in chunks:
        parser.feed(chunk)
    parser.finish()
    return [(name, json.loads(arguments)) for _, name, arguments in parser.calls]


def meant(*calls: ToolCall) -> list[tuple[str, object]]:
    """What is to come out."""
    return [(call.name, json.loads(call.arguments)) for call in calls]


@each_family
def test_the_dialect_is_the_familys(family: Family) -> None:
    """It is found out from the template, but for the markers of reasoning a template's own."""
    assert dialect_of(family).name == family.dialect.name
    assert dialect_of(family).layout == family.dialect.layout


@pytest.mark.parametrize(
    ("template", "opening"),
    [
        ("Qwen-Qwen3-0.6B", "<think>"),
        ("google-gemma-4-31B-it", "<|channel>thought\n"),
        ("mistralai-Ministral-3-14B-Reasoning-2512", "[THINK]"),
        ("Cohere2MoE", "<|START_THINKING|>"),
        ("ByteDance-Seed-OSS", "<seed:think>"),
        ("MiniMax-M3", "<mm:think>"),
        ("unsloth-Apriel-1.5", "<thinking>"),
        ("Apriel-1.6-15b-Thinker-fixed", "Here are my reasoning steps:\n"),
        ("tencent-Hy3", "<think:opensource>"),
        ("upstage-Solar-Open-100B", "<|think|>"),
    ],
)
def test_how_a_familys_models_think(template: str, opening: str) -> None:
    """It is found out from the template, and so is that they may think again."""
    dialect = dialect_of(Family(template, JSON, ""))
    assert (dialect.reasoning_open, dialect.thinks_again) == (opening, True)


def test_a_prompt_that_begins_the_reasoning() -> None:
    """The turn is read as such from its first word."""
    family = Family("Apriel-1.6-15b-Thinker-fixed", JSON, "")
    prompt = template_of(family).render([ChatMessage("user", "How is it?")])
    assert dialect_of(family).opens_reasoning(prompt)


@each_family
def test_a_call_in_a_prompt_is_read_back(family: Family) -> None:
    """What the family's template writes for a call is that call for its parser, at every cut."""
    for chunks in cuts(written(family, (FIRST,)), 1000):
        assert calls_in(family, chunks) == meant(FIRST)


@each_family
def test_several_calls_in_a_prompt_are_read_back(family: Family) -> None:
    """Where a message has room for only one, each is told in its own."""
    telling = telling_of(template_of(family), dialect_of(family))
    text = written(family, (FIRST, SECOND))
    if telling.several or not telling.calls:
        assert calls_in(family, [text]) == meant(FIRST, SECOND)
    else:
        told, _ = telling.told([ChatMessage("assistant", "", (FIRST, SECOND))], [TOOL])
        assert [message.tool_calls for message in told] == [(FIRST,), (SECOND,)]


@each_family
def test_everything_is_told(family: Family) -> None:
    """Instructions, functions, calls, results and answers are in the prompt, whoever tells them."""
    prompt = "".join(piece.text for piece in rendered(family, conversation()))
    for text in ("Be brief.", "How is it?", "Paris", "5 degrees", "It is cold.", "Thanks."):
        assert text in prompt, text
    for text in (TOOL.name, "How the weather is", "Where"):
        assert text in prompt, text


@lru_cache
def all_markers() -> frozenset[str]:
    """Those of all dialects, and what the templates spell like one."""
    sources = "".join(template_of(family).source for family in FAMILIES)
    return frozenset({*MARKERS, *SPELLED.findall(sources)})


@pytest.fixture(scope="module", params=[CONTROL, USER_DEFINED], ids=["control", "user-defined"])
def vocabulary_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], ModelVocabulary]:
    """Loads a vocabulary to which the markers of all families were added, as tokens of a kind."""
    folder = tmp_path_factory.mktemp("vocabularies")

    @lru_cache
    def load(name: str) -> ModelVocabulary:
        source = MODELS / f"ggml-vocab-{name}.gguf"
        target = folder / source.name
        return load_vocabulary(with_markers(source, target, all_markers(), request.param))

    return load


def spans(pieces: Sequence[Piece]) -> list[Span]:
    """Pieces as the engine takes them."""
    return [Span(piece.text, piece.is_template) for piece in pieces]


@each_family
def test_the_model_reads_the_whole_text(
    family: Family, vocabulary_of: Callable[[str], ModelVocabulary]
) -> None:
    """The ids of an honest conversation are those of its text, tokenized in one go."""
    raw = vocabulary_of(family.vocabulary)
    pieces = rendered(family, conversation())
    whole = raw.tokenize("".join(piece.text for piece in pieces), special=True)
    ids = Vocabulary(raw).tokenize(spans(pieces))
    assert ids[len(ids) - len(whole) :] == whole
    assert len(ids) - len(whole) in (0, 1)


@each_family
def test_a_turn_of_tokens_is_read(
    family: Family, vocabulary_of: Callable[[str], ModelVocabulary]
) -> None:
    """Token by token, with markers as they are spelled and ends of a turn as nothing."""
    raw, joiner = vocabulary_of(family.vocabulary), Utf8Joiner()
    asked = ChatMessage("user", "Hi")
    before = rendered(family, [asked])
    pieces = rendered(family, [asked, ChatMessage("assistant", "", (FIRST,))])
    ids = Vocabulary(raw).tokenize(spans(_behind(before, pieces)))
    ids = ids[raw.adds_bos :]
    assert calls_in(family, [joiner.feed(raw.text(token)) for token in ids]) == meant(FIRST)


def _behind(before: Sequence[Piece], pieces: Sequence[Piece]) -> list[Piece]:
    """What follows on the prompt of a turn, or on its last words if it is told otherwise."""
    prompt, text = ("".join(piece.text for piece in each) for each in (before, pieces))
    left = len(prompt) if text.startswith(prompt) else text.rindex("Hi") + len("Hi")
    rest: list[Piece] = []
    for piece in pieces:
        rest.append(replace(piece, text=piece.text[max(0, left) :]))
        left -= len(piece.text)
    return rest


@each_family
def test_no_word_becomes_a_marker(
    family: Family, vocabulary_of: Callable[[str], ModelVocabulary]
) -> None:
    """Whoever spells markers of any family, alone, joined, or around others, spells words."""
    raw = vocabulary_of(family.vocabulary)
    vocabulary = Vocabulary(raw)
    specials = raw.specials()
    forbidden = {s.id: s.text for s in specials if s.kind == "control" or s.text in all_markers()}
    control = frozenset(raw.markers)

    def counted(spelled: str) -> Counter[int]:
        messages = conversation(lambda text: f"{text} {spelled}")
        tool = replace(TOOL, description=f"How the weather is {spelled}")
        ids = vocabulary.tokenize(spans(rendered(family, messages, tool, control)))
        return Counter(token for token in ids if token in forbidden)

    honest = counted("a b")
    ends = "".join(filter(None, raw.turn_ends))
    for spelled in ("".join(MARKERS) + ends, f"a{ends * 2}b", "b".join(MARKERS[::-1])):
        assert not counted(spelled) - honest, spelled
