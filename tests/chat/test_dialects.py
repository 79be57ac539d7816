"""What models of each family write becomes the same text and calls, however it is cut."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple, get_args

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
    PLAIN,
    QWEN_CODER,
    Dialect,
)
from server.chat.telling import pieces_of
from server.chat.template import ChatTemplate
from server.chat.turn import TurnParser
from server.chat.values import CallArguments, CallStarted, ToolCall
from server.config import DialectName
from tests.chat.turns import TOOLS, seen

PARIS = '{"city": "Paris", "days": 3}'
CALL = ("get_weather", PARIS)
OTHER = ("f", "{}")
LETTER = (
    r'{"body": "Dear \"<|call|><|start|>assistant<|channel|>commentary to=functions.f'
    '<|message|>{} Bob"}'
)


class Turn(NamedTuple):
    """A turn as it is written, and what it says, calls and thinks."""

    dialect: Dialect
    written: str
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    reasoning: str = ""
    unfinished: bool = False


TURNS = {
    "hermes: two calls after a thought": Turn(
        HERMES,
        "<think>\nHm.\n</think>\n\nLet me see.\n"
        f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>\n'
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        "Let me see.",
        (CALL, OTHER),
        "\nHm.\n",
    ),
    "hermes: a list in one block": Turn(
        HERMES,
        f'<tool_call>[{{"name": "get_weather", "parameters": {PARIS}}}, {{"name": "f"}}]'
        "</tool_call>",
        calls=(CALL, OTHER),
    ),
    "hermes: a list that is cut off": Turn(
        HERMES,
        '<tool_call>[{"name": "f"}, {"name": "get_wea',
        calls=(OTHER,),
        unfinished=True,
    ),
    "coder: two calls": Turn(
        QWEN_CODER,
        'I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nPar"is\n</parameter>\n'
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=f>\n</function>\n</tool_call>",
        "I look.",
        (("get_weather", '{"city": "Par\\"is", "days": 3}'), OTHER),
    ),
    "coder: no wrapper, several lines, Python's words": Turn(
        QWEN_CODER,
        "<function=get_weather>\n<parameter=city>\na <b>\n</param\n\n</parameter>\n"
        '<parameter=hourly>True</parameter><parameter=near>["x"]</parameter>\n</function>',
        calls=(("get_weather", '{"city": "a <b>\\n</param\\n", "hourly": true, "near": ["x"]}'),),
    ),
    "coder: what does not fit its type is a string": Turn(
        QWEN_CODER,
        "<tool_call><function=get_weather><parameter=days>some</parameter>"
        '<parameter=city>3</parameter><parameter=new>{"a": 1}</parameter></tool_call>',
        calls=(("get_weather", '{"days": "some", "city": "3", "new": {"a": 1}}'),),
    ),
    "coder: an object all the same": Turn(
        QWEN_CODER,
        f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>',
        calls=(CALL,),
    ),
    "coder: what looks like an end is in a JSON string": Turn(
        QWEN_CODER,
        '<tool_call>\n<function=get_weather>\n<parameter=near>\n["</parameter>", "a\\""]\n'
        "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        calls=(("get_weather", '{"near": ["</parameter>", "a\\""], "days": 3}'),),
    ),
    "coder: no function of ours": Turn(
        QWEN_CODER,
        "So: <tool_call>\n<function=unknown>\n</function>\n</tool_call>",
        "So: <tool_call>\n<function=unknown>\n</function>\n</tool_call>",
    ),
    "coder: cut off": Turn(
        QWEN_CODER,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nPar",
        calls=(("get_weather", '{"city": "Par'),),
        unfinished=True,
    ),
    "llama: a bare object": Turn(
        LLAMA, f'{{"name": "get_weather", "parameters": {PARIS}}}', calls=(CALL,)
    ),
    "llama: with a type, several": Turn(
        LLAMA,
        f'{{"type": "function", "name": "get_weather", "parameters": {PARIS}}}; '
        '{"name": "f", "parameters": {}}',
        calls=(CALL, OTHER),
    ),
    "llama: with the tag": Turn(
        LLAMA, '<|python_tag|>{"name": "f", "parameters": {}}', calls=(OTHER,)
    ),
    "llama: on a line of its own": Turn(
        LLAMA, 'I look.\n\n{"name": "f", "parameters": {}}', "I look.", (OTHER,)
    ),
    "llama: an object in a sentence": Turn(
        LLAMA, 'Say {"name": "f", "parameters": {}}', 'Say {"name": "f", "parameters": {}}'
    ),
    "llama: another object": Turn(LLAMA, '{"answer": [1, 2]}\n', '{"answer": [1, 2]}\n'),
    "llama: an object without end": Turn(LLAMA, '{"name": "get_wea', '{"name": "get_wea'),
    "llama: somebody's name": Turn(
        LLAMA, '{"name": "Ann", "age": 5}\nis it.', '{"name": "Ann", "age": 5}\nis it.'
    ),
    "mistral: two calls": Turn(
        MISTRAL,
        f"Wait.[TOOL_CALLS]get_weather[ARGS]{PARIS}[TOOL_CALLS]f[ARGS]{{}}",
        "Wait.",
        (CALL, OTHER),
    ),
    "mistral: with an id": Turn(
        MISTRAL, f"[TOOL_CALLS]get_weather[CALL_ID]abcdef123[ARGS]{PARIS}", calls=(CALL,)
    ),
    "mistral: a list all the same": Turn(
        MISTRAL, f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}]', calls=(CALL,)
    ),
    "mistral: no call": Turn(
        MISTRAL, "[TOOL_CALLS]not a call[ARGS]{}", "[TOOL_CALLS]not a call[ARGS]{}"
    ),
    "mistral: no function of ours": Turn(
        MISTRAL, "[TOOL_CALLS]unknown[ARGS]{}", "[TOOL_CALLS]unknown[ARGS]{}"
    ),
    "mistral: broken arguments before another call": Turn(
        MISTRAL,
        '[TOOL_CALLS]get_weather[ARGS]{"city": oops}[TOOL_CALLS]f[ARGS]{}',
        calls=(("get_weather", '{"city": oops}'), OTHER),
    ),
    "mistral: cut off": Turn(
        MISTRAL,
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Par',
        calls=(("get_weather", '{"city": "Par'),),
        unfinished=True,
    ),
    "mistral list: with ids": Turn(
        MISTRAL_LIST,
        f'[TOOL_CALLS][{{"name": "get_weather", "arguments": {PARIS}, "id": "abcdef123"}}, '
        '{"name": "f", "arguments": {}, "id": "abcdef124"}]',
        calls=(CALL, OTHER),
    ),
    "deepseek: fenced": Turn(
        DEEPSEEK,
        "<think>Hm.</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
        f"get_weather\n```json\n{PARIS}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function"
        "<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        calls=(CALL, OTHER),
        reasoning="Hm.",
    ),
    "deepseek: the fence left open": Turn(
        DEEPSEEK,
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}<｜tool▁call▁end｜> Done.",
        "Done.",
        (OTHER,),
    ),
    "deepseek: broken arguments": Turn(
        DEEPSEEK,
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{a}\n```<｜tool▁call▁end｜>",
        calls=(("f", "{a}"),),
    ),
    "deepseek 3.1": Turn(
        DEEPSEEK_V31,
        f"Wait.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{PARIS}"
        "<｜tool▁call▁end｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
        "Wait.",
        (CALL, OTHER),
    ),
    "harmony: a thought and an answer": Turn(
        HARMONY,
        "<|channel|>analysis<|message|>They ask.<|end|><|start|>assistant<|channel|>final"
        "<|message|>Yes <b>.",
        "Yes <b>.",
        reasoning="They ask.",
    ),
    "harmony: a thought and a call": Turn(
        HARMONY,
        "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.get_weather <|constrain|>json<|message|>{PARIS}",
        calls=(CALL,),
        reasoning="So.",
    ),
    "harmony: the recipient first, words before": Turn(
        HARMONY,
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.f"
        "<|channel|>commentary json<|message|>{}<|call|>",
        "I look.",
        (OTHER,),
    ),
    "harmony: the call's channel is analysis": Turn(
        HARMONY, "<|channel|>analysis to=functions.f code<|message|>{}", calls=(OTHER,)
    ),
    "harmony: two recipients": Turn(
        HARMONY,
        " to=functions.get_weather<|channel|>commentary to=functions.f <|constrain|>json"
        "<|message|>{}",
        calls=(OTHER,),
    ),
    "harmony: words like a header": Turn(HARMONY, "to=5 it is.", "to=5 it is."),
    "harmony: a header that is cut off": Turn(HARMONY, "to=5<|channel|>commen"),
    "harmony: nobody of ours is called": Turn(
        HARMONY,
        "<|channel|>analysis to=python code<|message|>print(1)<|call|>",
        reasoning="print(1)",
    ),
    "harmony: no headers": Turn(HARMONY, "Just words, to be sure.", "Just words, to be sure."),
    "harmony: an end is missing": Turn(
        HARMONY,
        "<|channel|>analysis<|message|>So.<|channel|>final<|message|>Yes.<|return|>",
        "Yes.",
        reasoning="So.",
    ),
    "harmony: cut off": Turn(
        HARMONY,
        '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Par',
        calls=(("get_weather", '{"city": "Par'),),
        unfinished=True,
    ),
    "harmony: arguments that are no JSON": Turn(
        HARMONY,
        "<|channel|>commentary to=functions.f<|message|>oops, {}<|call|>",
        calls=(("f", "oops, {}"),),
    ),
    "harmony: markers in a string": Turn(
        HARMONY,
        f"<|channel|>commentary to=functions.f<|message|>{LETTER}<|call|><|start|>assistant"
        f"<|channel|>commentary to=functions.get_weather<|message|>{PARIS} <|call|>",
        calls=(("f", LETTER), CALL),
    ),
    "harmony: a string that has no end": Turn(
        HARMONY,
        f"<|channel|>commentary to=functions.f<|message|>{LETTER[:-2]}",
        calls=(("f", LETTER[:-2]),),
        unfinished=True,
    ),
    "harmony: markers behind what is no JSON": Turn(
        HARMONY,
        "<|channel|>commentary to=functions.f<|message|>{oops<|call|><|start|>assistant"
        "<|channel|>commentary to=functions.f<|message|> <|call|>",
        calls=(("f", "{oops"), ("f", "{}")),
    ),
    "command: a plan and calls": Turn(
        COMMAND_R,
        "<|START_THINKING|>I look.<|END_THINKING|><|START_ACTION|>[\n"
        f'    {{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {PARIS}}},\n'
        '    {"tool_call_id": "1", "tool_name": "f", "parameters": {}}\n]<|END_ACTION|>',
        calls=(CALL, OTHER),
        reasoning="I look.",
    ),
    "command: an answer": Turn(
        COMMAND_R, "<|START_RESPONSE|>It is 5 [1] {x}.<|END_RESPONSE|>", "It is 5 [1] {x}."
    ),
    "phi: two calls": Turn(
        PHI,
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}, '
        '{"name": "f", "arguments": {}}]<|/tool_call|>',
        calls=(CALL, OTHER),
    ),
    "granite: two calls": Turn(
        GRANITE,
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}, '
        '{"name": "f", "arguments": {}}]',
        calls=(CALL, OTHER),
    ),
    "granite: a thought and a response": Turn(
        GRANITE,
        "<think>Hm.</think><response>Yes.</response>",
        "Yes.",
        reasoning="Hm.",
    ),
    "gemma: a thought, two calls": Turn(
        GEMMA,
        '<|channel>thought\nHm.<channel|><|tool_call>call:get_weather{city:<|"|>Par"is<|"|>,'
        'days:3,near:[<|"|>a<|"|>, b],x:{y:true,z:{}}}<tool_call|><|tool_call>call:f{}'
        "<tool_call|>",
        calls=(
            (
                "get_weather",
                '{"city": "Par\\"is", "days": 3, "near": ["a", "b"], "x": {"y": true, "z": {}}}',
            ),
            OTHER,
        ),
        reasoning="Hm.",
    ),
    "gemma: keys in JSON's quotes": Turn(
        GEMMA,
        '<|tool_call>call:f{"quo\\"te": "a\\\\", "co:lon" : {"\\u00e9": 1}, a:[{"b":2}],'
        f'"{"k" * 200}": 3}}<tool_call|>',
        calls=(
            (
                "f",
                '{"quo\\"te": "a\\\\", "co:lon": {"\\u00e9": 1}, "a": [{"b": 2}], '
                f'"{"k" * 200}": 3}}',
            ),
        ),
    ),
    "granite: an element of that name": Turn(
        GRANITE,
        "<response>1</response> as XML: <response>",
        "<response>1</response> as XML: <response>",
    ),
    "granite: an element within a response": Turn(
        GRANITE,
        "<think>Hm.</think>\n<response>Say <response>1</response>\nlike this.</response>\n",
        "Say <response>1</response>\nlike this.",
        reasoning="Hm.",
    ),
    "granite: a response that is not closed": Turn(
        GRANITE, "<think>Hm.</think><response>Yes.</resp", "Yes.</resp", reasoning="Hm."
    ),
    "granite: a response and a call": Turn(
        GRANITE,
        '<think>Hm.</think><response>I look.</response><|tool_call|>[{"name": "f"}]',
        "I look.",
        (OTHER,),
        "Hm.",
    ),
    "gemma: no call": Turn(
        GEMMA, "<|tool_call>recall:f{}<tool_call|>", "<|tool_call>recall:f{}<tool_call|>"
    ),
    "gemma: broken arguments": Turn(
        GEMMA, "<|tool_call>call:f{a:<b>}<tool_call|>.", ".", (("f", '{"a": <b>}'),)
    ),
    "gemma: a word without end": Turn(
        GEMMA,
        f"<|tool_call>call:f{{a:{'b' * 200}}}<tool_call|>",
        calls=(("f", f'{{"a": {"b" * 200}}}'),),
    ),
    "gemma: cut off": Turn(
        GEMMA,
        '<|tool_call>call:get_weather{city:<|"|>Par<|',
        calls=(("get_weather", '{"city": "Par'),),
        unfinished=True,
    ),
    "json: lines of calls after words": Turn(
        JSON,
        f'I look.\n{{"name": "get_weather", "arguments": {PARIS}}}\n{{"name": "f"}}\n',
        "I look.",
        (CALL, OTHER),
    ),
    "json: fenced": Turn(
        JSON, f'```json\n{{"name": "get_weather", "arguments": {PARIS}}}\n```', calls=(CALL,)
    ),
    "json: a fence that is cut off": Turn(
        JSON, 'See:\n```json\n{"id": 1, ', 'See:\n```json\n{"id": 1, '
    ),
    "json: no function of ours": Turn(
        JSON, '{"name": "g", "arguments": {}}', '{"name": "g", "arguments": {}}'
    ),
    "json: a call in a pretty fence": Turn(
        JSON,
        'So:\n```json\n{\n  "name": "f",\n  "parameters": {\n    "a": 1\n  }\n}\n```\n',
        "So:",
        (("f", '{\n    "a": 1\n  }'),),
    ),
    "json: other keys first": Turn(
        JSON,
        '{"arguments": {}, "name": "f"}\n{"id": 1, "name": "f", "arguments": {}}',
        '{"arguments": {}, "name": "f"}\n{"id": 1, "name": "f", "arguments": {}}',
    ),
    "json: a name in other letters": Turn(
        JSON, r'{"name": "\u0066", "arguments": {}}', r'{"name": "\u0066", "arguments": {}}'
    ),
    "json: a fence around something else": Turn(
        JSON, '```json\n{"a": {"name": "f"}}\n```\n', '```json\n{"a": {"name": "f"}}\n```\n'
    ),
    "plain: nothing is a call": Turn(PLAIN, '<tool_call>{"name": "f"}', '<tool_call>{"name": "f"}'),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
def test_a_turn_reads_the_same_however_cut(turn: Turn) -> None:
    """Text, calls, reasoning, and whether a call was cut off, whole, by characters, at each cut."""
    expected = (turn.text, list(turn.calls), turn.reasoning, turn.unfinished)
    assert seen(turn.written, dialect=turn.dialect) == expected


SOLAR = dialect_for(
    ChatTemplate(
        "{# <|begin|>assistant<|think|> #}{{ messages[0].content }}<|begin|>assistant<|content|>"
    )
)


@pytest.mark.parametrize(
    ("dialect", "written", "text", "reasoning"),
    [
        (HERMES, "Hi.\n<think>secret</think>more", "Hi.\nmore", "secret"),
        (HERMES, "<think>a</think>\n\n<think>b</think>Hi.\n <think>c", "Hi.", "abc"),
        (HERMES, "Tags like <think> are\n`<think>`", "Tags like <think> are\n`<think>`", ""),
        (
            GEMMA,
            "<|channel>thought\na<channel|>Hi <|channel>thought\nb<channel|>you",
            "Hi you",
            "ab",
        ),
        (
            COMMAND_R,
            "<|START_RESPONSE|>Hi<|END_RESPONSE|><|START_THINKING|>plan<|END_THINKING|>",
            "Hi",
            "plan",
        ),
        (SOLAR, "<|think|>a<|end|><|begin|>assistant<|content|>Hi<|end|>", "Hi", "a"),
        (SOLAR, "<|content|>Hi", "Hi", ""),
    ],
)
def test_who_thinks_again_says_none_of_it(
    dialect: Dialect, written: str, text: str, reasoning: str
) -> None:
    """Behind the first words reasoning begins a line, or else with what nobody writes as words."""
    again = replace(dialect, thinks_again=True)
    assert seen(written, dialect=again, tools=()) == (text, [], reasoning, False)


def test_words_that_are_held_to_a_grammar_are_no_thoughts() -> None:
    """Nor is anything in an answer that has a form, or of a family that does not think."""
    again, written = replace(HERMES, thinks_again=True), "Hi.\n<think>x</think>"
    assert seen(written, dialect=again)[0] == written
    assert seen(written, dialect=again, tools=(), has_form=True)[0] == written
    assert seen(written, tools=())[0] == written


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_a_layout_is_read_back(dialect: Dialect) -> None:
    """Calls that are put together by the layout, as a grammar has them written, are these calls."""
    asked = [ToolCall("", *CALL), ToolCall("", *OTHER)]
    assert dialect.layout is not None
    written = "".join(piece.text for piece in pieces_of(dialect.layout, asked))
    assert seen(written, dialect=dialect) == ("", [CALL, OTHER], "", False)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_scraps_of_markers_read_the_same_however_cut(dialect: Dialect) -> None:
    """Markers in any order, whole and in part, never fail, and never depend on the cut."""
    layout = dialect.layout
    assert layout is not None
    scraps = [layout.before, "f", layout.between, '{"a": ', *dialect.markers, "1}", layout.after]
    for step in range(1, len(scraps)):
        seen("".join(scraps[step:] + scraps[:step]), splits=60, dialect=dialect)
        seen("".join(scraps[::step]) + " x", splits=60, dialect=dialect)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_an_answer_with_a_form_is_read_as_it_is(dialect: Dialect) -> None:
    """Whatever its strings spell: markers, calls, frames."""
    layout = dialect.layout
    assert layout is not None
    call = "".join(piece.text for piece in pieces_of(layout, [ToolCall("", *OTHER)]))
    marks = [*dialect.markers, dialect.answer_open, dialect.answer_close, call]
    answer = json.dumps({"said": [f"{mark} {mark}" for mark in marks]})
    for text in (answer, f"{dialect.answer_open}{answer}{dialect.answer_close}"):
        assert seen(text, splits=60, dialect=dialect, has_form=True) == (answer, [], "", False)
    assert seen(call, dialect=dialect, has_form=True) == ("", [OTHER], "", False)


def test_without_functions_nothing_is_a_call() -> None:
    """Then also an object that names one is text, and is given out as it comes."""
    parser = TurnParser(JSON, ())
    parser.feed('{"name": "f", ')
    assert parser.text == '{"name": "f",'


def test_tagged_strings_stream_and_other_values_wait() -> None:
    """A string is given out as it is written; other values are known at their end."""
    parser = TurnParser(QWEN_CODER, TOOLS)
    assert parser.feed("<tool_call>\n<function=get_weather>\n") == [
        CallStarted(0, "get_weather"),
        CallArguments(0, "{"),
    ]
    assert parser.feed("<parameter=city>\nPa") == [CallArguments(0, '"city": "Pa')]
    assert parser.feed('r"is\n</para') == [CallArguments(0, 'r\\"is')]
    assert parser.feed("meter>\n<parameter=days>\n1") == [CallArguments(0, '", "days": ')]
    assert parser.feed("2\n</parameter>\n</function>") == [CallArguments(0, "12}")]


def test_a_parser_knows_when_it_reads_reasoning() -> None:
    """So that its tokens can be counted."""
    parser = TurnParser(HARMONY, TOOLS)
    told = []
    for chunk in ("<|channel|>analysis<|message|>", "So", "<|end|>", "<|start|>assistant", "x"):
        parser.feed(chunk)
        told.append(parser.in_reasoning)
    assert told == [True, True, False, False, False]


def test_settings_know_the_dialects() -> None:
    """Each dialect can be chosen by its name, and no other name can."""
    assert set(get_args(DialectName)) == set(DIALECTS)
