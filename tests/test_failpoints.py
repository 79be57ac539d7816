"""Points where a test can make the process fail."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from server import failpoints
from server.failpoints import FailpointError


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    """Leave none armed behind."""
    yield
    for name in ("first", "second"):
        failpoints.disarm(name)


def test_unarmed() -> None:
    """A point that nobody armed does nothing, nor does one that was disarmed."""
    failpoints.hit("first")
    failpoints.arm_from("first=raise")
    failpoints.disarm("first")
    failpoints.hit("first")
    failpoints.disarm("never armed")


def test_armed_with_an_action() -> None:
    """The action is done at every passage of that point and of no other."""
    passed: list[str] = []
    failpoints.arm("first", lambda: passed.append("first"))
    for name in ("first", "second", "first"):
        failpoints.hit(name)
    assert passed == ["first", "first"]


def test_raising_at_a_passage() -> None:
    """`name=raise:n` raises at the n-th passage and only there."""
    failpoints.arm_from(" first=raise:2 , second=raise")
    failpoints.hit("first")
    with pytest.raises(FailpointError):
        failpoints.hit("first")
    failpoints.hit("first")
    with pytest.raises(FailpointError):
        failpoints.hit("second")


def test_killing() -> None:
    """`name=kill:n` ends the process there, with no chance to tidy up."""
    code = (
        "from server import failpoints; failpoints.arm_from('first=kill:2');"
        "failpoints.hit('first'); print('once', flush=True); failpoints.hit('first'); print('no')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "once\n"


@pytest.mark.parametrize("text", ["first", "first=explode", "first=kill:soon", "first=raise:0"])
def test_text_that_means_nothing(text: str) -> None:
    """A mistake in the variable is an error that quotes it, not a point that is silently off."""
    with pytest.raises(ValueError, match=text):
        failpoints.arm_from(text)
