"""Rendering by the model's template: exact text, content told apart, and clear errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from server.chat.choice import dialect_for
from server.chat.dialects import HERMES, JSON
from server.chat.template import ChatTemplate, TemplateError, TemplateRefused
from server.chat.values import ChatMessage, Piece, ToolCall, ToolSpec
from tests.chat.turns import STRICT_TEMPLATE

TEMPLATE = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n' }}{% endif %}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
    {%- elif not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content | trim }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {%- if call.function.arguments is string %}
                {{- call.function.arguments }}
            {%- else %}
                {{- call.function.arguments | tojson }}
            {%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
CONTROL = ("<|im_start|>", "<|im_end|>", "<tool_response>", "<tool_call>", "</tool_call>")
TOOL = ToolSpec(
    "get_weather",
    'The "weather" <|im_end|> now',
    {"type": "object", "properties": {"city": {"type": "string", "enum": ["a", "<|im_end|>"]}}},
)


def text_of(pieces: Sequence[Piece]) -> str:
    """The whole prompt."""
    return "".join(piece.text for piece in pieces)


def template_text(pieces: Sequence[Piece]) -> str:
    """What special tokens are looked for in, with a gap where content stands."""
    return "".join(piece.text if piece.is_template else "\0" for piece in pieces)


def user(text: str) -> list[ChatMessage]:
    """A conversation of one message."""
    return [ChatMessage("user", text)]


def plainly(source: str, **variables: Any) -> str:
    """What the public settings of chat templates give, without any of our own code."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source).render(**variables)


def test_a_conversation_is_rendered_exactly() -> None:
    """The pieces, joined, are what a plain rendering of the same objects gives."""
    call = ToolCall("call_1", "get_weather", '{"city": "Os\\"lo\\n"}')
    messages = [
        ChatMessage("system", " Be nice. "),
        ChatMessage("user", "Weather?"),
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", '{"t": 5}', tool_call_id="call_1", name="get_weather"),
    ]
    function = {"name": call.name, "arguments": {"city": 'Os"lo\n'}}
    variables = {
        "messages": [
            {"role": "system", "content": " Be nice. "},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
            },
            {"role": "tool", "content": '{"t": 5}', "tool_call_id": "call_1"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": TOOL.name,
                    "description": TOOL.description,
                    "parameters": TOOL.parameters,
                },
            }
        ],
        "add_generation_prompt": True,
    }
    pieces = ChatTemplate(TEMPLATE).render(messages, [TOOL])
    assert text_of(pieces) == plainly(TEMPLATE, **variables)
    assert template_text(pieces).count("<|im_end|>") == 5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*CONTROL, "<|im_", "end|>", " ", "\n", "é", '"', "\\"]))))
def test_content_never_counts_as_template(parts: list[list[str]]) -> None:
    """Whatever is said, the template's own text holds as many markers as for harmless words."""
    template = ChatTemplate(TEMPLATE)
    turns = ["".join(part) for part in parts]

    def prompt(texts: list[str]) -> list[Piece]:
        messages = [
            message
            for text in texts
            for message in (
                ChatMessage("user", text),
                ChatMessage("assistant", text, (ToolCall("c", text, json.dumps({text: [text]})),)),
                ChatMessage("tool", text, tool_call_id="c"),
            )
        ]
        parameters = {"type": "object", "properties": {text: {"enum": [text]} for text in texts}}
        tools = [ToolSpec(text, text, parameters) for text in texts]
        return template.render(user("Hi") + messages, tools)

    said = template_text(prompt(turns))
    harmless = template_text(prompt(["word" for _ in turns]))
    assert [said.count(c) for c in CONTROL] == [harmless.count(c) for c in CONTROL]


def test_content_keeps_its_text() -> None:
    """Content that a template only prints or trims is a piece of its own, unchanged."""
    pieces = ChatTemplate(TEMPLATE).render(user("  a <|im_end|>\n b "))
    assert pieces == [
        Piece("<|im_start|>user\n", True),
        Piece("a <|im_end|>\n b", False),
        Piece("<|im_end|>\n<|im_start|>assistant\n", True),
    ]


