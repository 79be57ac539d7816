"""Calls that no marker tells: how they begin, for whoever reads a turn and for its grammar.

They count where a line begins, behind INDENT at most, and only if they name a function on offer.
"""

from __future__ import annotations

import re
from typing import Final

OBJECT: Final = "{"  # such a call, where it is not a block with its function's name
INDENT: Final = " \t\r"

# What stands before a function's name in such an object, but for white space.
OBJECT_HEADS: Final = ('{"name":"', '{"type":"function","name":"')

_PARTS = re.compile(r'"[^"]*"|[{}:,"]')


def parts_of(head: str) -> list[str]:
    """What of a head white space may stand between."""
    return _PARTS.findall(head)
