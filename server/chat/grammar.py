"""The grammar of one turn: what a model may write, in llguidance's variant of Lark.

Composed of how its family writes calls and of the schemas that calls and answers have. Knows
nothing of how a grammar is enforced, and of tokens only that some are no text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.chat.json_schema import usable
from server.chat.layout import TAG_CLOSE, TAG_NAMED, TAG_OPEN, CallLayout
from server.chat.parameter import Parameter, parameter_of, schema_of
from server.chat.values import ToolSpec

Schema = Mapping[str, Any]

MOST_CALLS: Final = 128  # of one turn

ANYTHING: Final[Schema] = {"type": "object"}
NOTHING: Final[Schema] = {"type": "object", "properties": {}, "additionalProperties": False}

# A weak model writes white space for ever where it may: one space at most, as in JSON's two usual
# forms. The second is for those that nobody has checked.
_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_LENIENT: Final = {**_COMPACT, "lenient": True}

_MARKER: Final = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")  # what begins calls, in what stands there


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What encloses a model's reasoning, and whether the prompt has opened it already."""

    open: str
    close: str
    begun: bool = False


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The schema that an answer has as a whole; a strict one was checked to be enforceable."""

    schema: Schema
    strict: bool = False


def answer_form(response_format: Mapping[str, Any] | None) -> AnswerForm | None:
    """The form that a response format asks for; None if any text will do."""
    match (response_format or {}).get("type"):
        case "json_object":
            return AnswerForm(ANYTHING)
        case "json_schema":
            described = (response_format or {})["json_schema"]
            schema = described.get("schema")
            return AnswerForm(ANYTHING if schema is None else schema, bool(described.get("strict")))
    return None


def turn_grammar(
    layout: CallLayout | None,
    tools: Sequence[ToolSpec],
    *,
    must_call: bool = False,
    parallel: bool = True,
    form: AnswerForm | None = None,
    frame: tuple[str, str] = ("", ""),
    remark: tuple[str, str] = ("", ""),
    thoughts: Thoughts | None = None,
    tags: Mapping[str, int] | None = None,
    loose: bool = False,
) -> str:
    """The grammar of a turn; empty if the model may write what it likes.

    Without a layout there are no calls. An answer may stand in its `frame`, if its family has one,
    and words before calls in that of a `remark`.
    `tags` are the tokens that are no text. What is loose has
    calls and JSON where they are to be, but holds to no schema that is not strict.
    """
    grammar = _Grammar(tags or {}, loose=loose)
    calls = grammar.calls(layout, tools, parallel=parallel) if layout and tools else None
    if calls and must_call:
        turn = grammar.marked(calls)
    elif calls and form:
        turn = f"{grammar.framed(frame, grammar.answer(form))} | {grammar.marked(calls)}"
    elif calls:
        found = grammar.found_in_text(calls, remark)
        turn = f"{grammar.framed(frame, 'TEXT')} | {found}"
    elif form:
        turn = grammar.framed(frame, grammar.answer(form))
    else:
        return ""
    grammar.rule("start", grammar.after_thoughts(thoughts, grammar.rule("turn", turn)))
    return grammar.text


def words_grammar(
    layout: CallLayout,
    called: Sequence[ToolSpec],
    *,
    frame: tuple[str, str] = ("", ""),
    thoughts: Thoughts | None = None,
    tags: Mapping[str, int] | None = None,
) -> str:
    """The grammar of a turn that may not call, after a conversation with calls of these functions.

    What looks like a call would be read as words, so nothing that begins like one is written.
    """
    grammar = _Grammar(tags or {}, loose=False)
    words = grammar.words(grammar.calls(layout, called, parallel=False))
    turn = grammar.rule("turn", grammar.framed(frame, words))
    grammar.rule("start", grammar.after_thoughts(thoughts, turn))
    return grammar.text


@dataclass(frozen=True, slots=True)
class _Calls:
    """The marker that a turn's calls begin with, and the rule for all that follows on it."""

    marker: str
    rest: str


