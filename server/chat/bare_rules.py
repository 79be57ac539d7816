"""The rules for words in which a call may begin that no marker tells.

Where a line begins like one, the name that follows decides: that of a function on offer is called,
and the call must be a valid one; any other is words, and a later line may begin like a call again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from server.chat.bare import INDENT, OBJECT, OBJECT_HEADS, parts_of
from server.chat.dialects import Dialect
from server.chat.rules import Rules, quoted

REST: Final = "REST"  # the terminal for what may be said where a line has begun like a call


class BareRules:
    """For functions with these names. `text` is the terminal for what else may be said.

    It need not exclude what begins calls: where that is written, a lazy rule ends.
    """

    def __init__(self, rules: Rules, dialect: Dialect, text: str, names: Iterable[str]) -> None:
        self._rules, self._text = rules, text
        objects = dialect.bare == OBJECT
        self._name_end = '"' if objects else ">"
        add, anything = rules.add, rules.any_text()
        add("SPACES", r"/[ \t\r\n]*/")
        add("INDENT", f"/[{quoted(INDENT)[1:-1]}]*/")
        heads = [" SPACES ".join(map(quoted, parts_of(head))) for head in OBJECT_HEADS]
        add("HEAD", " | ".join(heads) if objects else quoted(dialect.bare))
        again = f'{anything} ("\\n" | {quoted(dialect.reasoning_close)}) INDENT'
        fenced = f" | {anything} {quoted(dialect.call_open)} SPACES" if objects else ""
        add("AGAIN", again + fenced)
        add("LINE", "INDENT | AGAIN")
        add("NAMED", " | ".join(quoted(name + self._name_end) for name in names))
        add(REST, f"{text} & ~(NAMED {anything})")
        add("lead[lazy]", f"({text} & LINE) HEAD")
        add("lead_again[lazy]", f"({REST} & AGAIN) HEAD")

    def words(self) -> str:
        """What may be said, if nothing is called."""
        said = self._rules.add("said", f"{REST} | lead_again said")
        return f"{self._text} | lead {said}"

    def called(self, name: str, rest: str) -> str:
        """A call behind how such a line begins, and what follows on the function's name."""
        return f"{quoted(name + self._name_end)} {rest}"

    def after_words(self, calls: Iterable[str]) -> str:
        """The calls that may follow on how such a line begins, at once or after more words."""
        called = self._rules.add("called", " | ".join([*calls, "lead_again called"]))
        return f"lead {called}"
