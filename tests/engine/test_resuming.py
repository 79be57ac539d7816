"""Threads that return after a restart, a crash or a deletion, with a real worker and real files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.engine.client import WorkerEngine
from server.engine.process import WorkerProcess
from server.engine.protocol import EngineCrashed, Request
from server.engine.settings import EngineSettings
from tests.engine.calls import GREEDY, Said, chat, endless, first_tokens, read
from tests.support import eventually

# Without idle cells, a thread is saved as soon as its turn ends.
SETTINGS = EngineSettings(threads=1, slots=4, gpu_layers=0, idle_cells=0)
HISTORY = ["Hello!", "Hello! How can I help you today?"] * 4


@contextlib.asynccontextmanager
async def started(model: Path, cache: Path, **changes: int) -> AsyncIterator[WorkerEngine]:
    """A worker that keeps its snapshots there."""
    settings = replace(SETTINGS, **changes)
    engine = WorkerEngine(model, name="tiny", settings=settings, cache=cache)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def say(engine: WorkerEngine, owner: str, *turns: str, scope: str = "a") -> Said:
    """The answer in one of the owner's threads."""
    prompt = await engine.tokenize(chat(*HISTORY, *turns))
    return await read(engine.generate(Request(prompt, 24, GREEDY, scope, owner)))


def files_of(cache: Path, owner: str = "") -> list[Path]:
    """All, or an owner's."""
    return sorted(cache.glob(f"*/{owner}*"))


async def removed(folder: Path, start: str) -> None:
    """Wait until no such file is left: files are removed beside the loop."""

    async def left() -> list[Path]:
        return files_of(folder, start)

    await eventually(left, lambda files: not files)


async def test_a_thread_resumes_after_a_restart(model_path: Path, tmp_path: Path) -> None:
    """Its owner pays for the new tokens only, and gets the same answer; others pay for all."""
    async with started(model_path, tmp_path) as engine:
        first = await say(engine, "thread_1", "Who are you?")
        assert first.end.cached_tokens == 0
    async with started(model_path, tmp_path) as engine:
        turns = ("Who are you?", first.data.decode(), "Thank you!")
        other = await say(engine, "thread_2", *turns)
        scoped = await say(engine, "thread_1", *turns, scope="b")
        mine = await say(engine, "thread_1", *turns)
    assert (other.end.cached_tokens, scoped.end.cached_tokens) == (0, 0)
    assert mine.end.cached_tokens >= first.end.prompt_tokens
    assert mine.data == other.data


async def test_a_thread_resumes_from_disk_where_memory_holds_nothing(
    model_path: Path, tmp_path: Path
) -> None:
    """Beside others that stream meanwhile."""
    async with started(model_path, tmp_path, cache_ram_bytes=0) as engine:
        first = await say(engine, "thread_1", "Who are you?")
        stream = engine.generate(endless([1, 2, 3]))
        events = aiter(stream)
        await first_tokens(events)
        again = await say(engine, "thread_1", "Who are you?", first.data.decode(), "Bye!")
        await first_tokens(events)
        assert again.end.cached_tokens >= first.end.prompt_tokens
        stream.cancel()


async def test_a_worker_that_is_killed_while_it_writes_breaks_nothing(
    model_path: Path, tmp_path: Path
) -> None:
    """Its successor takes what is whole, removes the rest, and says the same."""
    async with started(model_path, tmp_path, cache_ram_bytes=0) as engine:
        expected = await say(engine, "thread_0", "Who are you?")
        for number in range(1, 6):
            said = await say(engine, f"thread_{number}", "Who are you?")
            assert said.data == expected.data
            stream = engine.generate(endless([1, 2, 3]))
            await first_tokens(aiter(stream))
            await say(engine, f"thread_{number}", "Who are you?", "Me.", "Who are you?")
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)  # as the last turn's snapshot is on its way
            with pytest.raises(EngineCrashed):
                await read(stream)
        for number in range(6):
            said = await say(engine, f"thread_{number}", "Who are you?")
            assert said.data == expected.data
    assert {path.suffix for path in files_of(tmp_path)} == {".kv"}