class _Grammar:
    """Rules as they are written down."""

    def __init__(self, tags: Mapping[str, int], *, loose: bool) -> None:
        self._tags = tags
        self._loose = loose
        longest_first = sorted(tags, key=len, reverse=True)
        self._tag = re.compile("|".join(map(re.escape, longest_first)) or r"\b\B")
        self._rules: dict[str, str] = {}

    @property
    def text(self) -> str:
        return "".join(f"{name}: {body}\n" for name, body in self._rules.items())

    def rule(self, name: str, body: str) -> str:
        """Its name, once it is written down; options may follow on it, in brackets."""
        self._rules[name] = body or '""'
        return name.partition("[")[0]

    def literal(self, text: str) -> str:
        """The text: its tags by their ids, the rest as it is spelled."""
        symbols = []
        place = 0
        for tag in self._tag.finditer(text):
            symbols += [_quoted(text[place : tag.start()]), f"<[{self._tags[tag[0]]}]>"]
            place = tag.end()
        return " ".join(filter(None, [*symbols, _quoted(text[place:])]))

    def json(self, schema: Schema, *, strict: bool) -> str:
        """JSON of this schema, or of what can be enforced of it."""
        if strict:
            kept = {key: value for key, value in schema.items() if key != "$schema"}
            return f"%json {json.dumps({**kept, 'x-guidance': _COMPACT})}"
        kept = usable(ANYTHING if self._loose else schema)
        return f"%json {json.dumps({**kept, 'x-guidance': _LENIENT})}"

    def answer(self, form: AnswerForm) -> str:
        """The rule for an answer that has a form."""
        return self.rule("answer", self.json(form.schema, strict=form.strict))

    def calls(self, layout: CallLayout, tools: Sequence[ToolSpec], *, parallel: bool) -> _Calls:
        """The rules for the calls of a turn."""
        opening = layout.section_open + layout.before
        found = _MARKER.match(opening)
        marker = found[0] if found else opening
        first: list[str] = []
        following: list[str] = []
        for number, tool in enumerate({tool.name: tool for tool in tools}.values()):
            given = self._arguments(layout, tool, number)
            head, tail = tool.name + layout.between, self.literal(layout.after)
            begun = self.literal(opening[len(marker) :] + head)
            again = self.literal(layout.separator + layout.before + head)
            first.append(f"{begun} {given} {tail}")
            following.append(f"{again} {given} {tail}")
        body = self.rule("first_call", " | ".join(first))
        if parallel:
            more = self.rule("next_call", " | ".join(following))
            body += f" {more}{{0,{MOST_CALLS - 1}}}"
        return _Calls(marker, self.rule("calls", f"{body} {self.literal(layout.section_close)}"))

    def marked(self, calls: _Calls) -> str:
        """The calls with their marker."""
        return f"{self.literal(calls.marker)} {calls.rest}"

    def framed(self, frame: tuple[str, str], answer: str) -> str:
        """The answer, with or without what its family puts around it."""
        if not any(frame):
            return answer
        opening, close = map(self.literal, frame)
        return f"{answer} | {opening} {answer} {close}"

    def found_in_text(self, calls: _Calls, remark: tuple[str, str]) -> str:
        """The calls after whatever was said: once their marker is written, they must follow."""
        self.words(calls)
        if calls.marker in self._tags:
            lead = self.rule("lead", f"TEXT {self.literal(calls.marker)}")
        else:
            lead = self.rule("lead[lazy]", "ANY MARKER")
        found = f"{lead} {calls.rest}"
        if any(remark):
            opening, close = map(self.literal, remark)
            found += f" | {opening} TEXT {close} {self.marked(calls)}"
        return found

    def words(self, calls: _Calls) -> str:
        """The rule for text without what calls begin with."""
        self.rule("ANY", "/(?s:.*)/")
        self.rule("MARKER", _quoted(calls.marker))
        return self.rule("TEXT", "ANY & ~(ANY MARKER ANY)")

    def after_thoughts(self, thoughts: Thoughts | None, turn: str) -> str:
        """The turn after reasoning, where the model is in it or has a token to begin it with."""
        if thoughts is None or not (thoughts.begun or self._tag.match(thoughts.open)):
            return turn
        self.rule("ANY", "/(?s:.*)/")
        self.rule("GAP", r"/\n{1,2}/")
        if self._tag.match(thoughts.close):
            thought = self.rule("thought", f"ANY {self.literal(thoughts.close)}")
        else:
            thought = self.rule("thought[lazy]", f"ANY {_quoted(thoughts.close)}")
        if thoughts.begun:
            return f"{thought} GAP? {turn}"
        return f"({self.literal(thoughts.open)} {thought} GAP?)? {turn}"

    def _arguments(self, layout: CallLayout, tool: ToolSpec, number: int) -> str:
        name = f"arguments_{number}"
        schema = NOTHING if tool.parameters is None else {**tool.parameters, **ANYTHING}
        if layout.arguments == "tagged":
            blocks = self._tagged(schema, name, strict=tool.strict)
            return self.rule(name, " ".join(blocks))
        return self.rule(name, self.json(schema, strict=tool.strict))

    def _tagged(self, schema: Schema, owner: str, *, strict: bool) -> Iterator[str]:
        """A block for each property, in the schema's order; what is not required may be absent."""
        known = schema if strict else usable(ANYTHING if self._loose else schema)
        properties, required = known.get("properties"), known.get("required", ())
        if not properties:
            yield from self._tagged_freely(known)
            return
        for place, name in enumerate(properties):
            value = self._value(parameter_of(known, name), schema_of(known, name), strict=strict)
            rule = self.rule(f"{owner}_{place}", f"{_quoted(TAG_OPEN + name + TAG_NAMED)} {value}")
            yield rule if name in required else f"{rule}?"

    def _tagged_freely(self, schema: Schema) -> Iterator[str]:
        if schema.get("additionalProperties", True) is not False:
            opening, end = map(_quoted, (TAG_OPEN, TAG_NAMED))
            name = self.rule("NAME", r"/[^>\n]+/")
            yield f"({opening} {name} {end} {self._told()})*"

    def _value(self, parameter: Parameter, schema: Schema, *, strict: bool) -> str:
        """Strings that have no rules are written as they are, everything else as JSON."""
        if parameter.choices:
            choices = " | ".join(map(_quoted_or_nothing, parameter.choices))
            return f"({choices}) {_quoted(TAG_CLOSE)}"
        if parameter.takes_any_text or not (strict or parameter.types):
            return self._told()
        return f"{self.json(schema, strict=strict)} {_quoted(TAG_CLOSE)}"

    def _told(self) -> str:
        """Whatever text, up to the end of its block."""
        self.rule("ANY", "/(?s:.*)/")
        self.rule("END", _quoted(TAG_CLOSE.strip()))
        self.rule("BARE", "ANY & ~(ANY END ANY)")
        return self.rule("told[lazy]", f"BARE {_quoted(TAG_CLOSE)}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _quoted_or_nothing(text: str) -> str:
    return _quoted(text) or '""'
