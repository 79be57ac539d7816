"""Patterns in schemas: which of them an automaton can follow while text comes in."""

from __future__ import annotations

import re
from typing import Any, Final

LONGEST_PATTERN: Final = 1_000
MOST_PATTERN_STEPS: Final = 10_000

_Part = tuple[str | None, str]

_ESCAPE: Final = r"\\(?:[pP]\{[^}]*\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)"
_PATTERN_PARTS: Final = re.compile(
    r"(?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])"
    rf"|(?P<escape>{_ESCAPE})"
    r"|(?P<repeat>\{\d+(?:,\d*)?\})"
    r"|(?P<open>\((?:\?(?::|P?<[A-Za-z_]\w*>)|(?!\?)))"
    r"|(?P<other>.)",
    re.DOTALL,
)
# Escapes that look around or back, and those that are no character everywhere.
_BEYOND: Final = re.compile(r"\\(?:[bBAZzGkK0-9<>]|u[dD][89a-fA-F]|[^\x00-\x7f])")
_SET: Final = re.compile(r"\[.*(?:\[|&&|--|~~|\|\||\\b)", re.DOTALL)  # not a class everywhere
_PROPERTY: Final = re.compile(r"\\[pP]\{([^}]*)\}")
_ESCAPES: Final = re.compile(_ESCAPE, re.DOTALL)

CATEGORIES: Final = (
    "L|Lu|Ll|Lt|Lm|Lo|M|Mn|Mc|Me|N|Nd|Nl|No|P|Pc|Pd|Ps|Pe|Pi|Pf|Po|S|Sm|Sc|Sk|So|Z|Zs|Zl|Zp|C|Cc|Cf"
    "|Letter|Uppercase_Letter|Lowercase_Letter|Mark|Number|Decimal_Number|Punctuation|Symbol"
)
SCRIPTS: Final = (
    "Arabic|Armenian|Bengali|Bopomofo|Cyrillic|Devanagari|Ethiopic|Georgian|Greek|Gujarati|Gurmukhi"
    "|Han|Hangul|Hebrew|Hiragana|Kannada|Katakana|Khmer|Lao|Latin|Malayalam|Mongolian|Myanmar"
    "|Sinhala|Tamil|Telugu|Thai|Tibetan"
)
OTHERS: Final = (
    "Any|ASCII|Alphabetic|Uppercase|Lowercase|White_Space|ID_Start|ID_Continue|Emoji"
    "|Emoji_Presentation|Extended_Pictographic"
)
# Of Unicode's properties, those that are in use: of some nobody knows who knows them.
_KNOWN: Final = re.compile(
    rf"(?:(?:gc|General_Category)=)?(?:{CATEGORIES})"
    rf"|(?:(?:sc|scx|Script|Script_Extensions)=)?(?:{SCRIPTS})|{OTHERS}"
)


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
        return _is_beyond(text)
    if kind == "class":
        return _SET.match(text) is not None or any(map(_is_beyond, _ESCAPES.findall(text)))
    return kind == "other" and text in ("{", "(")


def _is_beyond(escape: str) -> bool:
    if found := _PROPERTY.fullmatch(escape):
        return _KNOWN.fullmatch(found[1]) is None
    return _BEYOND.match(escape) is not None


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
