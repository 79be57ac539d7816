"""Children of a bubblewrap that was killed before it had woken them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from server.sandbox.orphans import CODE, end_orphans
from server.sandbox.usage import children
from tests.sandbox.support import alive, until

pytestmark = pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)

HALF_STARTED = ("bwrap", "--unshare-user", "--unshare-pid", "--as-pid-1", "--die-with-parent")
Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(backend: str) -> Iterator[Start]:
    """Starts one that keeps its child waiting."""
    with ExitStack() as stack:
        waiting, never = os.pipe()
        stack.callback(os.close, waiting)
        stack.callback(os.close, never)

        def started() -> subprocess.Popen[bytes]:
            command = (*HALF_STARTED, "--userns-block-fd", str(waiting), "--info-fd", "1")
            rest = ("--ro-bind", "/", "/", "/bin/true", CODE)
            process = stack.enter_context(
                subprocess.Popen([*command, *rest], pass_fds=[waiting], stdout=subprocess.DEVNULL)
            )
            stack.callback(process.kill)
            return process

        yield started
    end_orphans()


async def test_orphans_are_ended(start: Start) -> None:
    """Those of a living one are left alone."""
    living, dead = start(), start()
    await until(lambda: bool(children(living.pid)) and bool(children(dead.pid)))
    (kept,), (orphan,) = children(living.pid), children(dead.pid)
    dead.kill()
    dead.wait()
    assert alive([kept, orphan]) == [kept, orphan]
    assert end_orphans() >= 1
    await until(lambda: alive([kept, orphan]) == [kept])
