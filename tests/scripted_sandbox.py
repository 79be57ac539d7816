"""A sandbox that runs nothing: what some code gives is what a test has said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from server.sandbox.values import (
    FileIn,
    Image,
    Limit,
    Logs,
    Output,
    Result,
    SandboxCrashed,
    SandboxUnavailable,
    SessionKey,
    Written,
)

PNG = b"\x89PNG\r\n\x1a\nfigure"
FIGURE = Image(PNG, "png")


@dataclass(frozen=True, slots=True)
class Given:
    """What code gives: its outputs, the files that it writes, and how it ends if not well."""

    outputs: Sequence[Output]
    writes: Mapping[str, bytes]
    error: Exception | None = None
    limit: Limit | None = None
    never_ends: bool = False


@dataclass(slots=True)
class ScriptedSandbox:
    """Its sessions are their files. Code that nobody spoke of prints what it is."""

    problem: str | None = None
    ran: list[tuple[SessionKey, str]] = field(default_factory=list)
    had_run: list[bool] = field(default_factory=list)  # the thread, before each of these
    given_in: dict[SessionKey, dict[str, str]] = field(default_factory=dict)  # keys, by name
    sessions: dict[SessionKey, dict[str, bytes]] = field(default_factory=dict)
    closed: list[SessionKey] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)  # code was, in its middle
    hanging: asyncio.Event = field(default_factory=asyncio.Event)  # code runs, and does not end
    _gives: dict[str, list[Given]] = field(default_factory=dict)

    def gives(self, code: str, *outputs: str | Image, **writes: bytes) -> None:
        """Have this code, the next time, print and draw, and write `name_ending=` files."""
        told = [Logs(output) if isinstance(output, str) else output for output in outputs]
        files = {name.replace("_", "."): data for name, data in writes.items()}
        self._gives.setdefault(code, []).append(Given(told, files))

    def crashes(self, code: str, *outputs: str) -> None:
        """Have its session die under this code."""
        told = [Logs(output) for output in outputs]
        died = SandboxCrashed("It was killed.")
        self._gives.setdefault(code, []).append(Given(told, {}, died))

    def refuses(self, code: str, why: str) -> None:
        """Have no session for this code."""
        self._gives.setdefault(code, []).append(Given([], {}, SandboxUnavailable(why)))

    def hits(self, code: str, limit: Limit) -> None:
        """Have this code take too much of something."""
        self._gives.setdefault(code, []).append(Given([], {}, limit=limit))

    def hangs(self, code: str, *outputs: str | Image) -> None:
        """Have this code never end."""
        told = [Logs(output) if isinstance(output, str) else output for output in outputs]
        self._gives.setdefault(code, []).append(Given(told, {}, never_ends=True))

    async def run(
        self,
        session: SessionKey,
        code: str,
        files: Sequence[FileIn],
        emit: Callable[[Output], None],
        *,
        has_run: bool = False,
    ) -> Result:
        self.ran.append((session, code))
        self.had_run.append(has_run)
        self.given_in[session] = {file.name: file.key for file in files}
        folder = self.sessions.setdefault(session, {})
        folder |= {file.name: file.path.read_bytes() for file in files if file.name not in folder}
        queued = self._gives.get(code)
        given = queued.pop(0) if queued else Given([Logs(code)], {})
        for output in given.outputs:
            emit(output)
            await asyncio.sleep(0)
        if given.never_ends:
            await self._hang()
        if given.error is not None:
            self.sessions.pop(session)
            raise given.error
        folder |= given.writes
        written = [Written(name, len(data)) for name, data in given.writes.items()]
        problem = None if given.limit is None else f"It hit a limit: {given.limit}."
        return Result(list(given.outputs), written, problem, given.limit)

    async def _hang(self) -> None:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()

    async def read(self, session: SessionKey, name: str, into: Path) -> int:
        data = self.sessions[session][name]
        return await asyncio.to_thread(into.write_bytes, data)

    async def close_session(self, session: SessionKey) -> None:
        self.sessions.pop(session, None)
        self.closed.append(session)

    async def close(self) -> None:
        self.sessions.clear()
