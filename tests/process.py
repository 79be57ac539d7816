"""The server as a process of its own, started and stopped as its users do."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from server.bundled import bundled_path

ROOT = Path(__file__).parents[1]
MODEL = Path(
    os.environ.get("ASSISTANTS_TEST_MODEL", bundled_path("models/tiny-assistant.gguf"))
).absolute()
COMMAND = (sys.executable, "-m", "server.cli")
PATIENCE = 60.0
READY = "Ready."


def environment(**more: str) -> dict[str, str]:
    """Ours without the server's settings, and with the code that is tested. No code is run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANTS_")}
    off = {"ASSISTANTS_CODE_INTERPRETER__BACKEND": "off"}
    return {**kept, **off, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


@dataclass(slots=True)
class ServerProcess:
    """A server that has said that it is ready."""

    process: subprocess.Popen[str]
    banner: str
    log: Path

    @property
    def url(self) -> str:
        """The base URL, as the banner shows it."""
        found = re.search(r"http://\S+/v1", self.banner)
        assert found, self.banner
        return found.group()

    def sdk(self, **options: Any) -> openai.OpenAI:
        """The official client."""
        return openai.OpenAI(base_url=self.url, api_key="local", **options)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def started(
    command: tuple[str, ...], folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Run a server's command in a folder until the block ends; its log is `server.log` there."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(**(env or {})),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield ServerProcess(process, _banner(process, log), log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def served(folder: Path, *flags: str, **env: str) -> Iterator[ServerProcess]:
    """`assistants serve` on a free port and the model at hand, with its data in the folder."""
    command = (*COMMAND, "serve", "--port", "0", "--model", str(MODEL), *flags)
    with started(command, folder, env) as server:
        yield server


def beside(server: ServerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in the folder of a running server."""
    return subprocess.run(
        (*COMMAND, *arguments),
        cwd=server.log.parent,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def _banner(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(READY):
            return "".join(lines)
    raise AssertionError(f"the server ended with {process.wait()}: {log.read_text()}")