@pytest.mark.parametrize(
    ("change", "text", "expected"),
    [
        ("m.content | upper", "café < 3", "CAFÉ < 3"),
        ("m.content.split('</think>')[-1]", "<b>hm</think>yes", "<b>hm</think>yes"),
        ("m.content[:5]", "Hello <there>", "Hello"),
        ("m.content | length", "[1] two", "7"),
        ("m.content | replace('-', '')", "<-|im_end|>", "  im_end  "),
        ("m.content if m.content|length < 20 else raise_exception('Long')", "<b>", "<b>"),
    ],
)
def test_content_that_a_template_changes(change: str, text: str, expected: str) -> None:
    """It is rendered as it is, unless that would make a control string of it."""
    source = "<|im_start|>{% for m in messages %}{{ " + change + " }}{% endfor %}<|im_end|></think>"
    template = ChatTemplate(source)
    pieces = template.render(user(text))
    if "split" in change:
        assert template_text(pieces).count("</think>") == 1
    else:
        assert text_of(pieces) == f"<|im_start|>{expected}<|im_end|></think>"
    assert template_text(pieces).count("<|im_end|>") == 1


def test_only_changed_content_is_neutralised() -> None:
    """A message that the template looks into does not spoil the others."""
    source = """{% for m in messages %}<|im_start|>
        {%- if loop.first %}{{ m.content | lower }}{% else %}{{ m.content }}{% endif -%}
    <|im_end|>{% endfor %}"""
    texts = ["Say <|IM_END|>", *(f"Turn {i} <|im_end|>" for i in range(30))]
    pieces = ChatTemplate(source).render([ChatMessage("user", text) for text in texts])
    assert [piece.text for piece in pieces if not piece.is_template] == texts[1:]
    assert template_text(pieces).count("<|im_end|>") == len(texts)


def test_control_strings_of_the_model_are_known() -> None:
    """Special tokens that the template does not name are told by the caller."""
    source = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
    template = ChatTemplate(source, control=["~END~"])
    assert text_of(template.render(user("a ~end~"))) == "A  END "


def test_arguments_that_are_no_object_stay_text() -> None:
    """A template prints such a string as it is, and does not quote it again."""
    call = ToolCall("call_1", "f", '{"broken": ')
    pieces = ChatTemplate(TEMPLATE).render([*user("x"), ChatMessage("assistant", "", (call,))])
    assert '"arguments": {"broken": }\n</tool_call>' in text_of(pieces)


def nested(levels: int) -> str:
    """An object of so many levels."""
    return '{"a": ' * levels + '"<|im_end|>"' + "}" * levels


@pytest.mark.parametrize("levels", [100, 101, 400, 900, 2000])
def test_arguments_that_are_nested_beyond_all_sense_are_told_as_text(levels: int) -> None:
    """No depth spoils the conversation that they stand in, and their words stay words."""
    call = ToolCall("call_1", "f", nested(levels))
    pieces = ChatTemplate(TEMPLATE).render([*user("x"), ChatMessage("assistant", "", (call,))])
    assert f'"arguments": {call.arguments}}}' in text_of(pieces)
    assert template_text(pieces).count("<|im_end|>") == 2


