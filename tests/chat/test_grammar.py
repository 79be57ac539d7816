"""The grammar of a turn: what may be written under it, token by token, and what may not."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import partial
from typing import Any

import jsonschema
import pytest

from server.bundled import bundled_path
from server.chat.answers import AnswerForm, answer_form, callable_beside
from server.chat.dialects import HARMONY, HERMES, JSON, LLAMA, PLAIN, QWEN_CODER, Dialect
from server.chat.grammar import turn_grammar, words_grammar
from server.chat.json_schema import MOST_OPTIONAL
from server.chat.layout import CallLayout
from server.chat.telling import pieces_of
from server.chat.turn import TurnParser
from server.chat.values import ToolCall, ToolSpec
from server.engine.constraint import ConstraintBroken
from server.schemas.json_schema import SchemaRefused, check_strict
from server.schemas.patterns import CATEGORIES, OTHERS, SCRIPTS
from tests.engine.grammar_vocabulary import GrammarVocabulary, grammar_vocabulary
from tests.timing import little_work

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = ToolSpec("weather", "The weather", CITY)
WEATHER_MAP = ToolSpec("weather_map", "A map", {"type": "object", "properties": {}})
TIME = ToolSpec("time", "What time it is")
TOOLS = [WEATHER, WEATHER_MAP, TIME]

# How others write calls: with a section, with tags that no text can be, without any marker.
SECTIONED = CallLayout(
    before="<|call|>function\n",
    between="<|sep|>",
    after="<|end|>",
    section_open="<|calls|>",
    section_close="<|done|>",
)
LISTED = CallLayout(
    before='{"name": "',
    between='", "arguments": ',
    after="}",
    section_open="[TOOL_CALLS][",
    section_close="]",
    separator=", ",
)


@pytest.fixture(scope="module")
def vocabulary() -> GrammarVocabulary:
    """The bundled model's, where `<tool_call>` is a token that is no text."""
    return grammar_vocabulary(bundled_path("models/tiny-assistant.gguf"))


def hermes(name: str, arguments: str) -> str:
    """A call as the Hermes family writes it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


PARIS = hermes("weather", '{"city": "Paris"}')
ROME = hermes("weather", '{"city": "Rome", "days": 3}')
CLOCK = hermes("time", "{}")


def test_nothing_is_said_of_a_turn_that_is_free() -> None:
    """Without tools or a form there is no grammar; nor for calls that nobody can write."""
    assert turn_grammar(HERMES, []) == ""
    assert turn_grammar(PLAIN, TOOLS) == ""
    assert turn_grammar(PLAIN, TOOLS, must_call=True) == ""


@pytest.mark.parametrize("apart", [True, False], ids=["as tokens", "as text"])
def test_a_turn_that_must_call_is_calls(vocabulary: GrammarVocabulary, apart: bool) -> None:
    """One or several of the functions that are offered, with valid arguments, and nothing else."""
    tags = vocabulary.tags if apart else {}
    grammar = turn_grammar(HERMES, TOOLS, must_call=True, tags=tags)
    can = partial(vocabulary.accepts, spelled=not apart)
    assert can(grammar, PARIS)
    assert can(grammar, f"{PARIS}\n{ROME}\n{CLOCK}")
    assert can(grammar, hermes("weather", '{"city":"Rome","days":3}'))
    assert can(grammar, hermes("weather_map", "{}"))
    assert not can(grammar, "")
    assert not can(grammar, "Hello!")
    assert not can(grammar, f"Let me see. {PARIS}")
    assert not can(grammar, f"{PARIS}\nThere.")
    assert not can(grammar, hermes("weathe", "{}"))
    assert not can(grammar, hermes("weather", "{}"))
    assert not can(grammar, hermes("weather", '{"city": "London"}'))
    assert not can(grammar, hermes("weather", '{"city": "Rome", "days": 10}'))
    assert not can(grammar, hermes("weather", '{"city": "Rome", "wind": 1}'))
    assert not can(grammar, hermes("time", '{"zone": 1}'))


@pytest.mark.parametrize("apart", [True, False], ids=["as tokens", "as text"])
def test_a_turn_that_may_not_call_writes_nothing_like_a_call(
    vocabulary: GrammarVocabulary, apart: bool
) -> None:
    """Neither the marker's token nor its spelling; all else is free, also after reasoning."""
    tags = vocabulary.tags if apart else {}
    thoughtful = replace(HERMES, reasoning_open="<tools>", reasoning_close="</tools>")
    grammar = words_grammar(HERMES, [TIME], tags=tags)
    thinking = words_grammar(thoughtful, [TIME], in_reasoning=True, tags=tags)
    for text in ("", "Hello!", "a < b <tool", '{"name": "time", "arguments": {}}'):
        assert vocabulary.accepts(grammar, text), text
        assert vocabulary.accepts(thinking, f"Hm.</tools>{text}", spelled=not apart)
    for spelled in (True, False):
        assert not vocabulary.accepts(grammar, CLOCK, spelled=spelled)
        assert not vocabulary.accepts(grammar, f"Wait. {CLOCK}", spelled=spelled)


def test_one_call_only(vocabulary: GrammarVocabulary) -> None:
    """Where calls are not to be made side by side."""
    tags = vocabulary.tags
    grammar = turn_grammar(HERMES, TOOLS, must_call=True, parallel=False, tags=tags)
    assert vocabulary.accepts(grammar, CLOCK)
    assert not vocabulary.accepts(grammar, f"{CLOCK}\n{CLOCK}")


def test_text_is_free_until_a_call_begins(vocabulary: GrammarVocabulary) -> None:
    """From its marker on, there must be a valid call, and after the calls the end."""
    grammar = turn_grammar(HERMES, TOOLS, tags=vocabulary.tags)
    for text in ("", "Hello!", '{"name": "x"}', "a < b", "<tool", "Line\n\nline", PARIS):
        assert vocabulary.accepts(grammar, text), text
    assert vocabulary.accepts(grammar, f"Let me see.\n{PARIS}\n{CLOCK}")
    assert not vocabulary.accepts(grammar, f"Let me see.\n{hermes('unknown', '{}')}")
    assert not vocabulary.accepts(grammar, "Let me see.\n<tool_call>")
    assert not vocabulary.accepts(grammar, "<tool_call>\nThat is how I call.</tool_call>")
    assert not vocabulary.accepts(grammar, f"{PARIS}\nThere.")


