"""What the machine at hand cannot test, for want of something: named loudly at the end of the run.

A test that lacks a sandbox, packages or a model calls `not_tested`. Where a run is relied on to
have everything, which is what `CI` says, it fails.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

_SIGN = "NOT TESTED: "


def not_tested(what: str, why: str) -> NoReturn:
    """Skip whatever asks, a test or a fixture: `what` is not tested here, and `why`."""
    text = f"{_SIGN}{what}: {why}"
    if os.environ.get("CI"):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def named_in(text: str) -> list[str]:
    """What a test run says that it has not tested, a line each."""
    return [line for line in text.splitlines() if line.startswith(_SIGN)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested, and why, once each."""
    reports = terminalreporter.stats.get("skipped", ())
    reasons = (str(r.longrepr[2]) for r in reports if isinstance(r.longrepr, tuple))
    untested = {reason.partition(_SIGN)[2] for reason in reasons if _SIGN in reason}
    for each in sorted(untested):
        terminalreporter.write_line(f"{_SIGN}{each}", red=True, bold=True)
