"""What stands before the model: runs that come at once, over a model that answers at once.

From the last byte of a request that makes a thread with a message and runs it, until its first text
is there, and the server's processor time a run, its end included. Each round has words of its own.
Prints medians over the rounds with their bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile

from benchmarks.answers import AssistantsSpeaker, heard
from benchmarks.intervals import interval
from benchmarks.processes import cpu_of, started

FEWEST = 16  # tokens that a run may be limited to
INTERVAL = 0.0001  # seconds from the model's being asked to its only piece
WARM_UP = 10  # rounds that are not counted
REST = 0.05  # seconds after a round: its runs end


async def measure(port: int, pid: int, runs: int, rounds: int) -> list[list[float]]:
    """First tokens in ms, the median's and the last one's of each round, and ms of processor."""
    speaker = await AssistantsSpeaker.on(port)
    medians, worst, cpu = [], [], 0.0
    for number in range(WARM_UP + rounds):
        if number == WARM_UP:
            cpu = cpu_of(pid)
        asked = [await speaker.start(f"{number} {i} " + "word " * 30, FEWEST) for i in range(runs)]
        waited = [(await heard(exchange)).first_token_after * 1000 for exchange in asked]
        medians.append(statistics.median(waited))
        worst.append(max(waited))
        await asyncio.sleep(REST)
    spent = (cpu_of(pid) - cpu) / rounds / runs * 1000
    return [medians[WARM_UP:], worst[WARM_UP:], [spent]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    print("| runs at once | first token ms, median | worst | server CPU ms a run |")
    print("| --- | --- | --- | --- |")
    for runs in options.runs:
        with (
            tempfile.TemporaryDirectory() as folder,
            started(
                "scripted_server",
                *("--data-dir", folder, "--slots", str(runs)),
                *("--pieces", "1", "--interval", str(INTERVAL)),
            ) as (port, pid),
        ):
            found = asyncio.run(measure(port, pid, runs, options.rounds))
        *latencies, cpu = map(interval, found)
        shown = [f"{each.median:.1f} ({each.low:.1f} – {each.high:.1f})" for each in latencies]
        print(f"| {runs} | {' | '.join(shown)} | {cpu.median:.1f} |")


if __name__ == "__main__":
    main()
