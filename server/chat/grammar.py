"""The grammar of one turn: what a model may write, in llguidance's variant of Lark.

Composed of how its family writes calls and of the schemas that calls and answers have. Knows
nothing of how a grammar is enforced, and of tokens only that some are no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.chat.answers import AnswerForm
from server.chat.call_rules import CallRules
from server.chat.dialects import Dialect
from server.chat.rules import Rules
from server.chat.values import ToolSpec


def turn_grammar(
    dialect: Dialect,
    tools: Sequence[ToolSpec],
    *,
    must_call: bool = False,
    parallel: bool = True,
    form: AnswerForm | None = None,
    in_reasoning: bool = False,
    tags: Mapping[str, int] | None = None,
    loose: bool = False,
) -> str:
    """The grammar of a turn; empty if the model may write what it likes.

    `in_reasoning` says whether the prompt has begun that, `tags` which tokens are no text. What is
    loose has calls and JSON where they are to be, but holds to no schema that is not strict.
    """
    rules = Rules(tags or {}, loose=loose)
    turn = _turn(rules, dialect, tools, form, must_call=must_call, parallel=parallel)
    if not turn:
        return ""
    rules.add("start", _after_thoughts(rules, dialect, rules.add("turn", turn), begun=in_reasoning))
    return rules.text


def words_grammar(
    dialect: Dialect,
    called: Sequence[ToolSpec],
    *,
    in_reasoning: bool = False,
    tags: Mapping[str, int] | None = None,
) -> str:
    """The grammar of a turn that may not call, after a conversation with calls of these functions.

    What looks like a call would be read as words, so nothing that begins like one is written. Empty
    where the family has no calls.
    """
    if dialect.layout is None:
        return ""
    rules = Rules(tags or {}, loose=False)
    calls = CallRules(rules, dialect, dialect.layout, called, parallel=False)
    turn = rules.add("turn", _framed(rules, dialect, calls.words()))
    rules.add("start", _after_thoughts(rules, dialect, turn, begun=in_reasoning))
    return rules.text


def _turn(
    rules: Rules,
    dialect: Dialect,
    tools: Sequence[ToolSpec],
    form: AnswerForm | None,
    *,
    must_call: bool,
    parallel: bool,
) -> str:
    if not tools or dialect.layout is None:
        if form is None:
            return ""
        answer = rules.add("answer", rules.json(form.schema, strict=form.strict))
        return _framed(rules, dialect, answer)
    calls = CallRules(rules, dialect, dialect.layout, tools, parallel=parallel)
    if must_call:
        return calls.alone
    if form is None:
        return f"{_framed(rules, dialect, calls.words())} | {calls.after_words()}"
    answer = calls.answer_beside(form)
    return f"{_framed(rules, dialect, answer)} | {calls.alone}"


def _framed(rules: Rules, dialect: Dialect, answer: str) -> str:
    """The answer, with or without what its family puts around it: harmony has no other messages."""
    if not dialect.answer_open:
        return answer
    opening, close = map(rules.literal, (dialect.answer_open, dialect.answer_close))
    framed = f"{opening} {answer} {close}"
    return framed if dialect.form == "harmony" else f"{answer} | {framed}"


def _after_thoughts(rules: Rules, dialect: Dialect, turn: str, *, begun: bool) -> str:
    """The turn after reasoning, where the model is in it or has a token to begin it with."""
    opening, close = dialect.reasoning_open, dialect.reasoning_close
    if not (begun or rules.begins_with_tag(opening)):
        return turn
    rules.add("GAP", r"/\n{1,2}/")
    ends = (close, *(dialect.barred if dialect.form == "harmony" else ()))
    thought = rules.up_to("thought", rules.text_without("THOUGHT", ends), close)
    return (
        f"{thought} GAP? {turn}" if begun else f"({rules.literal(opening)} {thought} GAP?)? {turn}"
    )
