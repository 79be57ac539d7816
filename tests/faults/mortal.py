"""Servers that are killed: `python -m tests.faults.mortal`, told on stdin what to serve.

For each line `{"folder": …, "failpoints": …, "settings": {…}}` a child is forked that serves the
data folder with a scripted model, and says `{"pid": …, "url": …}` when it is ready. A line that
comes while it lives arms failpoints. `{"status": …}` follows when it is dead: its exit status, or
the signal that ended it, negative. Only fork, since starting Python anew costs seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvloop

from server import failpoints
from server.app import Entrance, create_app, listen, running, stop_on_signals
from server.config import load_settings
from server.search import store
from tests.sdk.scripted_server import ObedientEngine, ObedientSandbox

SETTINGS = {
    "files.download_all": True,
    "files.sweep_interval": 0.2,
    "runs.sweep_interval": 0.1,
    "search.embedding_model": "ngrams",
    "vector_stores.attempts": 100,
    "vector_stores.retry_after": 0.1,
}
GRACE = 0.2
FEW_ROWS = 3  # of an index that are not in use are reason enough to write it anew


def say(**facts: object) -> None:
    """One line for whoever started us."""
    os.write(1, json.dumps(facts).encode() + b"\n")


async def live(folder: str, settings: dict[str, Any]) -> None:
    """Serve until death comes, or a signal."""
    chosen = load_settings(None, {}, {"server.data_dir": folder, **SETTINGS, **settings})
    stop = asyncio.Event()
    stop_on_signals(stop)
    engines = {chosen.models.default: ObedientEngine(slots=8)}
    with listen("127.0.0.1", 0, chosen.streams.send_buffer) as listener:
        parts = running(chosen, engines, sandbox=ObedientSandbox())
        async with Entrance(listener, chosen.streams, chosen.limits) as entrance, parts as services:
            asyncio.get_running_loop().add_reader(0, _arm)
            say(pid=os.getpid(), url=f"http://127.0.0.1:{listener.getsockname()[1]}")
            await entrance.serve(create_app(services, chosen), stop, GRACE)


def _arm() -> None:
    told = os.read(0, 4096)
    if not told:  # whoever would want to hear of us is gone
        os._exit(1)
    failpoints.arm_from(told.decode().strip())


def main() -> None:
    """Fork a child for each line."""
    store.FEWEST_UNUSED = FEW_ROWS  # type: ignore[misc]
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if child == 0:
            failpoints.arm_from(told["failpoints"])
            uvloop.run(live(told["folder"], told["settings"]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.set_blocking(0, True)  # the child's loop may have left what we share with it otherwise
        say(status=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