def test_a_marker_is_not_spelled_out_in_text(vocabulary: GrammarVocabulary) -> None:
    """A call that is no call to the grammar would be one to whoever reads the turn."""
    grammar = turn_grammar(HERMES, TOOLS, tags=vocabulary.tags)
    rules = vocabulary.begin(grammar)
    for letter in "<tool_call":
        rules.accept(vocabulary.letter(letter))
    assert not vocabulary.allows(rules, vocabulary.letter(">"))
    assert vocabulary.allows(rules, vocabulary.letter("-"))


@pytest.mark.parametrize(
    "dialect",
    [HERMES, Dialect("sectioned", SECTIONED), Dialect("listed", LISTED), LLAMA, JSON],
    ids=lambda dialect: dialect.name,
)
def test_layouts(vocabulary: GrammarVocabulary, dialect: Dialect) -> None:
    """What stands around calls is the layout's, whether a vocabulary has tokens for it or not."""
    layout = dialect.layout
    assert layout is not None

    def call(name: str, arguments: str) -> str:
        return f"{layout.before}{name}{layout.between}{arguments}{layout.after}"

    def turn(*calls: str) -> str:
        return layout.section_open + layout.separator.join(calls) + layout.section_close

    paris, clock = call("weather", '{"city": "Paris"}'), call("time", "{}")
    forced = turn_grammar(dialect, TOOLS, must_call=True, tags=vocabulary.tags)
    free = turn_grammar(dialect, TOOLS, tags=vocabulary.tags)
    for grammar in (forced, free):
        assert vocabulary.accepts(grammar, turn(paris))
        assert vocabulary.accepts(grammar, turn(paris, clock))
        assert not vocabulary.accepts(grammar, turn(call("weather", "{}")))
        assert not vocabulary.accepts(grammar, turn(paris) + " There.")
    assert vocabulary.accepts(free, "Let me see.\n" + turn(paris, clock))
    assert vocabulary.accepts(free, "Let me see.")
    assert not vocabulary.accepts(forced, "Let me see.\n" + turn(paris))


@pytest.mark.parametrize("dialect", [LLAMA, JSON], ids=lambda dialect: dialect.name)
def test_objects_are_words_unless_they_call(
    vocabulary: GrammarVocabulary, dialect: Dialect
) -> None:
    """Where no marker tells calls: an object is one if it begins a line and names a function."""
    grammar = turn_grammar(dialect, TOOLS, tags=vocabulary.tags)
    for text in (
        '{"name": "Ann", "age": 5}',
        'Like this:\n```json\n{\n  "name": "Ann"\n}\n```\nIs it?',
        'It would be {"name": "time", "parameters": {"zone": 1}}.',
        '{"type": "person", "name": "time"}',
        '[\n"name"]',
    ):
        assert vocabulary.accepts(grammar, text), text
    assert dialect.layout is not None
    rest = f'{dialect.layout.between[1:]}{{"city": "Rome"}}}}'
    for head in (
        '{"name": "weather"',
        '{"name":"weather"',
        'So:\n \t{ "name" : "weather"',
        '{"type": "function", "name": "weather"',
        "Hm.</think>" + '{"name": "weather"',
        f'{dialect.call_open}\n{{\n  "name": "weather"',
    ):
        assert vocabulary.accepts(grammar, head + rest), head
        assert not vocabulary.accepts(grammar, head + rest.replace("Rome", "London")), head
        assert not vocabulary.accepts(grammar, head + "}"), head
        parser = TurnParser(dialect, TOOLS)
        parser.feed((head + rest).replace("Hm.</think>", "<think>Hm.</think>"))
        parser.finish()
        assert [name for _, name, _ in parser.calls] == ["weather"]


@pytest.mark.parametrize("dialect", [LLAMA, JSON], ids=lambda dialect: dialect.name)
def test_an_object_is_an_answer_or_a_call(vocabulary: GrammarVocabulary, dialect: Dialect) -> None:
    """Where both are objects, whatever its form; and one that begins like a call is a call."""
    assert dialect.layout is not None
    call = f'{{"name": "weather{dialect.layout.between}{{"city": "Rome"}}}}'
    bad = call.replace("Rome", "London")
    person = {"type": "object", "properties": {"age": {"type": "integer"}}}
    for schema, answers in (
        (person, ['{"age": 5}', "{}"]),
        ({"type": "object"}, ['{"name": "Ann", "age": {"name": "time"}}', '{"type": 5}', "{}"]),
    ):
        form = AnswerForm(schema)
        grammar = turn_grammar(dialect, TOOLS, form=form, tags=vocabulary.tags)
        for text in (call, *answers):
            assert vocabulary.accepts(grammar, text), text
        for text in (bad, f'{{"type": "function", {bad[1:]}', f"{answers[0]}{call}"):
            assert not vocabulary.accepts(grammar, text), text


OPEN: dict[str, Any] = {"type": "object", "additionalProperties": True}


@pytest.mark.parametrize("dialect", [LLAMA, JSON], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "schema",
    [
        {},
        {**OPEN, "properties": {"age": {"type": "integer"}}},
        {"$ref": "#/$defs/any", "$defs": {"any": OPEN}},
        {"anyOf": [CITY, OPEN]},
        {"allOf": [{"properties": {"age": {"type": "integer"}}}, OPEN]},
        {**OPEN, "properties": {"name": {"type": "string"}}},
        {**OPEN, "properties": {"parameters": {"type": "object"}}},
        {**OPEN, "patternProperties": {"^(name|p)": {}}},
        {**OPEN, "required": []},
    ],
    ids=str,
)
def test_an_answer_of_an_open_form_spells_no_call(
    vocabulary: GrammarVocabulary, dialect: Dialect, schema: dict[str, Any]
) -> None:
    """What would be read as a call, and was held to no function's schema, is not written."""
    form, strict = AnswerForm(schema), [replace(WEATHER, strict=True), TIME]
    assert dialect.layout is not None
    call = f'{{"name": "weather{dialect.layout.between}{{"city": "Rome"}}}}'
    bad = call.replace("Rome", "London")
    for loose in (False, True):
        tools = callable_beside(form, dialect, strict)
        grammar = turn_grammar(dialect, tools, form=form, tags=vocabulary.tags, loose=loose)
        for text in (call, '{"age": 5, "other": [1]}', "{}"):
            assert vocabulary.accepts(grammar, text), text
        assert not vocabulary.accepts(grammar, bad)


