"""What processes take, as far as they may be looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from server.sandbox.usage import without_shared


def test_of_who_may_not_be_looked_at_all_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not none of it."""
    shared_in_part = without_shared([os.getpid()])

    def denied(*_: object) -> NoReturn:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", denied)
    assert without_shared([os.getpid()]) > shared_in_part > 0
