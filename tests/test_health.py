"""Liveness and readiness: what each notices, and what it says of it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from server.api import health
from server.db.database import DatabaseClosed, DatabaseFull
from server.engine.protocol import EngineUnavailable
from server.engine.scripted import ScriptedEngine
from tests.support import LiveServer, eventually, live_server

NO_CODE = "It is turned off by the setting code_interpreter.backend."
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is looked into."""
    monkeypatch.setattr(health, "FRESH", 0.0)


async def asked(http: httpx.AsyncClient, path: str) -> tuple[int, Any]:
    """Status and body."""
    answer = await http.get(path)
    return answer.status_code, answer.json()


async def test_a_server_that_works(http: httpx.AsyncClient) -> None:
    """Lives and is ready; that no code is run is no reason not to be."""
    assert await asked(http, "/healthz") == (200, {"status": "ok"})
    assert await asked(http, "/readyz") == (200, {"status": "ready", "code_interpreter": NO_CODE})


async def test_a_writer_that_hangs(
    http: httpx.AsyncClient, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is noticed by both, and has not to be when it goes on."""
    monkeypatch.setattr(health, "STUCK", 0.01)
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    begun, release = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        release.wait()

    hanging = asyncio.create_task(server.services.db.write(hang))
    await asyncio.to_thread(begun.wait)
    status, said = await eventually(lambda: asked(http, "/healthz"), lambda told: told[0] == 503)
    assert said == {
        "status": "failing",
        "database": "A write has taken more than 0.01 seconds.",
    }
    status, said = await asked(http, "/readyz")
    assert (status, said["status"]) == (503, "not ready")
    assert said["database"] == "It has not answered for 0.05 seconds."
    release.set()
    await hanging
    monkeypatch.undo()
    await eventually(lambda: asked(http, "/healthz"), lambda told: told[0] == 200)


async def test_a_thread_that_died(
    http: httpx.AsyncClient, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be read or written without it."""
    db = server.services.db
    dead = threading.Thread(name="write_forever")
    dead.start()
    dead.join()
    monkeypatch.setattr(db, "_threads", [*db._threads, dead])
    assert await asked(http, "/healthz") == (
        503,
        {"status": "failing", "database": "A thread has ended: write_forever."},
    )


@pytest.mark.parametrize(("part", "service"), [("runs", "executor"), ("ingestion", "ingestor")])
async def test_a_task_that_ended(
    http: httpx.AsyncClient, server: LiveServer, part: str, service: str
) -> None:
    """Without it nothing would be claimed, or swept."""
    task = getattr(server.services, service)._loops[1]
    task.cancel()
    await asyncio.wait({task})
    status, said = await asked(http, "/healthz")
    assert status == 503
    assert said == {"status": "failing", part: f"A task has ended: {task.get_name()}."}
    task.get_loop()
    getattr(server.services, service)._loops.remove(task)


async def test_a_database_that_somebody_holds(tmp_path: Path) -> None:
    """Not ready until it is free again; alive all the while."""
    async with (
        live_server(tmp_path, database__busy_timeout=0.05) as server,
        server.http() as http,
    ):
        with contextlib.closing(sqlite3.connect(tmp_path / "assistants.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            status, said = await asked(http, "/readyz")
            assert (status, said["database"]) == (503, "Another process holds it.")
            assert (await asked(http, "/healthz"))[0] == 200
        assert (await asked(http, "/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (DatabaseFull(), "It is full."),
        (DatabaseClosed(), "It is closed."),
        (sqlite3.OperationalError("disk I/O error"), "It cannot be written: disk I/O error."),
    ],
    ids=["full", "closed", "broken"],
)
async def test_a_database_that_cannot_be_written(
    http: httpx.AsyncClient,
    server: LiveServer,
    monkeypatch: pytest.MonkeyPatch,
    problem: Exception,
    told: str,
) -> None:
    """The reason is told."""
    monkeypatch.setattr(server.services.db, "write", Mock(side_effect=problem))
    status, said = await asked(http, "/readyz")
    assert (status, said["status"], said["database"]) == (503, "not ready", told)
    monkeypatch.undo()


async def test_a_disk_that_is_full(
    http: httpx.AsyncClient, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything fails for it."""
    asked_for = []

    def usage(path: Path) -> Usage:
        asked_for.append(path)
        return Usage(2**30, 2**30 - 4096, 4096)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    status, said = await asked(http, "/readyz")
    assert (status, said["disk"]) == (503, "It has 4,096 bytes left.")
    assert asked_for == [server.settings.server.data_dir]


async def test_a_model_whose_process_is_replaced(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    """Runs are taken and wait for it."""
    engine.trouble = "The model's worker died: SIGKILL."
    assert await asked(http, "/readyz") == (
        200,
        {"status": "ready", "model": engine.trouble, "code_interpreter": NO_CODE},
    )


async def test_a_model_that_cannot_be_loaded_again(tmp_path: Path, engine: ScriptedEngine) -> None:
    """The default model, that is: whatever runs were created, all would fail."""
    memory = {"models__memory": 10}
    other = ScriptedEngine(takes=10)
    engine = ScriptedEngine(takes=10)
    engines = {"tiny-assistant": engine, "other": other}
    async with live_server(tmp_path, engines=engines, **memory) as server, server.http() as http:
        engine.unusable = "Its file is gone."
        async with server.services.pool.using("other"):
            pass
        with pytest.raises(EngineUnavailable):
            async with server.services.pool.using("tiny-assistant"):
                pass
        status, said = await asked(http, "/readyz")
        assert (status, said["status"], said["model"]) == (503, "not ready", "Its file is gone.")