def test_nothing_is_called_beside_a_form_that_is_a_call(vocabulary: GrammarVocabulary) -> None:
    """Where an object is a call; a family that has a marker for calls tells them apart."""
    shape = {"name": {"type": "string"}, "parameters": {"type": "object"}}
    form = AnswerForm({"type": "object", "properties": shape})
    assert callable_beside(None, LLAMA, TOOLS) == TOOLS
    assert callable_beside(form, HERMES, TOOLS) == TOOLS
    assert not callable_beside(form, LLAMA, TOOLS)
    grammar = turn_grammar(LLAMA, (), form=form, tags=vocabulary.tags)
    assert vocabulary.accepts(grammar, '{"name": "weather", "parameters": {"city": "London"}}')


@pytest.mark.parametrize("key", ["arguments", "parameters"])
def test_a_form_may_be_a_call_in_other_ways(vocabulary: GrammarVocabulary, key: str) -> None:
    """Whatever names its members; it is enforced then, and nothing can be called beside it."""
    answer = {"name": "weather", key: {"city": "London"}}
    for schema in (
        {"const": answer},
        {"type": "object", "enum": [answer, {}]},
        {"type": "object", "required": ["name", key]},
        {"anyOf": [{"const": answer}, {"type": "null"}]},
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name", key]},
    ):
        form = AnswerForm(schema)
        assert not callable_beside(form, LLAMA, TOOLS)
        grammar = turn_grammar(LLAMA, (), form=form, tags=vocabulary.tags)
        assert vocabulary.accepts(grammar, json.dumps(answer))
        assert not vocabulary.accepts(grammar, '{"name": 1}')


@pytest.mark.parametrize("dialect", [HERMES, LLAMA, JSON], ids=lambda dialect: dialect.name)
def test_an_object_has_no_space_without_end(
    vocabulary: GrammarVocabulary, dialect: Dialect
) -> None:
    """A weak model would write on in it."""
    form = AnswerForm({"type": "object"})
    grammar = turn_grammar(dialect, TOOLS, form=form, tags=vocabulary.tags)
    assert vocabulary.accepts(grammar, '{"a": {"b": 5}}')
    for text in ('{"a": {"b":  ', '{"a": {  ', '{"a": {"b": 5,  '):
        assert not vocabulary.begins(grammar, text), text


def test_a_block_may_lack_its_wrapper(vocabulary: GrammarVocabulary) -> None:
    """Some models leave it out; the call is as valid then."""
    grammar = turn_grammar(QWEN_CODER, TOOLS, tags=vocabulary.tags)
    bare = tagged("weather", city="Rome").removeprefix("<tool_call>\n")
    for text in (
        bare,
        f"I look.\n{bare}",
        bare.removesuffix("\n</tool_call>"),
        f"{bare}\n{tagged('time')}",
        "Write <function=weather> like this.",
        "\n<function=other>",
    ):
        assert vocabulary.accepts(grammar, text), text
    for text in (bare.replace("Rome", "London"), f"I look.\n{bare.replace('city', 'x')}"):
        assert not vocabulary.accepts(grammar, text), text


def test_a_parameter_whose_name_fits_no_tag(vocabulary: GrammarVocabulary) -> None:
    """Its function is called with an object, which is read there, too."""
    schema = {"type": "object", "properties": {"a>b": {"type": "integer"}}, "required": ["a>b"]}
    tools = [ToolSpec("f", None, schema), TIME]
    grammar = turn_grammar(QWEN_CODER, tools, must_call=True, tags=vocabulary.tags)
    call = hermes("f", '{"a>b": 1}')
    assert vocabulary.accepts(grammar, f"{call}\n{tagged('time')}")
    assert not vocabulary.accepts(grammar, hermes("f", "{}"))
    assert not vocabulary.begins(grammar, tagged("f", **{"a>b": "1"}))
    parser = TurnParser(QWEN_CODER, tools)
    parser.feed(call)
    parser.finish()
    assert parser.calls == ((0, "f", '{"a>b": 1}'),)


ROOTS: dict[str, dict[str, Any]] = {
    "a reference": {"$ref": "#/$defs/a", "$defs": {"a": CITY}},
    "a choice": {"anyOf": [CITY, {"required": ["days"]}]},
    "all of": {"allOf": [CITY]},
    "values": {"enum": [{"city": "Rome"}]},
    "a value": {"const": {"city": "Rome"}},
    "a name that is required only": {"required": ["city"]},
    "names by a pattern": {"patternProperties": {"^city$": {"const": "Rome"}}},
    "others of one kind": {"additionalProperties": {"const": "Rome"}},
    "a name that is not to be": {"properties": {"town": False, "city": {}}, "required": ["city"]},
}


@pytest.mark.parametrize("schema", ROOTS.values(), ids=ROOTS.keys())
def test_whatever_rules_all_arguments_rules_blocks(
    vocabulary: GrammarVocabulary, schema: dict[str, Any]
) -> None:
    """What cannot be said of blocks one by one is said of one object."""
    tool = ToolSpec("weather", None, schema)
    grammar = turn_grammar(QWEN_CODER, [tool], must_call=True, tags=vocabulary.tags)
    assert not vocabulary.accepts(grammar, tagged("weather", town="Rome"))
    for seed in range(8):
        written = vocabulary.written(grammar, seed, ['"city"', "Rome", '"', "}", "</", ">"])
        if written is not None:
            assert jsonschema.Draft202012Validator(schema).is_valid(arguments_of(tool, written))


