"""The short form of the soak, and what it takes for a fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.process import MODEL
from tests.soak.soak import Plan, differences, growth, soaking, unexpected
from tests.soak.vitals import MIB, Rest, thirds
from tests.untested import not_tested

SHORT = Plan(seconds=12.0, kill_every=9.0)


@pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")
@pytest.mark.timeout(300)
async def test_nothing_is_stuck_and_nothing_leaks(tmp_path: Path) -> None:
    """Visitors do all that can be done while workers die; then the server is as it was before."""
    with soaking(tmp_path, SHORT) as soak:
        await soak.last()
    assert not soak.faults, soak.report()
    assert set(soak.found.visits) > {visit.__name__ for visit in soak.visits}
    assert soak.found.streams
    assert {"completed", "cancelled"} <= set(soak.found.ends)
    if soak.no_code:
        not_tested("code among all that clients do", soak.no_code)


def test_growth_is_told_from_warming_up() -> None:
    """What was taken in the first third is no fault; what goes on growing is one."""
    grown = [100.0 * MIB + number * MIB for number in range(90)]
    warm = [*grown[:30], *[130.0 * MIB] * 60]
    assert growth(thirds(warm)) is None
    assert "from 144.5 to 174.5 MiB" in str(growth(thirds(grown)))


def test_what_is_left_at_rest() -> None:
    """Each thing that should have gone is named."""
    files = ["/data/assistants.db", "socket:[1]"]
    before = Rest(files, Counter({b"serve": 1}), {"open_streams": 0.0}, 25.0, [])
    assert differences(before, replace(before, files=["/data/assistants.db", "socket:[2]"])) == []
    after = Rest(
        files + [f"socket:[{number}]" for number in range(9)],
        Counter({b"serve": 1, b"sandbox": 1}),
        {"open_streams": 2.0},
        400.0,
        ["blob 12ab"],
    )
    busy, left, handles, processes, cells = differences(before, after)
    assert busy == "open_streams is 2 at rest"
    assert left == "left behind: blob 12ab"
    assert handles.count("socket:") == 9
    assert "sandbox" in processes
    assert cells == "400 cells in use at rest"


def test_log_lines_that_should_not_be() -> None:
    """Errors and tracebacks, but for the deaths that the soak has brought about."""
    log = """\
12:00:00 info request status=200
12:00:01 error engine.worker_died model=tiny cause=SIGKILL
12:00:02 error Task exception was never retrieved
Traceback (most recent call last):
"""
    told = list(unexpected(log))
    assert len(told) == 2
    assert "never retrieved" in told[0]
    assert "Traceback" in told[1]
