"""The data folder belongs to one server at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.db.folder import DataFolder, FolderInUse

HOLD = """
import pathlib, sys
from server.db.folder import DataFolder
folder = DataFolder(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_second_server(tmp_path: Path) -> None:
    """Is refused, told by whom the folder is used, and let in when that one has closed it."""
    first = DataFolder(tmp_path / "made" / "on demand")
    with pytest.raises(FolderInUse, match=f"process {os.getpid()}"):
        DataFolder(first.path)
    first.close()
    second = DataFolder(first.path)
    assert second.database.parent == first.path
    second.close()


def test_server_in_another_process(tmp_path: Path) -> None:
    """Its lock holds as long as it lives, and is gone when it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FolderInUse, match=f"process {other.pid}"):
            DataFolder(tmp_path)
        other.kill()
        other.wait()
    DataFolder(tmp_path).close()


def test_lock_file_left_behind(tmp_path: Path) -> None:
    """The file alone locks nothing; its old number is replaced by ours."""
    (tmp_path / "server.lock").write_text("999999999")
    folder = DataFolder(tmp_path)
    assert (tmp_path / "server.lock").read_text() == str(os.getpid())
    folder.close()


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    """A path that cannot be a folder is an OSError."""
    (tmp_path / "data").write_text("")
    with pytest.raises(OSError, match="data"):
        DataFolder(tmp_path / "data")