@pytest.mark.parametrize("dialect", [HERMES, QWEN_CODER, LLAMA], ids=lambda dialect: dialect.name)
def test_a_strict_function_may_refer_to_its_parameters(
    vocabulary: GrammarVocabulary, dialect: Dialect
) -> None:
    """Also where these refer back to the whole."""
    part = {
        **CITY,
        "properties": {**CITY["properties"], "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["city", "days", "next"],
    }
    schema = {"type": "object", "$ref": "#/$defs/a", "$defs": {"a": part}}
    check_strict(schema)
    tool = ToolSpec("weather", None, schema, strict=True)
    grammar = turn_grammar(dialect, [tool], must_call=True, parallel=False, tags=vocabulary.tags)
    written = [vocabulary.written(grammar, seed, ['"', "}", "null", ">"]) for seed in range(8)]
    ended = [arguments_of(tool, text, dialect) for text in written if text is not None]
    assert ended
    for arguments in ended:
        jsonschema.validate(arguments, schema)


def test_what_patterns_may_name_is_known(vocabulary: GrammarVocabulary) -> None:
    """To whoever enforces them, alone and in a class."""
    for name in "|".join([CATEGORIES, SCRIPTS, OTHERS]).split("|"):
        pattern = rf"^\p{{{name}}}[\P{{{name}}}a]$"
        check_strict(
            CITY
            | {"properties": {"city": {"type": "string", "pattern": pattern}}, "required": ["city"]}
        )
        vocabulary.begin(f"start: %json {json.dumps({'type': 'string', 'pattern': pattern})}")


def optional(number: int, name: str = "p") -> dict[str, Any]:
    """An object that may have that many properties."""
    return {
        "type": "object",
        "properties": {f"{name}{n}": {"type": "string"} for n in range(number)},
    }


WIDE = {
    "properties": optional(MOST_OPTIONAL),
    "too many properties": optional(MOST_OPTIONAL + 1),
    "members": {"anyOf": [optional(100, f"m{number}_") for number in range(20)]},
    "too many members": {"anyOf": [optional(100, f"m{number}_") for number in range(60)]},
}


@pytest.mark.parametrize("shape", WIDE.values(), ids=WIDE.keys())
@pytest.mark.parametrize("dialect", [PLAIN, QWEN_CODER], ids=lambda dialect: dialect.name)
def test_however_many_properties_there_may_be(
    vocabulary: GrammarVocabulary, shape: dict[str, Any], dialect: Dialect
) -> None:
    """No turn ends for them in its middle, and none waits long for its next token."""
    schema = {"type": "object", "properties": {"a": shape}, "required": ["a"]}
    part = turn_grammar(PLAIN, [], form=AnswerForm(schema), tags=vocabulary.tags)
    if dialect is not PLAIN:
        tools = [ToolSpec("all", None, {"type": "object", **shape})]
        part = turn_grammar(dialect, tools, must_call=True, tags=vocabulary.tags)
    vocabulary.begin(part)
    with little_work(3):
        vocabulary.written(part, 1, ['"', "}", "]", ",", "0"], most=60)


@pytest.mark.parametrize(
    "open_object",
    [
        {"properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": True},
        {"required": ["a"]},
        {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {}}}]},
    ],
    ids=str,
)
def test_a_name_is_not_written_twice(
    vocabulary: GrammarVocabulary, open_object: dict[str, Any]
) -> None:
    """Not in escapes, either: the second would count."""
    form = AnswerForm({"type": "object", "properties": {"o": open_object}})
    grammar = turn_grammar(PLAIN, [], form=form, tags=vocabulary.tags)
    for others in ("", ', "b": [1]', ', "\\"\\n\\u0001\\\\é": {"a": "x", "b": "y"}'):
        assert vocabulary.accepts(grammar, f'{{"o": {{"a": 1{others}}}}}')
    for again in ('"a"', '"\\u0061"'):
        assert not vocabulary.accepts(grammar, f'{{"o": {{"a": 1, {again}: "x"}}}}')


def test_open_objects_in_blocks(vocabulary: GrammarVocabulary) -> None:
    """They have the parameters that they declare."""
    schema = {**CITY, "additionalProperties": True}
    tool = ToolSpec("weather", None, schema)
    grammar = turn_grammar(QWEN_CODER, [tool], must_call=True, tags=vocabulary.tags)
    assert vocabulary.accepts(grammar, tagged("weather", city="Rome"))


def test_a_strict_answer_may_refer_to_itself(vocabulary: GrammarVocabulary) -> None:
    """By what it is, and as a whole; also beside functions that bare objects call."""
    part = {
        "type": "object",
        "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    schema = {"type": "object", "$ref": "#/$defs/n", "$defs": {"n": part}}
    check_strict(schema)
    for tools in ([], [TIME]):
        grammar = turn_grammar(
            JSON, tools, form=AnswerForm(schema, strict=True), tags=vocabulary.tags
        )
        assert vocabulary.accepts(grammar, '{"a": {"a": null}}')
        assert not vocabulary.accepts(grammar, '{"a": {"b": null}}')


def arguments_of(tool: ToolSpec, written: str, dialect: Dialect = QWEN_CODER) -> Any:
    """Of the first call in a turn."""
    parser = TurnParser(dialect, [tool])
    parser.feed(written)
    parser.finish()
    return json.loads(parser.calls[0][2])


def test_arguments_are_an_object(vocabulary: GrammarVocabulary) -> None:
    """Also of a schema that is too large to be enforced."""
    large = {"type": "object", "description": "x" * 1_000_000}
    grammar = turn_grammar(
        HERMES, [ToolSpec("f", None, large)], must_call=True, tags=vocabulary.tags
    )
    assert vocabulary.accepts(grammar, hermes("f", '{"any": 1}'))
    assert not vocabulary.accepts(grammar, hermes("f", "7"))


@pytest.mark.parametrize("dialect", [HERMES, QWEN_CODER], ids=lambda dialect: dialect.name)
def test_a_strict_function_without_parameters_takes_none(
    vocabulary: GrammarVocabulary, dialect: Dialect
) -> None:
    """As it was stored: with an object that says nothing of others."""
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    for parameters in (None, empty):
        tool = ToolSpec("time", None, parameters, strict=True)
        grammar = turn_grammar(dialect, [tool], must_call=True, tags=vocabulary.tags)
        assert vocabulary.accepts(grammar, CLOCK if dialect is HERMES else tagged("time"))
        other = hermes("time", '{"x": 1}') if dialect is HERMES else tagged("time", x="1")
        assert not vocabulary.accepts(grammar, other)


def tagged(name: str, **parameters: str) -> str:
    """A call whose arguments are blocks."""
    blocks = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items()
    )
    return f"<tool_call>\n<function={name}>\n{blocks}</function>\n</tool_call>"


