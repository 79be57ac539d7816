"""No sandbox, and why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from server.sandbox.values import FileIn, Output, SandboxUnavailable, SessionKey


class Unavailable:
    """Refuses whatever code it is given."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    async def run(
        self,
        session: SessionKey,
        code: str,
        files: Sequence[FileIn],
        emit: Callable[[Output], None],
        *,
        has_run: bool = False,
    ) -> NoReturn:
        raise SandboxUnavailable(self.problem)

    async def read(self, session: SessionKey, name: str, into: Path) -> NoReturn:
        raise LookupError(name)

    async def close_session(self, session: SessionKey) -> None:
        """There is none."""

    async def close(self) -> None:
        """There is nothing to end."""
