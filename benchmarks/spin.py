"""How long decoding threads should spin for each other before they sleep.

Spinning is fast on an idle machine and ruinous beside other load: a thread that spins keeps its
core from the one it waits for. Interleaved rounds of every way to wait, alone and beside busy
neighbours: OpenMP's spin counts and policies, and ggml's own threads from a build without OpenMP
(`python -m benchmarks.peers`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import NotBuilt, threadpool_library
from benchmarks.processes import ROOT
from benchmarks.report import NOT_MEASURED, row, spread
from benchmarks.samples import Samples
from benchmarks.servers import environment_without_settings
from benchmarks.weights import QUANTIZATIONS, SHAPES, model_file
from server.engine.machine import physical_cores
from tools.build_llama import say

# It ends with its parent, however that ends.
NEIGHBOUR = "import os; p = os.getppid()\nwhile os.getppid() == p: sum(range(100_000))"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One way for threads to wait."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def ways() -> list[Waiting]:
    """OpenMP's, and those of ggml's own threads where that library is built."""
    spins = [
        Waiting(f"GOMP_SPINCOUNT={count}", {"GOMP_SPINCOUNT": count})
        for count in ("0", "30", "100", "300", "1000", "5000")
    ]
    policies = [
        Waiting("OpenMP's default"),
        Waiting("OMP_WAIT_POLICY=passive", {"OMP_WAIT_POLICY": "passive"}),
    ]
    return [*policies, *spins, *_own_threads()]


def _own_threads() -> list[Waiting]:
    try:
        library = {"LLAMA_CPP_LIB_PATH": str(threadpool_library())}
    except NotBuilt as missing:
        say(f"ggml's own threads are left out: {missing}")
        return []
    polls = [
        Waiting(f"own threads, poll {level}", library, ("--poll", str(level)))
        for level in (0, 1, 10, 50, 100)
    ]
    return [Waiting("own threads, new for each step", library), *polls]


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that each keep a core busy."""
    busy = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def rates(way: Waiting, model: Path, options: argparse.Namespace) -> dict[str, float]:
    """Tokens a second by number of sequences."""
    command = [sys.executable, "-m", "benchmarks.decode_loop", "--model", str(model)]
    command += ["--steps", str(options.steps), "--threads", str(options.threads)]
    command += ["--sequences", *map(str, options.sequences), *way.flags]
    environment = {
        **environment_without_settings(),
        "OMP_NUM_THREADS": str(options.threads),
        **way.environment,
    }
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(options: argparse.Namespace) -> Samples:
    """All ways in every round, so that a change of the machine hits all alike."""
    samples, model = Samples(), model_file(options.shape, options.quantization)
    for turn in range(options.rounds):
        for count in options.neighbours:
            say(f"Round {turn + 1} of {options.rounds}, {count} neighbours ...")
            with neighbours(count):
                for way in ways():
                    samples.add(turn, str(count), way.name, **rates(way, model, options))
    return samples


def table(samples: Samples, options: argparse.Namespace) -> Iterator[str]:
    """A row for each way, a column for each number of neighbours and sequences."""
    columns = [(str(n), str(s)) for n in options.neighbours for s in options.sequences]
    yield row("tokens/s", *(f"{n} neighbours, {s} at once" for n, s in columns))
    yield row("---", *("---" for _ in columns))
    for way in ways():
        found = (samples.summary(n, way.name, s) for n, s in columns)
        yield row(way.name, *(spread(f, ".1f") if f else NOT_MEASURED for f in found))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="0.5b", help="of the model")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="q4_k_m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, os.cpu_count() or 1])
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--threads", type=int, default=physical_cores())
    options = parser.parse_args()
    print("\n".join(table(measure(options), options)))


if __name__ == "__main__":
    main()