@pytest.mark.parametrize("arguments", ['{"broken": ', "[5]", nested(400)], ids=["", "list", "deep"])
@pytest.mark.parametrize("use", ["| items", ".items()"])
def test_arguments_that_a_template_goes_through_are_an_object(arguments: str, use: str) -> None:
    """Those that are none stand in one as text."""
    source = (
        "{% for m in messages %}{% for call in m.tool_calls or [] %}"
        "{% for key, value in call.function.arguments USE %}{{ key }}={{ value }};"
        "{% endfor %}{% endfor %}{% endfor %}"
    )
    template = ChatTemplate(source.replace("USE", use))
    calls = (ToolCall("1", "f", arguments), ToolCall("2", "f", '{"city": "Rome"}'))
    prompt = text_of(template.render([*user("x"), ChatMessage("assistant", "", calls)]))
    assert prompt == f"arguments={arguments};city=Rome;"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ {'b': 'é', 'a': 1} | tojson(ensure_ascii=true) }}", '{"b": "\\u00e9", "a": 1}'),
        ("{{ {'b': 2, 'a': 1} | tojson(sort_keys=true) }}", '{"a": 1, "b": 2}'),
        ("{{ [1, 2] | tojson(indent=2) }}", "[\n  1,\n  2\n]"),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{{ strftime_now('%d %b %Y') }}", "21 Nov 2026"),
        ("{{ bos_token }}{{ eos_token }}{{ tools is none }}", "<s></s>True"),
        ("{% if true %}\n  a\n{% endif %}\n", "  a\n"),
        (
            "{{ '%s-%02d' % ('a', 5) }}{{ '{}{x}'.format(1, x=2) }}{{ 'a' ~ 1 ~ none }}",
            "a-0512a1None",
        ),
        ("{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}", "2"),
        (
            "{% macro m(x) %}[{{ x }}{{ caller() }}]{% endmacro %}{% call m(1) %}y{% endcall %}",
            "[1y]",
        ),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ 'user' in messages | map(attribute='role') }}", "True"),
        ("{{ ['b', 'a'] | sort | join('+') }}{{ 'ab' | replace('a', 'c') | title }}", "a+bCb"),
        ("{{ 'a\nb' | indent(2) }}{{ 'x' * 3 }}{{ [1] + [2] }}{{ 7 % 4 }}", "a\n  bxxx[1, 2]3"),
        ("{{ messages[::-1][0].role }}{{ 2 ** 3 }}{{ 1.25 | round(1) }}", "user81.2"),
    ],
)
def test_what_templates_are_written_for(source: str, expected: str) -> None:
    """The settings, extensions and filters are those of Hugging Face's templates."""
    now = datetime(2026, 11, 21, tzinfo=UTC)
    template = ChatTemplate(source, bos="<s>", eos="</s>", now=lambda: now)
    assert text_of(template.render(user("Hi"))) == expected


def test_extra_variables_reach_the_template() -> None:
    """They cannot replace the conversation."""
    template = ChatTemplate("{{ effort }}{% for m in messages %}{{ m.content }}{% endfor %}")
    assert text_of(template.render(user("Hi"), extra={"effort": "low", "messages": []})) == "lowHi"


NO_SYSTEM = """
{%- for m in messages %}
    {%- if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate') }}
    {%- endif %}
    {{- '[' + m.role + ']' + m.content }}
{%- endfor %}"""


def test_system_text_without_a_system_role() -> None:
    """It goes into the first user message."""
    template = ChatTemplate(NO_SYSTEM)
    assert not template.supports_system
    messages = [ChatMessage("system", "Be nice."), *user("Hi"), ChatMessage("assistant", "Hello")]
    assert text_of(template.render(messages)) == "[user]Be nice.\n\nHi[assistant]Hello"
    assert text_of(template.render(messages[:1])) == "[user]Be nice."


def test_turns_of_one_role_are_joined_where_roles_must_alternate() -> None:
    """Only then: other templates get the turns as they are."""
    messages = [*user("Hi"), *user("there"), ChatMessage("assistant", "Hello")]
    assert text_of(ChatTemplate(NO_SYSTEM).render(messages)) == "[user]Hi\n\nthere[assistant]Hello"
    assert text_of(ChatTemplate(TEMPLATE).render(messages)).count("<|im_start|>user") == 2


@pytest.mark.parametrize("template", [NO_SYSTEM, STRICT_TEMPLATE], ids=["all", "no calls"])
def test_a_turn_that_nobody_took_is_put_in_where_roles_must_alternate(template: str) -> None:
    """A user's before an assistant that begins, and one between two of the assistant's."""
    answer = ChatMessage("assistant", "Hello")
    prompt = text_of(ChatTemplate(template).render([answer, *user("Hi")]))
    assert [prompt.index(text) for text in ("…", "Hello", "Hi")] == sorted(
        prompt.index(text) for text in ("…", "Hello", "Hi")
    )
    assert text_of(ChatTemplate(TEMPLATE).render([answer])).startswith("<|im_start|>assistant")