def test_tagged_arguments(vocabulary: GrammarVocabulary) -> None:
    """A block a parameter: text as it is, anything else as JSON that its schema allows."""
    parameters = {
        "type": "object",
        "properties": {
            "city": {"enum": ["Paris", "Rome"]},
            "note": {"type": "string"},
            "days": {"$ref": "#/$defs/days"},
            "places": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        },
        "required": ["city", "note"],
        "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
    }
    tools = [ToolSpec("trip", None, parameters), ToolSpec("free", None, {"type": "object"}), TIME]
    grammar = turn_grammar(QWEN_CODER, tools, must_call=True, tags=vocabulary.tags)
    can = vocabulary.accepts
    assert can(grammar, tagged("trip", city="Rome", note='two\nlines, <b> & "quotes"'))
    assert can(grammar, tagged("trip", city="Rome", note="", places='["a", "b"]'))
    assert can(grammar, tagged("time") + "\n" + tagged("free", any="thing", and_more="2"))
    assert not can(grammar, tagged("trip", city="London", note=""))
    assert not can(grammar, tagged("trip", city="Rome"))
    assert not can(grammar, tagged("trip", note="", city="Rome"))
    assert not can(grammar, tagged("trip", city="Rome", note="", places='["a", "b", "c"]'))
    assert not can(grammar, tagged("trip", city="Rome", note="", other="1"))
    assert not can(grammar, tagged("time", zone="1"))


RULED = {
    "code": {"type": "string", "pattern": "^[a-z]{2}$"},
    "maybe": {"type": ["string", "null"]},
    "either": {"anyOf": [{"type": "integer"}, {"type": "string", "format": "date"}]},
    "place": {"$ref": "#/$defs/place"},
    "again/": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
}
INNERMOST = {"code": "de", "maybe": None, "either": 1, "place": {"x": 1}, "again/": None}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("code", '"de"', True),
        ("code", '"deu"', False),
        ("code", "de", False),
        ("maybe", "null", True),
        ("maybe", "some words", True),
        ("either", "12", True),
        ("either", '"2026-11-26"', True),
        ("either", "twelve", False),
        ("place", '{"x": 1}', True),
        ("place", '{"x": "1"}', False),
        ("place", "here", False),
        ("again/", "null", True),
        ("again/", json.dumps(INNERMOST), True),
        ("again/", '{"code": "deu"}', False),
    ],
)
def test_tagged_values_keep_their_rules(
    vocabulary: GrammarVocabulary, key: str, value: str, valid: bool, strict: bool
) -> None:
    """A string with rules is written as JSON, and read as what it says."""
    written = {"code": '"de"', "maybe": "x", "either": "1", "place": '{"x": 1}', "again/": "null"}
    parameters = {
        "type": "object",
        "properties": RULED,
        "required": list(RULED),
        "additionalProperties": False,
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"x": {"type": "integer"}},
                "required": ["x"],
                "additionalProperties": False,
            }
        },
    }
    tool = ToolSpec("f", None, parameters, strict)
    grammar = turn_grammar(QWEN_CODER, [tool], must_call=True, tags=vocabulary.tags)
    call = tagged("f", **written | {key: value})
    assert vocabulary.accepts(grammar, call) == valid
    if valid:
        parser = TurnParser(QWEN_CODER, [tool])
        parser.feed(call)
        parser.finish()
        ((_, _, arguments),) = parser.calls
        jsonschema.validate(json.loads(arguments), parameters)


def test_a_value_ends_where_its_block_does(vocabulary: GrammarVocabulary) -> None:
    """Text cannot hold what its reader takes for its end."""
    tool = ToolSpec("f", None, {"type": "object", "properties": {"x": {"type": "string"}}})
    grammar = turn_grammar(QWEN_CODER, [tool], must_call=True, tags=vocabulary.tags)
    assert vocabulary.accepts(grammar, tagged("f", x="a </parameter b"))
    assert not vocabulary.accepts(grammar, tagged("f", x="a</parameter>b"))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("choices", "in_blocks"),
    [
        (["a</parameter>b", "c"], False),
        (["</parameter>"], False),
        (["</parameter", "</function>", "\n", ""], True),
    ],
)
def test_a_choice_that_looks_like_the_end_of_its_block_stands_in_an_object(
    vocabulary: GrammarVocabulary, choices: list[str], in_blocks: bool, strict: bool
) -> None:
    """Each text that may be chosen is read as it is written."""
    shape = {"const": choices[0]} if len(choices) == 1 else {"enum": choices}
    parameters = {
        "type": "object",
        "properties": {"x": {"type": "string", **shape}},
        "required": ["x"],
        "additionalProperties": False,
    }
    tool = ToolSpec("f", None, parameters, strict)
    grammar = turn_grammar(QWEN_CODER, [tool], must_call=True, tags=vocabulary.tags)
    for choice in choices:
        call = tagged("f", x=choice) if in_blocks else hermes("f", json.dumps({"x": choice}))
        assert vocabulary.accepts(grammar, call)
        parser = TurnParser(QWEN_CODER, [tool])
        parser.feed(call)
        parser.finish()
        ((_, _, arguments),) = parser.calls
        assert json.loads(arguments) == {"x": choice}
    assert vocabulary.begins(grammar, "<tool_call>\n<function=f>") == in_blocks


def test_a_form_rules_the_whole_answer(vocabulary: GrammarVocabulary) -> None:
    """The JSON of its schema, in the order of its keys, without white space that nobody needs."""
    form = AnswerForm(CITY, strict=True)
    grammar = turn_grammar(HERMES, [], form=form, tags=vocabulary.tags)
    assert vocabulary.accepts(grammar, '{"city": "Paris", "days": 3}')
    assert vocabulary.accepts(grammar, '{"city":"Paris","days":3}')
    assert not vocabulary.accepts(grammar, '{"days": 3, "city": "Paris"}')
    assert not vocabulary.accepts(grammar, '{"city":  "Paris"}')
    assert not vocabulary.begins(grammar, " {")
    assert not vocabulary.accepts(grammar, '{"city": "Paris"} ')
    assert not vocabulary.accepts(grammar, "Paris")


def test_a_form_and_functions(vocabulary: GrammarVocabulary) -> None:
    """The answer has its form, or there are calls; both would be neither."""
    form = AnswerForm({"type": "object"})
    grammar = turn_grammar(HERMES, TOOLS, form=form, tags=vocabulary.tags)
    assert vocabulary.accepts(grammar, '{"any": ["thing", 1, null]}')
    assert vocabulary.accepts(grammar, PARIS)
    assert not vocabulary.accepts(grammar, f'{{"any": 1}}{PARIS}')
    assert not vocabulary.accepts(grammar, "Hello!")
    forced = turn_grammar(HERMES, TOOLS, must_call=True, form=form, tags=vocabulary.tags)
    assert not vocabulary.accepts(forced, '{"any": 1}')


