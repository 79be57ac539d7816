"""The server over a model that writes at a given pace: for what is not the model.

Each piece of text is the time it was written at (CLOCK_MONOTONIC, which processes share).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from server.app import Entrance, create_app, listen, running, stop_on_signals
from server.config import load_settings
from server.engine.protocol import Finished, Request, Tokens
from server.engine.scripted import ScriptedEngine


class PacedEngine(ScriptedEngine):
    """Writes `pieces` pieces, one every `interval` seconds."""

    def __init__(self, slots: int, pieces: int, interval: float) -> None:
        super().__init__(slots=slots)
        self.pieces = pieces
        self.interval = interval

    def generate(self, request: Request) -> PacedGeneration:  # type: ignore[override]
        return PacedGeneration(self, request)


class PacedGeneration:
    """One answer of a paced engine."""

    def __init__(self, engine: PacedEngine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    async def __aiter__(self) -> AsyncIterator[Tokens | Finished]:
        engine, due = self._engine, time.monotonic()
        for _ in range(engine.pieces):
            due += engine.interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self._cancelled:
                break
            text = f"{time.monotonic():.6f} ".encode()
            yield Tokens(tuple(text), text)
        reason = "cancelled" if self._cancelled else "stop"
        yield Finished(reason, len(self._request.prompt), engine.pieces, 0)


async def main(options: argparse.Namespace) -> None:
    """Serve until SIGTERM."""
    settings = load_settings(
        None, {}, {"server.data_dir": str(options.data_dir), "runs.completion_cap": 1_000_000}
    )
    engine = PacedEngine(options.slots, options.pieces, options.interval)
    stop = asyncio.Event()
    with listen("127.0.0.1", options.port, settings.streams.send_buffer) as listener:
        engines = {settings.models.default: engine}
        async with (
            Entrance(listener, settings.streams, settings.limits) as entrance,
            running(settings, engines) as services,
        ):
            stop_on_signals(stop)
            print(listener.getsockname()[1], flush=True)
            await entrance.serve(create_app(services, settings), stop, grace=0.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--pieces", type=int, default=100)
    parser.add_argument("--interval", type=float, default=0.05)
    uvloop.run(main(parser.parse_args()))
