"""A disk that is full: a small one of the server's own, which only its process sees."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.files.conftest import on_their_way
from tests.process import ROOT, ServerProcess, started
from tests.runs.story import HELLO, Json, granted
from tests.support import BETA, DEADLINE

SIZE = 24 * 2**20
ROOM = 40 * 2**10  # what SQLite maps has some, what is written has none
PLENTY = 500
MOUNT = ("unshare", "--user", "--map-root-user", "--mount")
SERVER = (sys.executable, str(ROOT / "tests/sdk/scripted_server.py"), "data")


def can_mount() -> bool:
    """Whether a process here may have a disk of its own."""
    if sys.platform != "linux":
        return False
    command = (*MOUNT, "mount", "-t", "tmpfs", "none", "/mnt")
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


pytestmark = pytest.mark.skipif(
    not can_mount(), reason="a process may have no disk of its own here"
)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A server, and its data folder as its process sees it."""

    http: httpx.Client
    data: Path

    def fill(self) -> None:
        """Somebody else takes all that is left."""
        with (
            (self.data / "ballast").open("wb", buffering=0) as ballast,
            contextlib.suppress(OSError),
        ):
            while ballast.write(bytes(4096)):
                pass

    def make_room(self) -> None:
        (self.data / "ballast").unlink()

    def upload(self, size: int) -> httpx.Response:
        """A new file."""
        sent = {"file": ("a.txt", b"x" * size), "purpose": (None, "vision")}
        return self.http.post("/v1/files", files=sent)

    def blobs(self) -> int:
        """How many bytes of files there are, whole or not."""
        assert on_their_way(self.data) == []
        return len(list((self.data / "blobs").glob("??/*")))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A server on a disk of 24 MiB."""
    (tmp_path / "data").mkdir()
    mounted = f"mount -t tmpfs -o size={SIZE} none data && exec {shlex.join(SERVER)}"
    with started((*MOUNT, "sh", "-c", mounted), tmp_path) as server, client(server) as http:
        yield SmallDisk(http, Path(f"/proc/{server.process.pid}/root{tmp_path}/data"))
        server.end()


def client(server: ServerProcess) -> httpx.Client:
    """A bare client."""
    url = server.url.removesuffix("/v1")
    return httpx.Client(base_url=url, headers=BETA, timeout=DEADLINE, trust_env=False)


def assert_full(refused: httpx.Response) -> None:
    """What it says is OpenAI's form of an error, and not worth a retry at once."""
    assert refused.status_code == 503, refused.text
    assert refused.json()["error"]["message"] == ("The server's disk is full; nothing was written.")
    assert refused.headers["x-should-retry"] == "false"


def test_full_and_healed(disk: SmallDisk, tmp_path: Path) -> None:
    """Writers are refused in order, readers go on, and room is all that it takes to go on."""
    http = disk.http
    thread = f"/v1/threads/{granted(http.post('/v1/threads', json={'messages': [HELLO]}))['id']}"
    assistant = granted(http.post("/v1/assistants", json={"model": "gpt-4o"}))
    disk.fill()
    kept, refused = say_until_refused(http, thread)
    assert_full(refused)
    assert_full(http.post(f"{thread}/runs", json={"assistant_id": assistant["id"]}))
    assert_full(disk.upload(100_000))
    assert http.get(f"/v1/assistants/{assistant['id']}").json() == assistant
    assert messages(http, thread) == kept
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").status_code == 503

    disk.make_room()
    order = {"role": "user", "content": "say There is room."}
    granted(http.post(f"{thread}/messages", json=order))
    run = granted(http.post(f"{thread}/runs", json={"assistant_id": assistant["id"]}))
    http.get(f"{thread}/runs/{run['id']}/events")
    assert granted(http.get(f"{thread}/runs/{run['id']}"))["status"] == "completed"
    assert set(kept) < set(messages(http, thread))
    while http.get("/readyz").status_code != 200:  # what it has found out is told for a second
        pass
    assert_whole(disk.data, tmp_path)


def test_full_of_files(disk: SmallDisk, tmp_path: Path) -> None:
    """A file without room leaves nothing; smaller ones have some, and a deleted one makes some."""
    first = granted(disk.upload(10 * 2**20))
    assert_full(disk.upload(SIZE))
    assert disk.blobs() == 1
    second = granted(disk.upload(100_000))
    granted(disk.http.delete(f"/v1/files/{first['id']}"))
    granted(disk.upload(12 * 2**20))
    assert disk.blobs() == 2
    assert disk.http.get(f"/v1/files/{second['id']}/content").content == b"x" * 100_000
    assert_whole(disk.data, tmp_path)


def test_started_without_room(tmp_path: Path) -> None:
    """A server that cannot take over its predecessor's run yet answers, and does so later."""
    with started(SERVER, tmp_path) as server, client(server) as http:
        hold = {"role": "user", "content": "hold"}
        thread = f"/v1/threads/{granted(http.post('/v1/threads', json={'messages': [hold]}))['id']}"
        assistant = granted(http.post("/v1/assistants", json={"model": "gpt-4o"}))
        run = granted(http.post(f"{thread}/runs", json={"assistant_id": assistant["id"]}))
        url = f"{thread}/runs/{run['id']}"
        while granted(http.get(url))["status"] != "in_progress":
            pass
        server.end(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "assistants.db")) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (tmp_path / "small").mkdir()
    mounted = (
        f"mount -t tmpfs -o size={SIZE} none small && cp -a data/. small && cd small && "
        f"cat /dev/zero > ballast; truncate -s -{ROOM} ballast; cd .. && "
        f"exec {shlex.join((*SERVER[:-1], 'small'))}"
    )
    with started((*MOUNT, "sh", "-c", mounted), tmp_path) as server, client(server) as http:
        disk = SmallDisk(http, Path(f"/proc/{server.process.pid}/root{tmp_path}/small"))
        assert granted(http.get(url))["status"] == "in_progress"
        assert_full(http.post(f"{url}/cancel"))
        assert "recovery_delayed" in server.log.read_text()
        disk.make_room()
        granted(http.post(f"{url}/cancel"))
        http.get(f"{url}/events")
        assert granted(http.get(url))["status"] == "cancelled"
        server.end()


def say_until_refused(http: httpx.Client, thread: str) -> tuple[list[str], httpx.Response]:
    """All messages, oldest first, when one more was refused."""
    for _ in range(PLENTY):
        answer = http.post(f"{thread}/messages", json={"role": "user", "content": "x" * 10_000})
        if answer.status_code != 200:
            return messages(http, thread), answer
    raise AssertionError("the disk is not full")


def messages(http: httpx.Client, thread: str) -> list[str]:
    """All of them, oldest first."""
    found: list[Json] = []
    more = True
    while more:
        after = {"after": found[-1]["id"]} if found else {}
        query = {"order": "asc", "limit": 100, **after}
        page = granted(http.get(f"{thread}/messages", params=query))
        found, more = found + page["data"], page["has_more"]
    return [message["id"] for message in found]


def assert_whole(data: Path, elsewhere: Path) -> None:
    """SQLite finds no fault with the file, nor with the log that goes with it."""
    for name in ("assistants.db", "assistants.db-wal"):
        shutil.copyfile(data / name, elsewhere / name)
    with contextlib.closing(sqlite3.connect(elsewhere / "assistants.db")) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