def test_what_response_formats_ask_for() -> None:
    """As runs have them; an object is one in any case."""
    schema = {"name": "x", "schema": CITY, "strict": True}
    assert answer_form(None) is None
    assert answer_form({"type": "text"}) is None
    assert answer_form({"type": "json_object"}) == AnswerForm({"type": "object"})
    assert answer_form({"type": "json_schema", "json_schema": schema}) == AnswerForm(CITY, True)
    bare = {"type": "json_schema", "json_schema": {"name": "x"}}
    assert answer_form(bare) == AnswerForm({"type": "object"})


@pytest.mark.parametrize("apart", [True, False], ids=["as tokens", "as text"])
def test_reasoning_is_free(vocabulary: GrammarVocabulary, apart: bool) -> None:
    """Up to its end, which must come; then the turn is what it has to be."""
    think, done = ("<tools>", "</tools>") if apart else ("<reflect>", "</reflect>")
    tags, form = vocabulary.tags, AnswerForm(CITY)
    dialect = replace(HERMES, reasoning_open=think, reasoning_close=done)
    grammar = turn_grammar(dialect, TOOLS, must_call=True, in_reasoning=True, tags=tags)
    assert vocabulary.accepts(grammar, f"Well, {{}} ...{done}{PARIS}")
    assert vocabulary.accepts(grammar, f"{done}\n\n{PARIS}")
    assert not vocabulary.accepts(grammar, f"Well{done}")
    assert not vocabulary.accepts(grammar, PARIS)
    may = turn_grammar(dialect, TOOLS, tags=tags)
    assert vocabulary.accepts(may, f"{think}\nWell.\n{done}\n\nHello!")
    assert vocabulary.accepts(may, PARIS)
    answer = turn_grammar(dialect, [], form=form, tags=tags)
    assert vocabulary.accepts(answer, '{"city": "Paris"}')
    # One that has no token to begin with would lose its answer to a word that it never learned.
    assert vocabulary.accepts(answer, f'{think}Well.{done}{{"city": "Paris"}}') == apart


def test_an_answer_may_stand_in_its_frame(vocabulary: GrammarVocabulary) -> None:
    """Text or JSON, beside calls or alone; and reasoning may begin and end with several tokens."""
    dialect = replace(
        HERMES,
        answer_open="<tools>final",
        answer_close="</tools>",
        reasoning_open="<tools>analysis",
        reasoning_close="</tools>Well:",
    )
    tags = vocabulary.tags
    auto = turn_grammar(dialect, TOOLS, tags=tags)
    for text in ("Hello!", "<tools>finalHello!</tools>", PARIS, f"Hello!{PARIS}"):
        assert vocabulary.accepts(auto, text)
    for text in ("<tools>Hello!</tools>", "<tools>finalHello!", f"<tools>final{PARIS}</tools>"):
        assert not vocabulary.accepts(auto, text)
    answer = turn_grammar(dialect, [], form=AnswerForm(CITY), tags=tags)
    said = '{"city": "Paris"}'
    for text in (said, f"<tools>final{said}</tools>"):
        assert vocabulary.accepts(answer, text)
        assert vocabulary.accepts(answer, f"<tools>analysisHm.</tools>Well:{text}")
    assert not vocabulary.accepts(answer, f"<tools>analysisHm.</tools>{said}")


def test_a_remark_may_stand_before_calls(vocabulary: GrammarVocabulary) -> None:
    """Where a family has a frame for it, there and nowhere else; not where a turn has to call."""
    dialect, tags = (
        replace(HERMES, remark_open="<tools>note", remark_close="</tools>"),
        vocabulary.tags,
    )
    auto = turn_grammar(dialect, TOOLS, tags=tags)
    noted = f"<tools>noteLet me see.</tools>{PARIS}"
    assert vocabulary.accepts(auto, noted)
    assert vocabulary.accepts(auto, PARIS)
    assert not vocabulary.accepts(auto, f"Let me see.{PARIS}")
    assert not vocabulary.accepts(auto, "<tools>noteLet me see.</tools>")
    assert not vocabulary.accepts(auto, f"<tools>noteLet me see.{PARIS}")
    forced = turn_grammar(dialect, TOOLS, must_call=True, tags=tags)
    assert not vocabulary.accepts(forced, noted)


def test_a_header_says_once_who_is_called(vocabulary: GrammarVocabulary) -> None:
    """On gpt-oss's channel or before it; another recipient before that would be another call."""
    paris = '<|constrain|>json<|message|>{"city": "Paris"}'
    grammar = turn_grammar(HARMONY, TOOLS, tags=vocabulary.tags)
    for header in (
        "<|channel|>commentary to=functions.weather ",
        " to=functions.weather<|channel|>commentary ",
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
        "<|channel|>commentary to=functions.weather ",
    ):
        assert vocabulary.accepts(grammar, header + paris), header
    for header in (
        " to=functions.time<|channel|>commentary to=functions.weather ",
        " to=python<|channel|>commentary to=functions.weather ",
        "Well.<|channel|>commentary to=functions.weather ",
        "<|channel|>final<|message|>Well.<|start|>assistant to=functions.weather ",
    ):
        assert not vocabulary.accepts(grammar, header + paris), header


@pytest.mark.parametrize("dialect", [HERMES, QWEN_CODER, LLAMA], ids=lambda dialect: dialect.name)
def test_as_many_functions_as_may_be_offered(
    vocabulary: GrammarVocabulary, dialect: Dialect
) -> None:
    """They are not too much for the engine, however their calls begin."""
    tools = [ToolSpec(f"function_{number}", None, CITY) for number in range(128)]
    grammar = turn_grammar(dialect, tools, tags=vocabulary.tags)
    said = 'Some words.\n{"name": "Ann"}\n<function=x>\n'
    assert vocabulary.accepts(grammar, said)
    assert dialect.layout is not None
    call = [ToolCall("", "function_127", '{"city": "Rome"}')]
    written = said + "".join(piece.text for piece in pieces_of(dialect.layout, call))
    assert vocabulary.accepts(grammar, written)
    assert not vocabulary.accepts(grammar, written.replace("Rome", "London"))


