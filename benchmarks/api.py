"""Objects a second over HTTP, with full durability, at 1 and at 32 clients.

Interleaved rounds of: a bare FastAPI POST (the peer), creating a message, retrieving it, listing
twenty. Prints medians. `--data-dir` is a folder on the disk to measure on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.loader import Result, load, request
from benchmarks.processes import cpu_of, started

MESSAGE = json.dumps({"role": "user", "content": "What is the weather in Lisbon today?"}).encode()


def call(port: int, path: str, body: bytes) -> dict[str, object]:
    """One ordinary POST."""
    head = {"OpenAI-Beta": "assistants=v2", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, body, head), timeout=10) as answer:
        made: dict[str, object] = json.load(answer)
    return made


def fsync_ms(folder: Path) -> float:
    """The median time of an fsync on that disk, in milliseconds."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.data_dir) as folder:
        print(f"fsync of 4 KiB: {fsync_ms(Path(folder)):.2f} ms (median)")
        with (
            started("scripted_server", "--data-dir", f"{folder}/data") as (port, pid),
            started("bare") as (bare, bare_pid),
        ):
            measure(port, pid, bare, bare_pid, options.rounds, options.requests)


def measure(port: int, pid: int, bare: int, bare_pid: int, rounds: int, requests: int) -> None:
    """All scenarios, interleaved round by round."""
    thread = call(port, "/v1/threads", b"{}")["id"]
    messages = f"/v1/threads/{thread}/messages"
    made = [call(port, messages, MESSAGE)["id"] for _ in range(20)]
    scenarios = {
        "bare FastAPI POST": (bare, bare_pid, request("POST", "/", MESSAGE)),
        "create message": (port, pid, request("POST", messages, MESSAGE)),
        "retrieve message": (port, pid, request("GET", f"{messages}/{made[0]}")),
        "list 20 messages": (port, pid, request("GET", f"{messages}?limit=20&order=asc")),
    }
    results: dict[tuple[str, int], list[tuple[Result, float]]] = {}
    for _ in range(rounds):
        for clients in (1, 32):
            for name, (to, process, message) in scenarios.items():
                count = requests if clients > 1 else requests // 8
                before = cpu_of(process)
                result = asyncio.run(load(to, [message] * count, clients))
                cpu = (cpu_of(process) - before) / count * 1e6
                results.setdefault((name, clients), []).append((result, cpu))
    report(results)


def report(results: dict[tuple[str, int], list[tuple[Result, float]]]) -> None:
    """Medians over the rounds."""
    print("| | clients | per second | p50 ms | p99 ms | server CPU us each |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, clients), found in results.items():
        rate, p50, p99, cpu = (
            statistics.median(values)
            for values in zip(*((r.rate, r.p50, r.p99, c) for r, c in found), strict=True)
        )
        print(f"| {name} | {clients} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {cpu:.0f} |")


if __name__ == "__main__":
    main()
