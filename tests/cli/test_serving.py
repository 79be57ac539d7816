"""`assistants serve` as a process: what it prints, how it stops, and what survives its death."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.process import (
    COMMAND,
    MODEL,
    PATIENCE,
    READY,
    ROOT,
    ServerProcess,
    environment,
    served,
    started,
)

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that the tests of this module only talk to."""
    with served(tmp_path_factory.mktemp("server")) as running:
        yield running


@contextlib.contextmanager
def worker_of(server: ServerProcess) -> Iterator[int]:
    """A handle on the model's process, which turns readable when that is gone."""
    pid = server.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    handle = os.pidfd_open(int(child))
    try:
        yield handle
    finally:
        os.close(handle)


def gone(handle: int) -> bool:
    """Wait until a process has ended; False if it does not."""
    return bool(select.select([handle], [], [], PATIENCE)[0])


def ask(client: openai.OpenAI, says: str = "Hello!") -> dict[str, str]:
    """An assistant and a thread with a question."""
    assistant = client.beta.assistants.create(model="gpt-4o")
    thread = client.beta.threads.create(messages=[{"role": "user", "content": says}])
    return {"assistant_id": assistant.id, "thread_id": thread.id}


def test_banner(server: ServerProcess) -> None:
    """Start-up says where the server is, which model it runs and how large that is."""
    assert httpx.get(server.url.replace("/v1", "/readyz"), trust_env=False).status_code == 200
    assert f"  model    {MODEL.stem}  (" in server.banner
    assert f" {MODEL.stat().st_size / 1e6:.1f} MB, context " in server.banner
    assert "M parameters" in server.banner
    assert re.search(r"^  search   (all-MiniLM-L6-v2|by words)", server.banner, re.MULTILINE)
    assert "  data     data" in server.banner
    assert max(map(len, server.banner.splitlines())) <= 100


def test_snippet(server: ServerProcess) -> None:
    """The snippet that start-up prints runs as it is, and prints the model's answer."""
    snippet = server.banner.partition("Try it:\n")[2].partition("\nReady.")[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(textwrap.dedent(snippet), {})
    assert printed.getvalue().strip()


@on_linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping(tmp_path: Path, number: signal.Signals) -> None:
    """A signal lets a running answer finish and its stream end; no process is left behind."""
    with served(tmp_path) as server, worker_of(server) as worker, server.sdk() as client:
        with client.beta.threads.runs.create(**ask(client), stream=True) as stream:
            while next(stream).event != "thread.run.in_progress":
                pass
            server.process.send_signal(number)
            events = [event.event for event in stream]
        assert server.process.wait(PATIENCE) == 0
        assert gone(worker)
    assert events[-1] == "thread.run.completed"
    assert "Traceback" not in server.log.read_text()


@on_linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    """A signal that reaches the model's process, too, as an init system's does, ends nothing there.

    It is the server that ends it, once the answers are written.
    """
    with served(tmp_path) as server, worker_of(server) as worker, server.sdk() as client:
        signal.pidfd_send_signal(worker, number)
        question = ask(client)
        run = client.beta.threads.runs.create_and_poll(**question)
        assert run.status == "completed"
        assert not select.select([worker], [], [], 0)[0]
        assert server.end() == 0
        assert gone(worker)
    assert "worker_died" not in server.log.read_text()


def test_started_without_standard_streams(tmp_path: Path) -> None:
    """As some who start services do: files and sockets that get such a number are no harm."""
    serve = (*COMMAND, "serve", "--port", "0", "--model", str(MODEL))
    with started(("sh", "-c", 'exec "$@" <&- 2>&-', "sh", *serve), tmp_path) as server:
        with server.sdk() as client:
            run = client.beta.threads.runs.create_and_poll(**ask(client))
        assert run.status == "completed"
        assert server.end() == 0


def test_probed_while_it_starts(tmp_path: Path) -> None:
    """The port answers before the server can work; here it waits for its database."""
    (tmp_path / "data").mkdir()
    database = tmp_path / "data" / "assistants.db"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        process, port = _starting(tmp_path)
        with process:
            _until_it_listens(port)
            url = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
            ready = httpx.get(f"{url}/readyz", trust_env=False)
            assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
            other.execute("ROLLBACK")
            assert process.stdout is not None
            assert any(line.startswith(READY) for line in process.stdout)
            assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0
    assert "Traceback" not in said


def test_stopping_while_it_loads(tmp_path: Path) -> None:
    """A signal during the start ends it at once, without a traceback."""
    process, port = _starting(tmp_path)
    with process:
        _until_it_listens(port)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0
    assert "Traceback" not in said


def test_stopping_a_long_answer(tmp_path: Path) -> None:
    """An answer that outlasts the grace is queued again, and its stream says so."""
    command = (sys.executable, str(ROOT / "tests/sdk/scripted_server.py"), "data")
    with started(command, tmp_path) as server, server.sdk() as client:
        stream = client.beta.threads.runs.create(**ask(client, "say One\nhold"), stream=True)
        run = next(stream).data
        while next(stream).event != "thread.message.delta":
            pass
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
        assert server.process.wait(PATIENCE) == 0
    address = {"run_id": run.id, "thread_id": run.thread_id}
    with started(command, tmp_path) as server, server.sdk() as client:
        assert client.beta.threads.runs.retrieve(**address).status in ("queued", "in_progress")
        client.beta.threads.runs.cancel(**address)
        assert client.beta.threads.runs.poll(**address).status == "cancelled"


@on_linux
def test_killed_and_started_again(tmp_path: Path) -> None:
    """Killed just before a run's end, it leaves no process; the next start ends the run."""
    with (
        served(tmp_path, ASSISTANTS_FAILPOINTS="run.completed=kill") as server,
        worker_of(server) as worker,
        server.sdk(max_retries=0) as client,
    ):
        stream = client.beta.threads.runs.create(**ask(client), stream=True)
        run = next(stream).data
        with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
            list(stream)
        assert server.process.wait(PATIENCE) == -signal.SIGKILL
        assert gone(worker)
    address = {"run_id": run.id, "thread_id": run.thread_id}
    with served(tmp_path) as server, server.sdk() as client:
        ended = client.beta.threads.runs.poll(**address)
        steps = list(client.beta.threads.runs.steps.list(**address, order="asc"))
        messages = list(client.beta.threads.messages.list(run.thread_id, order="asc"))
    assert ended.status == "completed"
    assert [step.status for step in steps] == ["failed", "completed"]
    assert [message.status for message in messages] == ["completed", "incomplete", "completed"]
    assert messages[1].incomplete_details.reason == "run_failed"
    assert messages[2].content[0].text.value.strip()


def _starting(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """`assistants serve`, and the port that it will listen on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (*COMMAND, "serve", "--port", str(port), "--model", str(MODEL))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=pipe, stderr=pipe, text=True
    )
    return process, port


def _until_it_listens(port: int) -> None:
    """Nothing tells when another process listens but trying."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        time.sleep(0.01)
    raise AssertionError(f"nothing listens on port {port}")