ANSWER: dict[str, Any] = {"type": "object", "additionalProperties": False}
ITEM = {**CITY, "required": ["city", "days"]}
LARGE: dict[str, dict[str, Any]] = {
    "properties": {f"property_{number}": {"type": "string"} for number in range(4_999)},
    "values": {"a": {"enum": [f"value {number}" for number in range(990)]}},
    "most items": {"a": {"type": "array", "items": ITEM, "maxItems": 100_000}},
    "least items": {"a": {"type": "array", "items": ITEM, "minItems": 100_000}},
    "lengths": {"a": {"type": "string", "minLength": 99_999, "maxLength": 100_000}},
    "members": {"a": {"anyOf": [{"type": "integer", "minimum": n} for n in range(14_990)]}},
    "factors": {f"p{n}": {"type": "integer", "multipleOf": 9_990 + n} for n in range(2)},
    "several rules": {"a": {"type": "string", "pattern": "^[a-z ]+$", "maxLength": 50}},
    "least of a pattern": {"a": {"type": "string", "pattern": r"^\S.*\S$", "minLength": 16}},
    "least of a format": {"a": {"type": "string", "format": "hostname", "minLength": 16}},
    "length of a format": {"a": {"type": "string", "format": "uuid", "minLength": 36}},
}


@pytest.mark.parametrize("properties", LARGE.values(), ids=LARGE.keys())
def test_what_is_strict_is_not_too_much(
    vocabulary: GrammarVocabulary, properties: dict[str, Any]
) -> None:
    """A schema that was taken when it came is one that the engine can hold a model to."""
    schema = {**ANSWER, "properties": properties, "required": list(properties)}
    check_strict(schema)
    grammar = turn_grammar(PLAIN, [], form=AnswerForm(schema, strict=True), tags=vocabulary.tags)
    assert vocabulary.begins(grammar, f'{{"{next(iter(properties))}": ')


def factor(number: int) -> dict[str, Any]:
    """Its argument is a multiple of so much."""
    whole = {"type": "integer", "multipleOf": number}
    return {"type": "object", "properties": {"a": whole}, "required": ["a"]}


def factors(number: int) -> dict[str, Any]:
    """Its argument is a multiple of two."""
    return {"properties": {"a": {"multipleOf": number, "allOf": [{"multipleOf": number + 1}]}}}


def meeting(number: int, choices: int) -> dict[str, Any]:
    """So many choices of patterns that a text has to fit, each with each."""
    alike = [
        {"anyOf": [{"type": "string", "pattern": f"[a-z]{{{n}}}{number}{k}"} for n in range(1, 11)]}
        for k in range(choices)
    ]
    return {"properties": {"a": {"allOf": alike}}}


MANY: dict[str, list[dict[str, Any]]] = {
    "choices that meet": [meeting(number, 4) for number in range(128)],
    "few choices that meet": [meeting(number, 2) for number in range(128)],
    "factors": [factor(9_000 + number) for number in range(128)],
    "factors that meet": [factors(number) for number in range(2, 99)],
    "properties": [
        {"type": "object", "properties": {f"p{n}": {"type": "null"} for n in range(1_000)}}
        for _ in range(128)
    ],
    "items": [
        {"properties": {f"p{n}": {"type": "array", "items": {}, "maxItems": 90_000 + n}}}
        for n in range(128)
    ],
    "formats": [
        {"properties": {f"p{n}": {"type": "string", "format": "ipv6"} for n in range(100)}}
        for _ in range(128)
    ],
}


@pytest.mark.parametrize("schemas", MANY.values(), ids=MANY.keys())
def test_many_functions_hold_up_nobody(
    vocabulary: GrammarVocabulary, schemas: list[dict[str, Any]]
) -> None:
    """What all their schemas ask for together is let go or refused before it takes long."""
    vocabulary.begins(turn_grammar(HERMES, TOOLS), "a")  # learns its vocabulary
    tools = [ToolSpec(f"f{number}", None, schema) for number, schema in enumerate(schemas)]
    with little_work(3), contextlib.suppress(ConstraintBroken):
        vocabulary.begin(turn_grammar(HERMES, tools, tags=vocabulary.tags))


def test_the_factors_of_the_first_functions_are_enforced(vocabulary: GrammarVocabulary) -> None:
    """As many as can be told together; those of others are let go."""
    tools = [ToolSpec(f"f{number}", None, factor(9_000 + number)) for number in range(3)]
    grammar = turn_grammar(HERMES, tools, must_call=True, tags=vocabulary.tags)
    assert vocabulary.accepts(grammar, hermes("f0", '{"a": 9000}'))
    assert not vocabulary.accepts(grammar, hermes("f0", '{"a": 9001}'))
    assert vocabulary.accepts(grammar, hermes("f2", '{"a": 9001}'))


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_words_for_people_are_in_no_grammar(strict: bool) -> None:
    """However long they are, and however many parameters refer to what they explain."""
    told = {"title": "Words", "description": "words" * 10_000}
    day = {**ANSWER, **told, "properties": {"n": {"type": "integer", **told}}, "required": ["n"]}
    names = [f"day_{number}" for number in range(8)]
    parts = {name: {"$ref": "#/$defs/day"} for name in names}
    schema = {**ANSWER, "properties": parts, "required": names, "$defs": {"day": day}}
    for dialect in (HERMES, QWEN_CODER):
        grammar = turn_grammar(dialect, [ToolSpec("f", None, schema, strict)])
        assert "words" not in grammar.lower()


def test_parameters_that_share_much_stand_in_one_object(vocabulary: GrammarVocabulary) -> None:
    """In blocks, each would come with all of it."""
    day = {"enum": [f"value {number}" for number in range(900)]}
    names = [f"day_{number}" for number in range(300)]
    parts = {name: {"$ref": "#/$defs/day"} for name in names}
    schema = {**ANSWER, "properties": parts, "required": names, "$defs": {"day": day}}
    check_strict(schema)
    tool = ToolSpec("f", None, schema, strict=True)
    grammar = turn_grammar(QWEN_CODER, [tool], must_call=True, tags=vocabulary.tags)
    assert len(grammar) < 100_000
    arguments = json.dumps(dict.fromkeys(names, "value 899"))
    assert vocabulary.accepts(grammar, hermes("f", arguments))
    assert not vocabulary.begins(grammar, "<tool_call>\n<function=f>")
    parser = TurnParser(QWEN_CODER, [tool])
    parser.feed(hermes("f", arguments))
    parser.finish()
    assert [(name, json.loads(text)) for _, name, text in parser.calls] == [
        ("f", json.loads(arguments))
    ]