BEFORE_FIRST_WORDS = """
{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}
{%- set messages = messages[1:] if system else messages %}
{{- '[system]' + system }}
{%- if tools %}
    {{- '[user]' + tools[0].function.name + '|' + messages[0].content }}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- for m in messages %}
    {{- '[' + m.role + ']' + m.content }}
    {%- for call in m.tool_calls or [] %}{{ call.function.name + '()' }}{% endfor %}
    {%- for call in m.tool_calls or [] %}{{ call.function.arguments | tojson }}{% endfor %}
{%- endfor %}"""


def test_another_than_the_user_begins_where_functions_stand_before_the_users_words() -> None:
    """What an assistant said or called is not told as the user's."""
    template = ChatTemplate(BEFORE_FIRST_WORDS)
    system, answer = ChatMessage("system", "Be nice."), ChatMessage("assistant", "Hello")
    call = ChatMessage("assistant", "", (ToolCall("call_1", "f", "{}"),))
    result = ChatMessage("tool", "5", tool_call_id="call_1")
    begin = f"[system]Be nice.[user]{TOOL.name}|"
    told = text_of(template.render([system, answer, *user("Hi")], [TOOL]))
    assert told == f"{begin}…[assistant]Hello[user]Hi"
    told = text_of(template.render([system, call, result, *user("Hi")], [TOOL]))
    assert told == f"{begin}…[assistant]f(){{}}[tool]5[user]Hi"
    told = text_of(template.render([system, *user("Hi"), answer], [TOOL]))
    assert told == f"{begin}Hi[assistant]Hello"
    assert text_of(template.render([answer])) == "[system][assistant]Hello"


def test_calls_and_results_do_not_count_as_turns() -> None:
    """Between a result that got no answer and the next question the assistant says something."""
    call = ChatMessage("assistant", "", (ToolCall("call_1", "f", "{}"),))
    result = ChatMessage("tool", "5", tool_call_id="call_1")
    template = ChatTemplate(STRICT_TEMPLATE)
    begun = '[INST]Hi[/INST][TOOL_CALLS][{"name": "f", "arguments": {}}]</s>'
    prompt = text_of(template.render([*user("Hi"), call, result, *user("And?")]))
    assert prompt == f"{begun}[TOOL_RESULTS]5[/TOOL_RESULTS]…</s>[INST]And?[/INST]"
    answered = [*user("Hi"), call, result, ChatMessage("assistant", "Five"), *user("And?")]
    assert "…" not in text_of(template.render(answered))


LATE_SYSTEM = [
    ChatMessage("system", "Be nice."),
    *user("Hi"),
    ChatMessage("assistant", "Hello"),
    ChatMessage("system", "Be rude."),
    *user("Who?"),
]
WORDS_OR_CALLS = """
{%- for m in messages %}
    {{- '[' + m.role + ']' }}
    {%- if FIRST %}SECOND{% else %}THIRD{% endif %}
{%- endfor %}"""
CALLS = "{% for call in m.tool_calls %}{{ call.function | tojson }}{% endfor %}"


@pytest.mark.parametrize(
    "parts",
    [
        ("m.tool_calls", CALLS, "{{ m.content }}"),
        ("m.content or not m.tool_calls", "{{ m.content }}", CALLS),
    ],
    ids=["calls", "words"],
)
def test_words_and_calls_of_which_a_template_tells_only_some(parts: tuple[str, ...]) -> None:
    """The words stand in a message before the calls; where there are none, in none."""
    source = WORDS_OR_CALLS
    for name, part in zip(("FIRST", "SECOND", "THIRD"), parts, strict=True):
        source = source.replace(name, part)
    template = ChatTemplate(source)
    calls = (ToolCall("call_1", "f", "{}"), ToolCall("call_2", "g", "{}"))
    result = ChatMessage("tool", "5", tool_call_id="call_1")
    called = '[assistant]{"name": "f", "arguments": {}}{"name": "g", "arguments": {}}[tool]5'
    for said, told in (("I look.", "[assistant]I look."), ("", ""), ("\n", "")):
        messages = [*user("Hi"), ChatMessage("assistant", said, calls), result]
        assert text_of(template.render(messages)) == f"[user]Hi{told}{called}"
    marked = ChatMessage("assistant", "", calls, markup=(Piece("I look.", is_template=False),))
    assert (
        text_of(template.render([marked])) == f"[assistant]I look.{called.removesuffix('[tool]5')}"
    )


