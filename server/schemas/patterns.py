"""Patterns in schemas: which of them an automaton can follow while text comes in."""

from __future__ import annotations

import re
from typing import Any, Final

LONGEST_PATTERN: Final = 1_000
MOST_PATTERN_STEPS: Final = 10_000

_Part = tuple[str | None, str]

_PATTERN_PARTS: Final = re.compile(
    r"(?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<escape>\\(?:[pP]\{[^}]*\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.))"
    r"|(?P<repeat>\{\d+(?:,\d*)?\})"
    r"|(?P<open>\((?:\?(?::|P?<[A-Za-z_]\w*>)|(?!\?)))"
    r"|(?P<other>.)",
    re.DOTALL,
)
_BEYOND: Final = re.compile(r"\\[bBAZzGkK0-9]")  # escapes that look around or back
_SET: Final = re.compile(r"\[.*(?:\[|&&|--|~~|\|\||\\b)", re.DOTALL)  # not a class everywhere
_PROPERTY: Final = re.compile(r"\\[pP]\{[^}]*\}")


def is_plain_pattern(pattern: Any) -> bool:
    """A regular expression in the narrow sense, of bearable size."""
    if not isinstance(pattern, str) or len(pattern) > LONGEST_PATTERN:
        return False
    parts = [(part.lastgroup, part[0]) for part in _PATTERN_PARTS.finditer(pattern)]
    if any(map(_goes_beyond, parts)) or not _anchors_fit(parts):
        return False
    try:
        re.compile(_PROPERTY.sub("p", pattern).replace("(?<", "(?P<"))
    except (re.error, OverflowError, RecursionError):
        return False
    return _steps(parts) <= MOST_PATTERN_STEPS


def _goes_beyond(part: _Part) -> bool:
    """What looks around or back, or is read in more than one way."""
    kind, text = part
    if kind == "escape":
        return _BEYOND.match(text) is not None
    if kind == "class":
        return _SET.match(text) is not None
    return kind == "other" and text in ("{", "(")


def _anchors_fit(parts: list[_Part]) -> bool:
    """Whether they stand at the ends of whole alternatives."""
    depth = 0
    edge: _Part = ("other", "|")
    for before, (kind, text), after in zip([edge, *parts], parts, [*parts[1:], edge], strict=False):
        depth += (kind == "open") - ((kind, text) == ("other", ")"))
        neighbour = {"^": before, "$": after}.get(text) if kind == "other" else None
        if neighbour is not None and (depth > 0 or neighbour != edge):
            return False
    return True


def _steps(parts: list[_Part]) -> int:
    """How many characters it has once its repetitions are written out."""
    outer: list[int] = []
    total = last = 0
    for kind, text in parts:
        if kind == "open":
            outer.append(total)
            total = last = 0
        elif text == ")" and kind == "other" and outer:
            last, total = total, outer.pop() + total
        elif kind == "repeat":
            times = max(int(number) for number in re.findall(r"\d+", text))
            total += last * (times - 1)
            last *= times
        else:
            last = 1
            total += 1
    return total
