"""What is asked of a sandbox, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

SessionKey = tuple[str, str]  # project id, thread id
Limit = Literal[
    "time",
    "processor",
    "memory",
    "processes",
    "files",
    "locks",
    "watches",
    "disk",
    "output",
    "unseen",
]  # "unseen": what it takes could not be told


@dataclass(frozen=True, slots=True)
class FileIn:
    """A file to be in /mnt/data under `name`, whose bytes are at `path` on the host.

    It is put there once a session, and again when its `key`, the file's id, changes.
    """

    name: str
    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class Logs:
    """What was printed, the last value, a traceback; in the order they came."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A figure."""

    data: bytes
    format: Literal["png"]


Output = Logs | Image


@dataclass(frozen=True, slots=True)
class Written:
    """A regular file of /mnt/data that a call made or changed; `size` is in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a call left. `problem` is the `limit` that it hit, in words for the model.

    The problem is among the outputs, too.
    """

    outputs: list[Output]
    written: list[Written]
    problem: str | None
    limit: Limit | None


class SandboxUnavailable(Exception):
    """Nothing holds code back on this machine, or no session can be had; the text says why."""


class SandboxCrashed(Exception):
    """The session died under the call; the text says how. It is logged, so it names no file."""


class Sandbox(Protocol):
    """Where code runs."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be run here; None: ready."""
        ...

    async def run(
        self,
        session: SessionKey,
        code: str,
        files: Sequence[FileIn],
        emit: Callable[[Output], None],
        *,
        has_run: bool = False,
    ) -> Result:
        """Run the code, after the session's earlier calls. `emit` gets outputs as they come.

        If its thread `has_run` code and there is no session, the last output says what is gone.
        Text comes in pieces there; in the result, what follows each other is one. Code that raises
        is no error: its traceback is an output. To cancel the task stops the code; the sandbox is
        idle when the task ends. Raises SandboxUnavailable, SandboxCrashed.
        """
        ...

    async def read(self, session: SessionKey, name: str, into: Path) -> int:
        """Copy a file of /mnt/data to a path of the host's; returns its size in bytes.

        Raises LookupError when it is gone, SandboxCrashed, OSError.
        """
        ...

    async def close_session(self, session: SessionKey) -> None:
        """A thread was deleted."""
        ...

    async def close(self) -> None:
        """End all sessions."""
        ...