@pytest.mark.parametrize("when", ["running", "ended", "stopping"])
async def test_a_forgotten_thread_leaves_no_file(
    model_path: Path, tmp_path: Path, when: str
) -> None:
    """Whenever the worker hears of it."""
    async with started(model_path, tmp_path) as engine:
        await say(engine, "thread_1", "Who are you?")
        await say(engine, "thread_12", "Who are you?")
        prompt = await engine.tokenize(chat(*HISTORY, "Who are you?", "Me.", "Bye!"))
        running = engine.generate(Request(prompt, 24, GREEDY, "a", "thread_1"))
        events = aiter(running)
        await first_tokens(events)
        if when == "running":
            engine.forget("thread_1")
        async for _ in events:
            pass
        if when == "ended":
            engine.forget("thread_1")
            again = await say(engine, "thread_1", "Who are you?")
            assert again.end.cached_tokens == 0
            engine.forget("thread_1")
        if when == "stopping":
            engine.forget("thread_1")
    assert files_of(tmp_path, "thread_1.") == []
    assert len(files_of(tmp_path, "thread_12.")) == 1


@pytest.mark.parametrize("heard", [True, False])
async def test_a_thread_that_is_forgotten_while_the_engine_stops_leaves_no_file(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, heard: bool
) -> None:
    """Its worker writes until it is gone, and may no longer hear of it."""
    stop = WorkerProcess.stop

    async def stop_meanwhile(worker: WorkerProcess) -> None:
        os.kill(worker.pid, signal.SIGSTOP)
        stopping = asyncio.create_task(stop(worker))
        await asyncio.sleep(0)  # it is told, and writes when it goes on
        if not heard:
            monkeypatch.setattr(worker, "send", lambda _: None)
        engine.forget("thread_1")
        os.kill(worker.pid, signal.SIGCONT)
        await stopping

    async with started(model_path, tmp_path, idle_cells=4096) as engine:
        await say(engine, "thread_1", "Who are you?")
        await say(engine, "thread_2", "Hello!")
        assert files_of(tmp_path, "thread") == []  # they are written at the end
        monkeypatch.setattr(WorkerProcess, "stop", stop_meanwhile)
    assert files_of(tmp_path, "thread_1.") == []
    assert len(files_of(tmp_path, "thread_2.")) == 1


async def test_a_thread_that_is_forgotten_while_the_engine_starts_leaves_no_file(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker has taken up the file, and hears of it as soon as it listens."""
    start = WorkerProcess.start
    async with started(model_path, tmp_path) as engine:
        await say(engine, "thread_1", "Who are you?")
    assert len(files_of(tmp_path, "thread_1.")) == 1

    async def start_meanwhile(*arguments: Any) -> WorkerProcess:
        worker = await start(*arguments)
        engine.forget("thread_1")
        return worker

    monkeypatch.setattr(WorkerProcess, "start", start_meanwhile)
    engine = WorkerEngine(model_path, name="tiny", settings=SETTINGS, cache=tmp_path)
    await engine.start()
    try:
        await removed(tmp_path, "thread_1.")
    finally:
        await engine.stop()


async def test_the_disk_holds_no_more_than_it_may(model_path: Path, tmp_path: Path) -> None:
    """The newest threads stay, within the limit; so do those of models that are gone."""
    async with started(model_path, tmp_path) as engine:
        await say(engine, "thread_0", "Who are you?")
    (one,) = files_of(tmp_path, "thread_0.")
    limit = int(3.5 * one.stat().st_size)
    left = [tmp_path / "another" / f"thread_{size}.0.kv" for size in (limit, 1)]
    left[0].parent.mkdir()
    for path, size in zip(left, (limit, 1), strict=True):
        path.write_bytes(bytes(size))
        os.utime(path, (-size, -size))
    async with started(model_path, tmp_path, cache_disk_bytes=limit) as engine:
        assert [path.exists() for path in left] == [False, True]
        for number in range(1, 7):
            await say(engine, f"thread_{number}", "Who are you?")
    sizes = [path.stat().st_size for path in one.parent.iterdir()]
    assert 0.5 * limit < sum(sizes) <= 1.02 * limit  # the limit is for the states alone
    assert files_of(tmp_path, "thread_6.")


async def test_a_cache_that_cannot_be_used_costs_nothing_else(
    model_path: Path, tmp_path: Path
) -> None:
    """As on a disk that is mounted for reading only."""
    (tmp_path / "cache").write_text("not a folder")
    async with started(model_path, tmp_path / "cache") as engine:
        assert (await say(engine, "thread_1", "Who are you?")).end.completion_tokens == 24
