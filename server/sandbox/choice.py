"""Which sandbox this machine has: the first backend that is there and passes its tests."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from server.clock import Clock
from server.config import CodeInterpreterSettings
from server.sandbox.backends import Backend, Bubblewrap, CannotStart, Landlock, Python
from server.sandbox.folders import sweep
from server.sandbox.orphans import end_orphans
from server.sandbox.pool import SessionPool
from server.sandbox.probe import why_not
from server.sandbox.remote import RemoteSandbox
from server.sandbox.unavailable import Unavailable
from server.sandbox.values import Sandbox

log = logging.getLogger(__name__)

ENVIRONMENT: Final = "code-interpreter"  # the folder, beside the server's own packages
_OFF: Final = "It is turned off by the setting code_interpreter.backend."


def environment_of(settings: CodeInterpreterSettings) -> Path | None:
    """Where the code's packages are; None: there are none. It may be missing if it was named."""
    if settings.environment is not None:
        return settings.environment
    usual = usual_environment()
    return usual if usual.is_dir() else None


def usual_environment() -> Path:
    return Path(sys.prefix) / ENVIRONMENT


async def open_sandbox(settings: CodeInterpreterSettings, clock: Clock) -> Sandbox:
    """A sandbox that was tried. Nothing is run where nothing passes.

    What sessions of servers that are gone have left on this machine is removed.
    """
    if settings.backend == "off":
        return Unavailable(_OFF)
    if settings.backend == "remote":
        remote = RemoteSandbox(settings.socket)
        await remote.start()
        return remote
    swept, ended = await asyncio.to_thread(lambda: (sweep(), end_orphans()))
    if swept or ended:  # machines stop, and servers are killed
        log.info("sandbox.swept", extra={"folders": swept, "processes": ended})
    reasons = []
    for name in _wanted(settings):
        try:
            backend = _BACKENDS[name](settings, Python.of(environment_of(settings)))
        except CannotStart as problem:
            reasons.append(f"{name}: {problem}")
            continue
        reason = await why_not(backend, settings)
        if reason is None:
            log.info("sandbox.chosen", extra={"backend": name})
            pool = SessionPool(backend, settings, clock)
            pool.start()
            return pool
        reasons.append(f"{name}: {reason}")
    log.warning("sandbox.unavailable", extra={"reasons": reasons})
    return Unavailable(f"Nothing keeps code in on this machine. {'; '.join(reasons)}.")


def _wanted(settings: CodeInterpreterSettings) -> Iterator[str]:
    if settings.backend == "auto":
        yield from _BACKENDS
    else:
        yield settings.backend


_BACKENDS: Final[dict[str, Callable[[CodeInterpreterSettings, Python], Backend]]] = {
    Bubblewrap.name: Bubblewrap,
    Landlock.name: Landlock,
}
