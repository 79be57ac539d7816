"""Servers that are killed wherever they can be, and stopped, while clients are at work."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.cradle import cradle
from tests.faults.cuts import cut, record, revive
from tests.faults.history import RECOVERY
from tests.faults.ordeal import Ordeal, deaths
from tests.faults.points import failpoints_in

KILLS = 50
STOPS = 5
CUTS = 200
REVIVALS = 5


def test_points_of_the_source(tmp_path: Path) -> None:
    """Failpoints are found by their calls; one whose names nobody knows is not passed over."""
    found = failpoints_in()
    assert {"commit.before", "run.queued", "run.expired", "blob.write"} <= set(found)
    (tmp_path / "a.py").write_text("failpoints.hit(name)")
    with pytest.raises(AssertionError, match="name"):
        failpoints_in(tmp_path)


@pytest.mark.timeout(600)
async def test_killed_at_every_failpoint(tmp_path: Path) -> None:
    """What clients were told is true after each death, and each run ends in time."""
    chance = random.Random(11)
    points = failpoints_in()
    async with cradle(tmp_path / "server.log") as servers:
        ordeal = Ordeal(servers, tmp_path / "data", chance)
        for death in deaths(points, max(len(points), KILLS * 3 // 4), chance):
            await ordeal.kill(death)
        await ordeal.judge()
    assert ordeal.kills >= KILLS
    assert ordeal.told > 10 * KILLS
    assert ordeal.slowest < RECOVERY


@pytest.mark.timeout(300)
async def test_stopped_again_and_again(tmp_path: Path) -> None:
    """A rolling restart under load: each server ends well, and loses no run."""
    async with cradle(tmp_path / "server.log") as servers:
        ordeal = Ordeal(servers, tmp_path / "data", random.Random(12))
        for _ in range(STOPS):
            await ordeal.stop()
        await ordeal.judge()
    assert ordeal.told > 10 * STOPS


@pytest.mark.timeout(300)
async def test_log_cut_anywhere(tmp_path: Path) -> None:
    """However much of the log is on the disk: all that was told by then; runs go on."""
    chance, proved = random.Random(13), list[int]()
    async with cradle(tmp_path / "server.log") as servers:
        recording = await record(servers, tmp_path / "data", chance)
        whole = len(recording.log)
        for length in (whole, *(chance.randint(0, whole) for _ in range(CUTS - 1))):
            proved.append(cut(recording, length, tmp_path / "cut"))
            if len(proved) % (CUTS // REVIVALS) == 1:
                ended = await revive(servers, recording, tmp_path / "cut")
                assert ended or length < whole
    assert len(set(proved)) > CUTS / 20, "the cuts fell in many places"
