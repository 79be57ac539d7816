"""A template is a stranger's program: it is stopped in time, and gets at nothing."""

from __future__ import annotations

import gc
import time
import tracemalloc
from datetime import datetime

import pytest

from server.chat.sandbox import CHARACTERS_PER_STEP, Meter, Sandbox, TemplateLimit, metered
from server.chat.template import ChatTemplate, TemplateError, TemplateStopped
from server.chat.values import ChatMessage
from tests.timing import little_work

NESTED = """{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}
{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"""
TUPLES = (
    "{% set ns = namespace(x=(1,)) %}"
    "{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}"
)
BIG = "{% set a = 'ab ' * 1000000 %}"


def grown(step: str) -> str:
    """A template that doubles a text sixty times."""
    return "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}" + step + "{% endfor %}"


ENDLESS = [
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}{% for j in range(9999) if false %}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{% if n < 60 %}{{ m(n+1) }}{{ m(n+1) }}{% endif %}{% endmacro %}{{ m(0) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% for i in range(9999) recursive %}"
    "{% if loop.depth < 4 %}{{ loop(range(9999)) }}{% endif %}{% endfor %}",
    "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 40
    + "{% endcall %}" * 40,
    "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    BIG + "{% for i in range(9999) %}{% set x = a[1:] == a[2:] %}{% endfor %}",
    BIG + "{% for i in range(9999) %}{% set x = a | title %}{% endfor %}",
    BIG + "{% for i in range(9999) %}{% set x = a.split() %}{% endfor %}",
]
HUGE = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ 9**9**9 ** 9 }}",
    "{% set ns = namespace(x=3) %}{% for i in range(40) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%((a))1000000000d' % {'(a)': 1} }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a\nb' | indent(10**9) }}",
    "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "{{ ('a' * 100000) | replace('', 'b' * 100000) }}",
    "{{ (['a'] * 10000) | join('b' * 1000000) }}",
    "{{ ('b' * 1000000).join(['a'] * 10000) }}",
    "{{ (5).to_bytes(10**9, 'big') }}",
    "{{ 1.5 | round(10**9) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ ([1] * 1000) | tojson(separators=('a' * 100000, ':')) }}",
    "{{ range(10**9) | list }}",
    "{{ lipsum(n=10**6) }}",
    "{% for i in range(9999) %}{{ 'a' * 100000 }}{% endfor %}",
    "{% set x = 'a' * 3000000 %}{{ " + "~".join(["x"] * 5000) + " }}",
    grown("{% set ns.x = ns.x ~ ns.x %}"),
    grown("{% set ns.x = ns.x + ns.x %}"),
    grown("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"),
    NESTED + "{{ ns.x }}",
    NESTED + "{{ ns.x | tojson }}",
    NESTED + "{{ ns.x | upper }}",
    NESTED + "{{ [ns.x] | map('string') | list }}",
    NESTED + "{{ ns.x == ns.y }}",
    NESTED + "{{ ns.x in [ns.y] | map('first') }}",
    NESTED + "{{ ns.x is eq ns.y }}",
    NESTED + "{{ [[ns.x], [ns.y]] | map('first') | sort }}",
    NESTED + "{{ '%s' % ns.x }}{{ '{}'.format(ns.x) }}",
    NESTED + "{{ raise_exception(ns.x) }}",
    NESTED + "{{ {}[ns.x].a }}",
    NESTED + "{{ 'a' | attr(ns.x) }}",
    TUPLES + "{{ {ns.x: 1} }}",
    TUPLES + "{{ {}[ns.x] }}",
    TUPLES + "{{ {}.get(ns.x) }}",
    TUPLES + "{{ dict([(ns.x, 1)]) }}",
    TUPLES + "{{ [ns.x] | unique | list }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "9" * 50000 + " }}",
    "{{ ('f' * 400000) | int(base=16) }}",
    "{{ (('f' * 400000) | int(base=16)) // 3 }}",
]
ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'].mro() }}",
    "{{ (''|attr('__class__')).mro() }}",
    "{{ raise_exception.__globals__['x'] }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '{0.__class__.__mro__}'.format_map({'0': 1}) }}",
    "{{ ('{0.__class__.__mro__}' | attr('format'))(1) }}",
    "{{ [1] | map('{0.__class__.__mro__}'.format) | list }}",
    "{{ self._TemplateReference__context.environment.globals }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{% set x = [] %}{{ x.append(1) }}",
    "{% set x = {} %}{{ x.update(a=1) }}",
    "{% import 'os' as o %}{{ o.system }}",
    "{{ loop.__class__.__mro__ }}",
]


