"""How a family of models writes function calls down, as data for the parser and for grammars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Where arguments are tagged blocks, what stands before, between and after a parameter's name and
# its value.
TAG_OPEN, TAG_NAMED, TAG_CLOSE = "<parameter=", ">\n", "\n</parameter>\n"
LONGEST_NAME = 128  # of a function or a parameter


@dataclass(frozen=True, slots=True)
class CallLayout:
    """The text around the names and arguments of one turn's calls.

    A turn's calls are `section_open`, then each call as `before`, name, `between`, arguments,
    `after`, with `separator` between two calls, then `section_close`. Special tokens stand in these
    strings as they are spelled. `arguments` says how the arguments are written: as a JSON object,
    or as one tagged block a parameter. Some families write a first call in another way, too: with
    `other_before` and `other_between`.
    """

    before: str
    between: str
    after: str
    section_open: str = ""
    section_close: str = ""
    separator: str = ""
    arguments: Literal["json", "tagged"] = "json"
    other_before: str = ""
    other_between: str = ""
