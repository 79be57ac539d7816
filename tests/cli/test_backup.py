"""`assistants backup` and `assistants restore` as commands, beside a server that works."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.process import COMMAND, MODEL, PATIENCE, environment, served

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"there is no model at {MODEL}")


def ask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    return subprocess.run(
        (*COMMAND, *arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_there_and_back(tmp_path: Path) -> None:
    """What a running server has is in the copy, and a server on that has it, too."""
    with served(tmp_path) as server, server.sdk() as client:
        file = client.files.create(file=("a.txt", b"Hello."), purpose="vision")
        thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hi!"}])
        saved = ask(tmp_path, "backup", "copy")
        assert saved.stdout == "copy is made: the database, and 1 files of 0.0 MB.\n", saved.stderr
        again = ask(tmp_path, "backup", "copy")
        assert (again.returncode, again.stderr) == (1, "assistants: copy is there already\n")
        busy = ask(tmp_path, "restore", "copy")
        assert busy.stderr.startswith("assistants: data is not empty"), busy.stderr
    restored = ask(tmp_path, "restore", "copy", "--data-dir", "other")
    assert restored.stdout.startswith("other is as it was"), restored.stderr
    with served(tmp_path, "--data-dir", "other") as server, server.sdk() as client:
        assert client.files.content(file.id).content == b"Hello."
        (message,) = client.beta.threads.messages.list(thread.id)
    assert message.content[0].text.value == "Hi!"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backup", "copy"], "there is no database in data"),
        (["restore", "copy"], "copy is no backup: there is no backup.json that can be read"),
    ],
)
def test_refusals(tmp_path: Path, arguments: list[str], said: str) -> None:
    """One line says why."""
    done = ask(tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (1, f"assistants: {said}\n")
