"""The long form: `make faults`, or `python -m tests.faults --kills 1000 --cuts 10000`."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.cradle import cradle
from tests.faults.cuts import cut, record, revive
from tests.faults.ordeal import Ordeal, deaths
from tests.faults.points import failpoints_in

CUTS_OF_A_LOG = 500
CUTS_OF_A_REVIVAL = 50
ROUNDS = 25  # before a new data folder is begun


async def kills(folder: Path, number: int, chance: random.Random) -> None:
    """Kill as many servers, stop one for every ten, and say what became of what they had told."""
    points = failpoints_in()
    killed = stopped = told = 0
    slowest, begun = 0.0, time.monotonic()
    async with cradle(folder / "server.log") as servers:
        plan = deaths(points, number, chance)
        while killed < number:
            ordeal = Ordeal(servers, folder / f"data{killed}", chance)
            for count in range(ROUNDS):
                if killed + ordeal.kills < number and (death := next(plan, None)) is not None:
                    await ordeal.kill(death)
                if count % 10 == 0:
                    await ordeal.stop()
            await ordeal.judge()
            killed, stopped = killed + ordeal.kills, stopped + ordeal.stops
            told, slowest = told + ordeal.told, max(slowest, ordeal.slowest)
            print(f"{killed} kills, {stopped} stops, {told} facts, none lost", flush=True)
    print(
        f"{killed} kills at {len(points)} failpoints and {stopped} stops in"
        f" {time.monotonic() - begun:.0f} s: of {told} facts that clients were told, none was lost;"
        f" the slowest recovery took {slowest:.2f} s",
        flush=True,
    )


async def cuts(folder: Path, number: int, chance: random.Random) -> None:
    """Cut as many logs, and say what the rest had to prove."""
    proved = done = ended = 0
    begun = time.monotonic()
    async with cradle(folder / "server.log") as servers:
        while done < number:
            recording = await record(servers, folder / f"log{done}", chance)
            for _ in range(min(CUTS_OF_A_LOG, number - done)):
                proved += cut(recording, chance.randint(0, len(recording.log)), folder / "cut")
                done += 1
                if done % CUTS_OF_A_REVIVAL == 0:
                    ended += await revive(servers, recording, folder / "cut")
    print(
        f"{done} cuts in {time.monotonic() - begun:.0f} s: {proved} facts proved, none lost,"
        f" no state broken; servers on {done // CUTS_OF_A_REVIVAL} of them brought {ended} runs to"
        " their end",
        flush=True,
    )


def main() -> None:
    """Both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--cuts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with TemporaryDirectory() as folder:
        asyncio.run(kills(Path(folder), options.kills, chance))
        asyncio.run(cuts(Path(folder), options.cuts, chance))


if __name__ == "__main__":
    main()