def test_properties_that_are_none_do_no_harm() -> None:
    """Where blocks would have their names."""
    tool = ToolSpec("f", None, {"type": "object", "properties": [1]})
    assert turn_grammar(QWEN_CODER, [tool], must_call=True)


DAYS = {
    "2024-02-29": True,
    "2000-02-29": True,
    "2023-02-29": False,
    "1900-02-29": False,
    "2023-02-28": True,
    "2023-04-31": False,
    "2023-12-31": True,
    "2023-13-01": False,
    "2023-00-10": False,
    "2023-1-1": False,
}


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_dates_are_days_of_the_calendar(vocabulary: GrammarVocabulary, strict: bool) -> None:
    """A year has a 29th of February where it is a leap year, wherever in a schema the date is."""
    day, moment = ({"type": "string", "format": name} for name in ("date", "date-time"))
    schema = {
        "type": "object",
        "properties": {"days": {"type": "array", "items": {"anyOf": [day, moment]}}},
        "required": ["days"],
        "additionalProperties": False,
    }
    grammar = turn_grammar(PLAIN, [], form=AnswerForm(schema, strict=strict))
    for text, exists in DAYS.items():
        for written in (text, f"{text}T23:59:59Z", f"{text}T00:00:00.25+01:30"):
            answer = json.dumps({"days": [written]})
            assert vocabulary.accepts(grammar, answer) == exists, written
    assert not vocabulary.accepts(grammar, '{"days": ["2024-02-29T24:00:00Z"]}')


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_hostnames_have_an_end(vocabulary: GrammarVocabulary, strict: bool) -> None:
    """After 253 characters, or earlier if that is asked for."""
    label = "a" * 62
    for longest, asked in ((253, {}), (253, {"maxLength": 400}), (70, {"maxLength": 70})):
        grammar = enforceable({"type": "string", "format": "hostname", **asked}, strict)
        for length in (1, longest, longest + 1):
            name = ".".join([label] * 5)[:length]
            answer = json.dumps({"a": name, "größe [int] 100%": "x"}, ensure_ascii=False)
            assert vocabulary.accepts(grammar, answer) == (length <= longest), length


FACTORS = [0.29, 0.58, 1.1, 2.2, 3.3, 4.35, 8.2, 9.95, 0.0125, 1 / 8192, 0.07, 0.57, 0.0029, 33.33]


def enforceable(shape: dict[str, Any], strict: bool) -> str:
    """The grammar of an answer with a property of this shape; checked, if it is strict."""
    properties = {"a": shape, "größe [int] 100%": {"type": "string", "enum": ["x"]}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    if strict:
        check_strict(schema)
    return turn_grammar(PLAIN, [], form=AnswerForm(schema, strict=strict))


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@pytest.mark.parametrize(
    "shape",
    [
        {"$ref": "#/properties/größe [int] 100%"},
        {"$ref": "#/properties/gr%C3%B6%C3%9Fe%20%5Bint%5D%20100%25"},
        {"type": "string", "const": "x", "$schema": "urn:foo", "title": "A", "$comment": "B"},
    ],
    ids=["characters that no URI has", "characters of URIs", "another $schema"],
)
def test_what_a_schema_calls_its_parts(
    vocabulary: GrammarVocabulary, shape: dict[str, Any], strict: bool
) -> None:
    """Any name will do, however a reference spells it; and another `$schema` changes nothing."""
    grammar = enforceable(shape, strict)
    for value, fits in (("x", True), ("y", False), (1, False)):
        answer = json.dumps({"a": value, "größe [int] 100%": "x"}, ensure_ascii=False)
        assert vocabulary.accepts(grammar, answer) == fits


@pytest.mark.parametrize("factor", FACTORS)
def test_factors_that_are_taken_are_enforced(vocabulary: GrammarVocabulary, factor: float) -> None:
    """Others are refused where they are strict, and let go where not."""
    grammar = enforceable({"type": "number", "multipleOf": factor}, strict=False)
    assert vocabulary.begins(grammar, '{"a": ')
    with contextlib.suppress(SchemaRefused):
        grammar = enforceable({"type": "number", "multipleOf": factor}, strict=True)
        assert vocabulary.begins(grammar, '{"a": ')


AWKWARD = {
    "look-around": {"pattern": "(?=a)b", "type": "string"},
    "not": {"not": {"type": "string"}, "type": "integer"},
    "unknown format": {"type": "string", "format": "phone"},
    "elsewhere": {"$ref": "https://example.invalid/schema"},
    "nowhere": {"$ref": "#/$defs/none"},
    "itself": {"$ref": "#/properties/value"},
    "both ways": {"minimum": 3, "maximum": 1},
    "inexact factor": {"type": "number", "multipleOf": 0.07},
    "type without members": {"type": "string", "anyOf": [{"type": "null"}]},
    "pattern without values": {"enum": ["a"], "pattern": "b"},
    "value out of bounds": {"enum": ["a"], "maxLength": 0},
    "long least": {"type": "string", "pattern": r"^\S.*\S$", "minLength": 100},
    "huge factor": {"type": "integer", "multipleOf": 123456789},
    "no choice": {"enum": []},
    "old tuple": {"type": "array", "items": [{"type": "integer"}], "maxItems": 1},
}


@pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD.keys())
def test_what_cannot_be_enforced_is_let_go(
    vocabulary: GrammarVocabulary, shape: dict[str, Any]
) -> None:
    """In a schema that is not strict, and nothing else of it."""
    parameters = {
        "type": "object",
        "properties": {"value": shape, "n": {"type": "integer"}},
        "required": ["n"],
    }
    grammar = turn_grammar(HERMES, [ToolSpec("f", None, parameters)], must_call=True)
    can = partial(vocabulary.accepts, spelled=True)
    assert can(grammar, hermes("f", '{"n": 1}'))
    assert not can(grammar, hermes("f", '{"n": "1"}'))


def test_a_loose_grammar_holds_to_strict_schemas_only(vocabulary: GrammarVocabulary) -> None:
    """It is what remains where the engine cannot do with the whole."""
    tools = [WEATHER, ToolSpec("trip", None, CITY, strict=True)]
    grammar = turn_grammar(HERMES, tools, must_call=True, tags=vocabulary.tags, loose=True)
    assert vocabulary.accepts(grammar, hermes("weather", '{"any": "thing"}'))
    assert not vocabulary.accepts(grammar, hermes("trip", '{"any": "thing"}'))
    assert vocabulary.accepts(grammar, hermes("trip", '{"city": "Rome"}'))
