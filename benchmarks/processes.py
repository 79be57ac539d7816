"""Servers as child processes of a benchmark."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 600.0  # for loading a model
STOP_PATIENCE = 60.0
GLANCE = 0.05


class NotServing(Exception):
    """A server ended before it was ready; the text is the end of what it said."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers on a loopback port."""

    port: int
    pid: int


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], port: int, ready: str
) -> Iterator[Server]:
    """Start a server and wait until GET `ready` is 200; stopped when the block ends."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_ready(process, port, ready, output)
            yield Server(port, process.pid)
        finally:
            _stop(process)


@contextlib.contextmanager
def started(module: str, *arguments: str) -> Iterator[tuple[int, int]]:
    """Start `benchmarks.<module>`; gives its port, which it prints first, and its process id."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def memory_of(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(pid)


def cpu_of(pid: int) -> float:
    """Processor seconds that a process has used."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def cpu_of_tree(pid: int) -> float:
    """Processor seconds that a process and those that it started have used."""
    return cpu_of(pid) + sum(cpu_of_tree(child) for child in children_of(pid))


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that live."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, path: str, output: IO[bytes]
) -> None:
    give_up = time.monotonic() + PATIENCE
    while not _is_ready(port, path):
        if process.poll() is not None or time.monotonic() > give_up:
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
            raise NotServing(said[-2000:])
        time.sleep(GLANCE)


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
