"""Patterns in schemas: which of them an automaton can follow while text comes in."""

from __future__ import annotations

import re
from math import inf
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


Widths = tuple[int, float]  # how many characters, at least and at most


def lengths(pattern: str) -> Widths:
    """Of the texts in which this plain pattern finds something."""
    parts = [(part.lastgroup, part[0]) for part in _PATTERN_PARTS.finditer(pattern)]
    ways = 1 + _at_top(parts, "|")
    least, most = _widths(parts)
    return least, most if _at_top(parts, "^") == _at_top(parts, "$") == ways else inf


def _at_top(parts: list[_Part], sign: str) -> int:
    """How often this stands in no group."""
    depth = found = 0
    for kind, text in parts:
        depth += (kind == "open") - ((kind, text) == ("other", ")"))
        found += depth == 0 and (kind, text) == ("other", sign)
    return found


def _widths(parts: list[_Part]) -> Widths:
    """Of an expression. In each group are alternatives, and in each of these parts that follow."""
    groups: list[list[list[Widths]]] = [[[]]]
    for kind, text in parts:
        if kind == "open":
            groups.append([[]])
        elif (kind, text) == ("other", ")"):
            whole = _widest(groups.pop())
            groups[-1][-1].append(whole)
        elif (kind, text) == ("other", "|"):
            groups[-1].append([])
        elif kind == "repeat" or text in ("*", "+", "?"):
            least, most = groups[-1][-1].pop()
            low, high = _times(text)
            groups[-1][-1].append((least * low, most * high if most and high else 0))
        elif kind != "other" or text not in ("^", "$"):
            groups[-1][-1].append((1, 1))
    return _widest(groups[0])


def _widest(alternatives: list[list[Widths]]) -> Widths:
    least = min(sum(low for low, _ in parts) for parts in alternatives)
    return least, max(sum(high for _, high in parts) for parts in alternatives)


def _times(repeat: str) -> Widths:
    """How often a part may be there. A `?` behind another one, too: it makes nothing longer."""
    if repeat in _SIGNS:
        return _SIGNS[repeat]
    low, comma, high = repeat[1:-1].partition(",")
    return int(low), inf if comma and not high else int(high or low)


_SIGNS: Final[dict[str, Widths]] = {"*": (0, inf), "+": (1, inf), "?": (0, 1)}


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