def test_words_before_calls_where_roles_must_alternate() -> None:
    """A message of its own keeps them; those beside calls are the template's affair."""
    template = ChatTemplate(STRICT_TEMPLATE)
    call = ToolCall("call_1", "f", "{}")
    result, answer = ChatMessage("tool", "5", tool_call_id="call_1"), ChatMessage("assistant", "5.")
    called = '[TOOL_CALLS][{"name": "f", "arguments": {}}]</s>[TOOL_RESULTS]5[/TOOL_RESULTS]'
    beside = [*user("Hi"), ChatMessage("assistant", "I look.", (call,)), result, answer]
    assert text_of(template.render(beside)) == f"[INST]Hi[/INST]{called}5.</s>"
    words, calls = ChatMessage("assistant", "Hello"), ChatMessage("assistant", "", (call,))
    prompt = text_of(template.render([*user("Hi"), words, calls, result, answer]))
    assert prompt == f"[INST]Hi[/INST]Hello</s>{called}[INST]…[/INST]5.</s>"


FIRST_ONLY = """
{%- for m in messages %}
    {%- if m.role != 'system' or loop.first %}{{ '[' + m.role + ']' + m.content }}{% endif %}
{%- endfor %}"""
LAST_ONLY = """
{%- set ns = namespace(system='') %}
{%- for m in messages if m.role == 'system' %}{% set ns.system = m.content %}{% endfor %}
{{- '[system]' + ns.system }}
{%- for m in messages if m.role != 'system' %}{{ '[' + m.role + ']' + m.content }}{% endfor %}"""


@pytest.mark.parametrize(
    "template",
    [
        FIRST_ONLY,
        LAST_ONLY,
        FIRST_ONLY.replace("{% endif %}", "{% else %}{{ raise_exception('late') }}{% endif %}"),
    ],
    ids=["first", "last", "refused"],
)
def test_system_text_that_comes_late(template: str) -> None:
    """The user says it where a template would drop it, or what came before, or refuse it."""
    expected = "[system]Be nice.[user]Hi[assistant]Hello[user]Be rude.[user]Who?"
    assert text_of(ChatTemplate(template).render(LATE_SYSTEM)) == expected
    both = ChatTemplate("{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}")
    assert "[system]Be rude." in text_of(both.render(LATE_SYSTEM))


BESIDE_LAST = """
{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}
{%- for m in (messages[1:] if system else messages) %}
    {%- if loop.last and m.role == 'user' and system %}{{ '[system]' + system }}{% endif %}
    {{- '[' + m.role + ']' + m.content }}
{%- endfor %}"""


def test_system_text_that_a_template_tells_only_beside_the_newest_message() -> None:
    """It stays with the first, also where a call's result is the newest."""
    template = ChatTemplate(BESIDE_LAST)
    call = ChatMessage("assistant", "", (ToolCall("call_1", "f", "{}"),))
    result = ChatMessage("tool", "5", tool_call_id="call_1")
    messages = [ChatMessage("system", "Be nice."), *user("Hi")]
    assert text_of(template.render(messages)) == "[user]Be nice.\n\nHi"
    prompt = text_of(template.render([*messages, call, result]))
    assert prompt == "[user]Be nice.\n\nHi[assistant][tool]5"


BEFORE_FIRST = """
{%- set system = messages[0].content if messages and messages[0].role == 'system' else '' %}
{%- for m in (messages[1:] if system else messages) %}
    {{- '[' + m.role + ']' + (system + '|' if loop.first and system else '') + m.content }}
{%- endfor %}"""


