"""What processes take, as far as they may be looked at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from server.sandbox.usage import held_in_namespace, without_shared


def test_of_who_may_not_be_looked_at_all_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not none of it."""
    shared_in_part = without_shared([os.getpid()])

    def denied(*_: object) -> NoReturn:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", denied)
    assert without_shared([os.getpid()]) > shared_in_part > 0


def test_file_systems_that_have_no_number_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kernels give all those that are in memory the number 0; each counts, and once."""
    told = SimpleNamespace(f_fsid=0, f_files=10, f_ffree=7)
    monkeypatch.setattr(os, "statvfs", lambda _: told)
    assert held_in_namespace(os.getpid(), ["/proc", "/dev", "/dev/null"], []).files == 6


def test_a_session_that_ends_is_not_one_that_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kernels refuse a look at what has ended; of what goes on, a refusal is an alarm."""

    def denied(*_: object) -> NoReturn:
        raise PermissionError

    monkeypatch.setattr(os, "statvfs", denied)
    monkeypatch.setattr(Path, "stat", lambda _: SimpleNamespace(st_dev=1))
    with pytest.raises(PermissionError):
        held_in_namespace(os.getpid(), ["/tmp"], [])
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
        with pytest.raises(ProcessLookupError):
            held_in_namespace(ended.pid, ["/tmp"], [])