@pytest.mark.parametrize("source", ENDLESS + HUGE)
def test_a_hostile_template_is_stopped(source: str) -> None:
    """Within two seconds of processor time it ends in an error of our own."""
    with little_work(2), pytest.raises(TemplateError):
        ChatTemplate(source)


@pytest.mark.parametrize("source", ESCAPES)
def test_a_template_gets_at_nothing(source: str) -> None:
    """No attribute leads out of the values it was given, and nothing given can be changed."""
    with pytest.raises(TemplateError):
        ChatTemplate(source)


@pytest.mark.parametrize("key", ["[1]", "{'a': 1}", "['string', 'null']"])
def test_nothing_is_under_a_key_that_cannot_be_hashed(key: str) -> None:
    """Templates look up a schema's type in a map, and it may be a list of several."""
    source = "{% if {'a': 1}[" + key + "] is defined %}found{% else %}nothing{% endif %}"
    assert ChatTemplate(source).render([])[0].text == "nothing"
    with pytest.raises(TemplateError, match="is not a key"):
        ChatTemplate("{{ {'a': 1}[" + key + "].b }}")


def test_a_template_that_loops_only_for_some_conversations_is_stopped() -> None:
    """The limit is not only that of loading, and later conversations are rendered again."""
    template = ChatTemplate(
        "{% if messages[0].content == 'Loop' %}" + ENDLESS[0] + "{% endif %}{{ messages|length }}"
    )
    with little_work(2), pytest.raises(TemplateStopped, match="perhaps it loops without end"):
        template.render([ChatMessage("user", "Loop")])
    assert template.render([ChatMessage("user", "Hi")])[0].text == "1"


def test_a_garbage_collection_does_not_stop_a_template() -> None:
    """It falls where it falls, and is long where much was left."""

    def work(seconds: float) -> None:
        over = time.thread_time() + seconds
        while time.thread_time() < over:
            pass

    def long(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            work(0.5)

    def steps(seconds: float) -> None:
        work(seconds)
        for _ in range(64):
            meter.spend()

    meter = Meter(seconds=0.25)
    gc.callbacks.append(long)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(long)
    steps(0)
    with pytest.raises(TemplateLimit, match="too long"):
        steps(0.5)


def test_a_long_conversation_is_within_the_limits() -> None:
    """Two thousand turns, looked at in each turn as some templates do, are no attack."""
    source = """{% for m in messages %}{% if loop.index0 > messages|length - 9 %}!{% endif -%}
    {{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"""
    turns = [ChatMessage("user", f"Turn {i} " * 20) for i in range(2000)]
    pieces = ChatTemplate(source).render(turns)
    assert len([piece for piece in pieces if not piece.is_template]) == 2000


STEPS = 20_000
HOARDED = [
    "'😀' * 39000",
    "('a' * 9000).split('a')",
    "range(1000) | list",
    "['😀' * 900] | join('😀')",
    "'aaaaaaaaa' | replace('a', '😀' * 99)",
    "'%s' | format('😀' * 900)",
    "'é' ~ '😀' * 900",
    "['aé😀'] * 1000",
    "[" + "1," * 5000 + "]",
    "(" + "1," * 5000 + ")",
    "{" + ",".join(f"{i}:1" for i in range(2000)) + "}",
    "[[], [], [], [], [], [], []]",
    "namespace(a=1, b=2, c=3, d=4)",
    "dict(a=1, b=2, c=3, d=4)",
]


@pytest.mark.parametrize("value", HOARDED, ids=range(len(HOARDED)))
def test_what_a_template_may_hold(value: str) -> None:
    """Memory is paid for in steps, so that these bound what one that hoards can hold."""
    hoard = "{% set ns.all = [ns.all, " + value + "] %}"
    loops = "{% for i in range(9999) %}{% for j in range(9999) %}" + hoard
    source = "{% set ns = namespace(all=1) %}" + loops + "{% endfor %}{% endfor %}"
    template = Sandbox(datetime.now).from_string(source)
    tracemalloc.start()
    try:
        with metered(Meter(STEPS, seconds=60)), pytest.raises(TemplateLimit, match="many steps"):
            template.render({})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < STEPS * CHARACTERS_PER_STEP
