"""Where a text that is read piece by piece has code or a formula, as Markdown marks them.

Code is between runs of backticks, or of three and more tildes; formulas are between dollars, or in
`\\(…\\)` and `\\[…\\]`. A dollar before a digit is money, and one before capitals that no operator
follows is part of a name (`$AAPL`). What never closes ends with its line, its paragraph or, of a
block of code, the text.
"""

from __future__ import annotations

import re
from typing import Final

_MARKS: Final = "`~$"
_BLOCK: Final = 3  # marks that begin a block of code
# Behind a dollar: a name as far as what follows it shows, and what may become one.
_NAME: Final = re.compile(
    r"""[A-Z]{2,}(?:[._-][A-Z0-9]+)*(?:[,;:!?)'’"”\n]|[.-](?=[^A-Z0-9])|\s+[^\s$\\=<>+*/^_|&~-])"""
)
_NAME_BEGUN: Final = re.compile(r"[A-Z]*(?:(?<=[A-Z]{2})(?:[._-][A-Z0-9]+)*[._-]?\s*)?")
_FORMULAS: Final = {"\\(": "\\)", "\\[": "\\]"}


class Verbatim:
    """Reads one text. What a run of marks means is known when what follows it is."""

    def __init__(self) -> None:
        self._until = ""  # what ends the code or the formula that the text has come to
        self._run = ""  # of marks, at the end of what was read
        self._before_run = ""
        self._name: str | None = None  # behind a dollar, while it may be one
        self._last = ""  # character that was read; none if it was escaped

    def holds(self, following: str) -> bool:
        """Whether this text, which comes next, begins in code or in a formula."""
        self._settle(following[0])
        if self._name is not None and _NAME.match(self._name + following):
            self._end()
        return bool(self._until)

    def read(self, text: str) -> None:
        for character in text:
            if self._run and character == self._run[0]:
                self._run += character
                continue
            self._settle(character)
            self._read(character)

    def _read(self, character: str) -> None:
        if self._name is not None:
            self._read_name(self._name + character)
        escapes = self._last == "\\" and not self._in_code
        if escapes and character != "\n":
            self._pair("\\" + character)
            self._last = ""
            return
        if character == "\n":
            self._end_of_line(is_paragraph=self._last == "\n")
        elif character in _MARKS:
            self._run, self._before_run = character, self._last
        self._last = character

    def _read_name(self, name: str) -> None:
        """What stands behind a dollar."""
        if _NAME.match(name):
            self._end()
        else:
            self._name = name if _NAME_BEGUN.fullmatch(name) else None

    def _end(self) -> None:
        """There is no code and no formula any more, or there was none."""
        self._until, self._name = "", None

    def _pair(self, pair: str) -> None:
        if pair == self._until:
            self._end()
        elif not self._until:
            self._until = _FORMULAS.get(pair, "")

    def _end_of_line(self, *, is_paragraph: bool) -> None:
        is_block = self._in_code and len(self._until) >= _BLOCK
        in_line = self._until == "$" or (self._in_code and not is_block)
        if in_line or (is_paragraph and not is_block):
            self._end()

    def _settle(self, following: str) -> None:
        """What the run of marks was, before this character."""
        run, self._run = self._run, ""
        if not run:
            return
        if self._until:
            if self._closes(run):
                self._end()
        elif self._opens(run, following):
            self._until = run
            self._name = "" if run == "$" else None

    def _closes(self, run: str) -> bool:
        is_block = self._in_code and len(self._until) >= _BLOCK
        return run == self._until or (is_block and run.startswith(self._until))

    def _opens(self, run: str, following: str) -> bool:
        if run[0] == "`":
            return True
        if run[0] == "~":
            return len(run) >= _BLOCK
        is_money = self._before_run.isalnum() or following.isspace() or following.isdigit()
        return run == "$$" or (run == "$" and not is_money)

    @property
    def _in_code(self) -> bool:
        return self._until[:1] in ("`", "~")
