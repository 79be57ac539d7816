"""Files in a server that is a process of its own: what its death leaves, and what it needs."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.files.conftest import digests_on_disk, on_their_way
from tests.forms import FORM, PURPOSE, file, form
from tests.process import MODEL, PATIENCE, ServerProcess, served

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")

MIB = 2**20


def digests_in(data: Path) -> set[str]:
    """The digests that rows have, out of a database that nobody uses."""
    with contextlib.closing(sqlite3.connect(data / "assistants.db")) as raw:
        return {row[0] for row in raw.execute("SELECT sha256 FROM file")}


def upload(server: ServerProcess, content: bytes) -> httpx.Response:
    """Send a file."""
    body = form(PURPOSE, file(content))
    url = f"{server.url}/files"
    return httpx.post(url, content=body, headers=FORM, timeout=PATIENCE, trust_env=False)


def test_a_killed_server_loses_no_file_and_keeps_no_rest(tmp_path: Path) -> None:
    """Killed while it writes, before and after the rename, before the row is durable, after it."""
    data = tmp_path / "data"
    acknowledged: list[str] = []
    whole = b"y" * 3 * MIB
    deaths = {
        "blob.write=kill:2": whole,
        "blob.rename.before=kill:2": whole,
        "blob.rename.after=kill:2": whole,
        "commit.before=kill": whole,
    }
    for point, content in deaths.items():
        number = f"{len(acknowledged)}".encode()
        with served(tmp_path, ASSISTANTS_FAILPOINTS="" if "commit" in point else point) as server:
            assert digests_on_disk(data) == digests_in_rows(server)
            assert on_their_way(data) == []
            acknowledged.append(upload(server, number).raise_for_status().json()["id"])
            if "commit" in point:
                server.process.kill()
            else:
                with pytest.raises(httpx.HTTPError):
                    upload(server, content)
            server.process.wait(PATIENCE)
    with served(tmp_path) as server:
        assert digests_on_disk(data) == digests_in_rows(server)
        assert on_their_way(data) == []
        for number, file_id in enumerate(acknowledged):
            answer = httpx.get(f"{server.url}/files/{file_id}/content", trust_env=False)
            assert answer.content == f"{number}".encode()
        assert upload(server, whole).status_code == 200


def digests_in_rows(server: ServerProcess) -> set[str]:
    """The digests that rows have."""
    return digests_in(server.log.parent / "data")


def test_a_delete_that_is_killed_is_done_at_the_next_start(tmp_path: Path) -> None:
    """Its row is gone, and its bytes follow."""
    with served(tmp_path, ASSISTANTS_FAILPOINTS="blob.remove.before=kill") as server:
        made = upload(server, b"x").json()["id"]
        with pytest.raises(httpx.HTTPError):
            httpx.delete(f"{server.url}/files/{made}", timeout=PATIENCE, trust_env=False)
        server.process.wait(PATIENCE)
    assert len(digests_on_disk(tmp_path / "data")) == 1
    with served(tmp_path) as server:
        assert digests_on_disk(tmp_path / "data") == set()
        answer = httpx.get(f"{server.url}/files/{made}", trust_env=False)
        assert answer.status_code == 404


@pytest.mark.skipif(sys.platform != "linux", reason="looks at a process through /proc")
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    """512 MiB up, and 64 MiB up in parts and down again, take less than 16 MiB."""
    with served(tmp_path) as server:
        upload(server, b"x" * MIB).raise_for_status()  # what is needed once is there
        before = reset_peak(server)

        def pieces() -> Iterator[bytes]:
            yield PURPOSE + file(b"")[:-2]
            for number in range(512):
                yield bytes([number % 256]) * MIB
            yield b"\r\n" + form()

        answer = httpx.post(
            f"{server.url}/files", content=pieces(), headers=FORM, timeout=PATIENCE, trust_env=False
        )
        made = answer.raise_for_status().json()
        assert made["bytes"] == 512 * MIB
        with server.sdk() as sdk:
            joined = sdk.uploads.upload_file_chunked(
                file=bytes(64 * MIB),
                filename="b",
                bytes=64 * MIB,
                mime_type="text/plain",
                purpose="vision",
                part_size=20 * MIB,
            )
        assert joined.file is not None
        url = f"{server.url}/files/{joined.file.id}/content"
        with httpx.stream("GET", url, timeout=PATIENCE, trust_env=False) as download:
            assert sum(map(len, download.iter_bytes())) == 64 * MIB
        assert peak(server) - before < 16 * MIB


def reset_peak(server: ServerProcess) -> int:
    """Have the kernel count anew; returns the bytes in use now."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    return _status(server, "VmRSS")


def peak(server: ServerProcess) -> int:
    """The most bytes that were in use at once since."""
    return _status(server, "VmHWM")


def _status(server: ServerProcess, name: str) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) * 1024
