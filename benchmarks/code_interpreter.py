"""Sessions for code: how soon one is there, what a call costs, the first figure, memory.

    python -m benchmarks.code_interpreter [--backend bubblewrap] [--rounds 9] [--json FILE]

Packages as `assistants packages` makes them; without these, what needs them is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from benchmarks.report import row
from server.clock import SystemClock
from server.config import CodeInterpreterSettings
from server.sandbox.choice import environment_of, open_sandbox
from server.sandbox.pool import SessionPool
from server.sandbox.usage import without_shared
from server.sandbox.values import Image

MIB = 2**20
CALLS = 200
AIMS = {"session, warm": 100.0, "a call": 10.0}
PLOT = "import matplotlib.pyplot as plt\nplt.plot(range(100)); plt.title('x'); plt.show()"


async def main() -> None:
    options = parser().parse_args()
    settings = CodeInterpreterSettings(backend=options.backend)
    pool = await open_sandbox(settings, SystemClock())
    if not isinstance(pool, SessionPool):
        raise SystemExit(pool.problem)
    samples: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for name, value in (await measured(pool, number)).items():
            samples.setdefault(name, []).append(value)
    await pool.close()
    packages = environment_of(settings) is not None
    print(f"{pool.backend.name}, {'with' if packages else 'without'} packages\n")
    print(row("", "median", "worst", "aim"), row("---", "---:", "---:", "---:"), sep="\n")
    for name, values in samples.items():
        print(row(name, f"{median(values):.1f}", f"{max(values):.1f}", AIMS.get(name, "")))
    if options.json:
        options.json.write_text(json.dumps(samples))


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--backend", default="auto")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--json", type=Path)
    return options


async def measured(pool: SessionPool, number: int) -> dict[str, float]:
    """Milliseconds and MiB of one round, in sessions that nobody has used."""

    def fresh(what: str) -> tuple[str, str]:
        return ("benchmark", f"{what} {number}")

    async def run(key: tuple[str, str], code: str) -> None:
        outputs = (await pool.run(key, code, (), lambda _: None)).outputs
        assert code != PLOT or isinstance(outputs[-1], Image), outputs

    found: dict[str, float] = {}
    await spare(pool)
    warm, cold = fresh("warm"), fresh("cold")
    found["session, warm"] = await timed(lambda: run(warm, "1"))
    found["session, cold"] = await timed(lambda: run(cold, "1"))
    await spare(pool)  # so that none is made while calls are measured
    found["a call"] = median([await timed(lambda: run(warm, "1 + 1")) for _ in range(CALLS)])
    found["MiB of an idle session, cold"] = memory(pool, cold)
    if environment_of(pool.settings) is not None:
        found["first figure, warm"] = await timed(lambda: run(warm, PLOT))
        found["next figure"] = await timed(lambda: run(warm, PLOT))
        found["first figure, cold"] = await timed(lambda: run(cold, PLOT))
        found["MiB of an idle session, warm"] = memory(pool, warm)
    for key in (warm, cold):
        await pool.close_session(key)
    return found


async def spare(pool: SessionPool) -> None:
    while pool.spares < pool.settings.spare:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0.05)


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


def memory(pool: SessionPool, key: tuple[str, str]) -> float:
    """MiB that a session's processes have; what others share counts in part."""
    pids = pool.pids(key)
    assert len(pids) > 1
    return without_shared(pids) / MIB


if __name__ == "__main__":
    asyncio.run(main())