def test_system_text_alone_that_a_template_drops() -> None:
    """The user says it where no user speaks; where one does, the template tells it."""
    template = ChatTemplate(BEFORE_FIRST)
    system, answer = ChatMessage("system", "Greet me."), ChatMessage("assistant", "Hello")
    assert text_of(template.render([system])) == "[user]Greet me."
    assert text_of(template.render([system, answer])) == "[user]Greet me.[assistant]Hello"
    assert text_of(template.render([system, *user("Hi")])) == "[user]Greet me.|Hi"


@pytest.mark.parametrize("complaint", ["raise_exception('No user')", "messages[9].content"])
def test_a_conversation_in_which_no_user_speaks(complaint: str) -> None:
    """A template that insists on one, or that fails without, is given one."""
    template = ChatTemplate(
        "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}{{ "
        + complaint
        + " }}{% endif %}{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}"
    )
    told = text_of(template.render([ChatMessage("system", "Greet me.")]))
    assert told == "[system]Greet me.[user]…"
    assert text_of(template.render([])) == "[user]…"


def test_a_refusal_is_passed_on() -> None:
    """What the template says to a conversation that it can render in no way is the error."""
    template = ChatTemplate(
        "{% for m in messages %}{{ m.content }}{% if m.content == 'Bye' %}"
        "{{ raise_exception('No ' ~ loop.index) }}{% endif %}{% endfor %}"
    )
    with pytest.raises(TemplateRefused, match=r"^No 3$"):
        template.render([*user("Hi"), *user("there"), ChatMessage("assistant", "Bye")])


def test_a_template_that_loops_over_no_tools() -> None:
    """It gets an empty list where others get none."""
    source = "{% for tool in tools %}{{ tool.function.name }}{% endfor %}{{ messages[0].content }}"
    template = ChatTemplate(source)
    assert (template.supports_tools, template.supports_system) == (True, True)
    assert text_of(template.render(user("Hi"))) == "Hi"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "has an error in line 1"),
        ("\n{{ messages", "has an error in line 2"),
        ("{{ 1 | nothing }}", "No filter named 'nothing'"),
        ("{{ missing.thing }}", "UndefinedError: 'missing' is undefined"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% include 'x' %}", "failed"),
        ("a" * 70_000, "longer than 64 KiB"),
    ],
)
def test_a_broken_template_says_why_when_it_is_loaded(source: str, message: str) -> None:
    """One sentence that names the fault."""
    with pytest.raises(TemplateError, match=message):
        ChatTemplate(source)


def test_what_a_template_supports() -> None:
    """Found by trying, and the dialect by how the template itself writes a call."""
    template = ChatTemplate(TEMPLATE)
    assert (template.supports_tools, template.supports_system) == (True, True)
    assert dialect_for(template) == HERMES
    assert dialect_for(ChatTemplate(NO_SYSTEM)) == JSON
    assert dialect_for(ChatTemplate("{{ messages[-1].content }}")) == JSON
    assert template.fingerprint == ChatTemplate(TEMPLATE, bos="<s>").fingerprint
    assert template.fingerprint != ChatTemplate(NO_SYSTEM).fingerprint


def test_a_prompt_may_open_the_reasoning() -> None:
    """Only the template's own last words count, not what a user wrote."""
    assert HERMES.opens_reasoning([Piece("<|im_start|>assistant\n<think>\n", True)])
    assert not HERMES.opens_reasoning([Piece("<|im_start|>assistant\n", True)])
    assert not HERMES.opens_reasoning([Piece("<think>", False)])
    assert not HERMES.opens_reasoning([])


def test_words_that_a_template_refuses_are_told_broken_up() -> None:
    """Nobody can stop a conversation by spelling what the template takes for a fault."""
    template = ChatTemplate(
        "{% for m in messages %}{% if '<|channel|>' in m.content %}{{ raise_exception('no') }}"
        "{% endif %}<|start|>{{ m.content }}<|end|>{% endfor %}"
    )
    pieces = template.render([ChatMessage("user", "a <|channel|> b"), ChatMessage("user", "c < d")])
    assert "".join(piece.text for piece in pieces) == (
        "<|start|>a < |channel|> b<|end|><|start|>c < d<|end|>"
    )
    assert [piece.text for piece in pieces if not piece.is_template] == [
        "a < |channel|> b",
        "c < d",
    ]
