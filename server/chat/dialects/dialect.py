"""What a dialect is: the markers that a family writes, and the layout of its calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from server.chat.bare import OBJECT
from server.chat.layout import CallLayout
from server.chat.values import Piece

FENCE = "```"

Form = Literal["object", "named", "tagged", "loose", "harmony"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The markers of a family, as its models write them and as its templates do.

    A call begins with `call_open`, or without it by `bare` at the start of a line, and may be
    followed by `call_tail` and then `call_close`; `silent` are markers that say nothing by
    themselves. Where a family marks its answers, too, they stand between `answer_open` and
    `answer_close`, and what is said before calls between `remark_open` and `remark_close`. What
    stands between a call's markers has one of these forms:

    - object: a JSON object of a name and arguments; several in a row, or in a list, are calls each
    - named: the name, then JSON arguments; `separators` stand between the fields of such a head,
      and `name_field` says which of them the name is
    - tagged: a block of the function with one of each parameter
    - loose: the name, then an object whose keys are bare and whose strings have markers for quotes
    - harmony: messages with headers, of which one may be addressed to a function

    Who `thinks_again` may do so behind the first words, too: a family whose templates know of it.

    `spare` is the layout for functions whose parameters cannot be told in the other.
    `sign` stands in what templates of the family write for a call. `id_length` is how long some of
    them want the ids of calls to be.
    """

    name: str
    layout: CallLayout | None = None
    form: Form = "object"
    call_open: str = ""
    call_tail: str = ""
    call_close: str = ""
    bare: str = ""
    separators: tuple[str, ...] = ()
    name_field: int = 0
    silent: tuple[str, ...] = ()
    answer_open: str = ""
    answer_close: str = ""
    remark_open: str = ""
    remark_close: str = ""
    reasoning_open: str = "<think>"
    reasoning_close: str = "</think>"
    thinks_again: bool = False
    spare: CallLayout | None = None
    sign: str = ""
    id_length: int | None = None

    @property
    def has_calls(self) -> bool:
        return self.layout is not None

    @property
    def markers(self) -> tuple[str, ...]:
        """All that a model does not write as words, as it does the fences of code."""
        known = (self.call_open, self.call_close, self.reasoning_open, self.reasoning_close)
        return tuple(m for m in (*known, *self.silent) if m and not m.startswith(FENCE))

    @property
    def frame_of_words(self) -> tuple[str, str]:
        """An answer's frame, if words like any others are what it is of."""
        marks = self.answer_open in self.silent
        return ("", "") if marks else (self.answer_open, self.answer_close)

    @property
    def barred(self) -> tuple[str, ...]:
        """What words may not spell where functions are on offer: a call would be read from there.

        Where a bare object is a call, what opens others is nothing by itself.
        """
        if self.form == "harmony":
            return self.silent
        return () if self.bare == OBJECT or not self.call_open else (self.call_open,)

    def opens_reasoning(self, prompt: Sequence[Piece]) -> bool:
        """Whether `prompt` ends inside reasoning, so that the turn begins there."""
        if not prompt or not prompt[-1].is_template:
            return False
        return prompt[-1].text.rstrip().endswith(self.reasoning_open.rstrip())
