"""Named points where a test can make the process fail; a look at an empty dictionary when off.

`ASSISTANTS_FAILPOINTS="commit.after=kill:3"` ends the process with SIGKILL at the third passage;
`=raise` raises `FailpointError` there instead.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

_ITEM = re.compile(r"([\w.]+)=(kill|raise)(?::([1-9]\d*))?")
_armed: dict[str, Callable[[], None]] = {}


class FailpointError(Exception):
    """Raised by a failpoint that is armed to raise."""


def hit(name: str) -> None:
    """Pass the point `name`; does nothing unless a test armed it."""
    if _armed and (action := _armed.get(name)):
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Do `action` whenever the point `name` is passed."""
    _armed[name] = action


def disarm(name: str) -> None:
    """Make the point `name` do nothing again."""
    _armed.pop(name, None)


def arm_from(text: str) -> None:
    """Arm `name=kill[:n]` or `name=raise[:n]`, separated by commas; `n` counts passages from 1.

    Raises ValueError.
    """
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"not a failpoint: {item} (name=kill[:n] or name=raise[:n])")
        name, verb, number = match.groups()
        arm(name, _at_passage(int(number or 1), {"kill": _kill, "raise": _raise}[verb]))


def _at_passage(number: int, act: Callable[[], None]) -> Callable[[], None]:
    left = number

    def passed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            act()

    return passed


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise FailpointError
