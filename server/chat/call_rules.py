"""The rules for the calls of a turn, and for the words around which there may be some.

What is read as a call is one: words spell nothing from which whoever reads the turn would read a
call, and after what begins a call in words, a valid one must follow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from server.chat.answers import AnswerForm, without_call
from server.chat.argument_rules import arguments, fits_tags
from server.chat.bare import OBJECT
from server.chat.bare_rules import REST, BareRules
from server.chat.dialects import Dialect
from server.chat.layout import CallLayout
from server.chat.parameter import ANY_OBJECT
from server.chat.rules import Rules, quoted
from server.chat.values import ToolSpec

MOST_CALLS: Final = 128  # of one turn

_MARKER: Final = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")  # what begins calls, in what stands there
_NO_STRINGS: Final = ["object", "array", "number", "boolean", "null"]
_STRING: Final = r'/"([^"\\\x00-\x1f]|\\(["\\\/bfnrt]|u[0-9a-fA-F]{4}))*"/'


@dataclass(frozen=True, slots=True)
class _Call:
    """One function's call: as the first of a turn, behind the marker of that, and as a later one.

    `other` is another way to write a first one. `bare` is what follows on its name where no marker
    tells it; empty if it is never written so.
    """

    name: str
    first: str
    later: str
    other: str
    bare: str


class CallRules:
    """Those of one turn. `alone` is its calls and nothing else."""

    def __init__(
        self,
        rules: Rules,
        dialect: Dialect,
        layout: CallLayout,
        tools: Sequence[ToolSpec],
        *,
        parallel: bool,
    ) -> None:
        self._rules = rules
        self._dialect = dialect
        self._layout = layout
        self._has_objects = dialect.bare == OBJECT
        led = not (self._has_objects or dialect.remark_open)
        self._marker = _marker_of(layout) if led else ""
        offered = {tool.name: tool for tool in tools}
        self._names = list(offered)
        self._calls = [self._call(tool, number) for number, tool in enumerate(offered.values())]
        self._more = self._later_calls() if parallel else rules.literal(layout.section_close)
        self._rest = rules.add("calls", self._one_of([call.first for call in self._calls]))
        self.alone = f"{rules.literal(self._marker)} {self._rest}"
        if others := [call.other for call in self._calls if call.other]:
            self.alone += f" | {rules.add('other_calls', self._one_of(others))}"

    @cached_property
    def _text(self) -> str:
        return self._rules.text_without("TEXT", (self._marker, *self._dialect.barred))

    @cached_property
    def _bare(self) -> BareRules | None:
        if not self._dialect.bare:
            return None
        return BareRules(self._rules, self._dialect, self._text, self._names)

    def words(self) -> str:
        """What may be said, if nothing is called."""
        return self._bare.words() if self._bare else self._text

    def after_words(self) -> str:
        """The calls, after whatever was said."""
        dialect = self._dialect
        if dialect.remark_open:
            remark = self._rules.up_to("remark", self._text, dialect.remark_close)
            opening = self._rules.literal(dialect.remark_open)
            return f"{self.alone} | {opening} {remark} ({self.alone})"
        if self._bare is None:
            return self._marked(self._text)
        named = [self._bare.called(c.name, f"{c.bare} {self._more}") for c in self._calls if c.bare]
        if not self._marker:
            return self._bare.after_words(named)
        later = self._bare.after_words([self._marked(REST), *named])
        return f"{self._marked(self._text)} | {later}"

    def answer_beside(self, form: AnswerForm) -> str:
        """The rule for an answer, where there may be calls instead: none that is read as a call."""
        rules = self._rules
        if not self._has_objects:
            return rules.add("answer", rules.json(form.schema, strict=form.strict))
        if form.strict:
            return rules.add("answer", rules.json(without_call(form.schema), strict=True))
        kept = rules.held_to(form.schema)
        if kept == ANY_OBJECT:
            return self._object_but_no_call()
        return rules.add("answer", rules.json_of(without_call(kept)))

    def _one_of(self, first: Sequence[str]) -> str:
        return f"({' | '.join(first)}) {self._more}"

    def _later_calls(self) -> str:
        later = self._rules.add("next_call", " | ".join(call.later for call in self._calls))
        end = self._rules.literal(self._layout.section_close)
        return self._rules.add("more", f"{later}{{0,{MOST_CALLS - 1}}} {end}")

    def _call(self, tool: ToolSpec, number: int) -> _Call:
        spare = self._dialect.spare
        layout = self._layout if spare is None or fits_tags(tool) else spare
        literal = self._rules.literal
        given = arguments(self._rules, layout, tool, f"arguments_{number}")
        body = f"{given} {literal(layout.after)}"
        head = layout.before + tool.name + layout.between
        opening = (layout.section_open + head).removeprefix(self._marker)
        begun = self._rules.json_literal(opening) if self._has_objects else literal(opening)
        other = layout.other_before + tool.name + layout.other_between
        return _Call(
            name=tool.name,
            first=f"{begun} {body}",
            later=f"{literal(layout.separator + head)} {body}",
            other=f"{literal(other)} {body}" if layout.other_before else "",
            bare=self._after_name(given) if layout is self._layout else "",
        )

    def _after_name(self, given: str) -> str:
        """What follows on a bare call's name. A block may lack the end, too, of what it lacks."""
        layout, literal = self._layout, self._rules.literal
        between = layout.between.lstrip('">')
        if self._has_objects:
            return f"{literal(between)} {given} {literal(layout.after)}"
        block = layout.after.removesuffix(self._dialect.call_close).rstrip()
        around = literal(layout.after.removeprefix(block))
        return f"{literal(between)} {given} {literal(block)} ({around})?"

    def _marked(self, text: str) -> str:
        """The calls that begin with their marker, after a text."""
        return f"{self._rules.up_to(f'{text.lower()}_marker', text, self._marker)} {self._rest}"

    def _object_but_no_call(self) -> str:
        rules = self._rules
        add, value = rules.add, rules.add("value", rules.json({}, strict=True))
        other = add("other_value", rules.json({"type": _NO_STRINGS}, strict=True))
        add("STRING", _STRING)
        names = " | ".join(quoted(quoted(name)) for name in self._names)
        add("NAME", f"STRING & ~({names})")
        add("TYPE", f"STRING & ~({quoted(quoted('function'))})")
        add("KEY", f"STRING & ~({quoted(quoted('name'))} | {quoted(quoted('type'))})")
        named, typed = (rules.json_literal(f'"{key}": ') for key in ("name", "type"))
        colon, comma = map(rules.json_literal, (": ", ", "))
        first = add(
            "first_member",
            f"KEY {colon} {value} | {named} (NAME | {other}) | {typed} (TYPE | {other})",
        )
        more = f"({comma} STRING {colon} {value})*"
        return add("answer", f'"{{" ({first} {more})? "}}"')


def _marker_of(layout: CallLayout) -> str:
    """What a turn's calls begin with, and nothing else that is said."""
    opening = layout.section_open + layout.before
    found = _MARKER.match(opening)
    return found[0] if found else opening
