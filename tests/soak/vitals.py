"""What a server's processes hold, as the system tells it, and what the server says of itself."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server.sandbox.usage import processes
from tests.files.conftest import digests_on_disk, on_their_way
from tests.runs.story import metric_in
from tests.sandbox.support import command_of, states

MIB = 1 << 20
WORKER = b"server.engine.worker"
# Figures of /metrics that are zero when nobody asks for anything.
IDLE = (
    "open_streams",
    "open_completions",
    "runs",
    "running_runs",
    "engine_live",
    "engine_waiting",
    "sandbox_sessions",
    "ingestion_waiting_files",
    "ingesting_files",
    "database_waiting_writes",
)


def memory_of(pid: int) -> int:
    """Bytes that a process has in memory; none if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> list[str]:
    """What its handles are of, such as a path or `socket:[1]`."""
    found = []
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(handle))  # noqa: PTH115 - sockets and pipes are no paths
    return sorted(found)


def workers(pid: int) -> list[int]:
    """The processes of models."""
    return [each for each in processes(pid) if WORKER in command_of(each)]


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one moment; bytes."""

    memory: int  # of the server alone: workers have the models, and come and go
    worker: int
    others: int  # of sessions, and whoever reads documents
    files: int
    processes: int


@dataclass(slots=True)
class Vitals:
    """Of a server with this process id, again and again."""

    pid: int
    readings: list[Reading] = field(default_factory=list)
    undead: set[int] = field(default_factory=set)
    _zombies: set[int] = field(default_factory=set)

    def read(self) -> Reading:
        """Once more. Who is a zombie twice in a row is one for good."""
        tree = processes(self.pid)
        models = [pid for pid in tree if WORKER in command_of(pid)]
        zombies = {p for p, state in zip(tree, states(tree), strict=True) if state == "Z"}
        self.undead |= zombies & self._zombies
        self._zombies = zombies
        reading = Reading(
            memory_of(self.pid),
            sum(map(memory_of, models)),
            sum(memory_of(pid) for pid in tree if pid != self.pid and pid not in models),
            len(open_files(self.pid)),
            len(tree),
        )
        self.readings.append(reading)
        return reading

    @property
    def thirds(self) -> tuple[float, float, float]:
        """The medians of the server's memory in the thirds of the time, in bytes."""
        return thirds([reading.memory for reading in self.readings])


def thirds(values: Sequence[float]) -> tuple[float, float, float]:
    """The medians of the first, the second and the last third. There are at least three."""
    part = len(values) // 3
    first, second, last = values[:part], values[part : 2 * part], values[2 * part :]
    return statistics.median(first), statistics.median(second), statistics.median(last)


@dataclass(frozen=True, slots=True)
class Rest:
    """What is there while nobody asks for anything."""

    files: list[str]
    processes: Counter[bytes]  # by how they were started, without numbers
    figures: dict[str, float]  # of /metrics
    cells: float  # of contexts that hold a token
    left: list[str]  # below the data folder, and in the folder for what is temporary


def at_rest(pid: int, folder: Path, metrics: str) -> Rest:
    """The same of a server at work: what of it does not go."""
    data, temporary = folder / "data", folder / "tmp"
    left = [
        *(f"blob {digest}" for digest in digests_on_disk(data)),
        *map(str, on_their_way(data)),
        *map(str, (data / "indexes").glob("*")),
        *map(str, (data / "cache").glob("*/thread_*")),
        *map(str, temporary.glob("*")),
    ]
    return Rest(
        open_files(pid),
        Counter(re.sub(rb"\d+", b"", command_of(each))[:80] for each in processes(pid)),
        {name: metric_in(metrics, f"assistants_{name}") for name in IDLE},
        metric_in(metrics, "assistants_engine_cells"),
        left,
    )
