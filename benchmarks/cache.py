"""Where benchmarks keep what is slow to make: llama.cpp's source, built peers, models."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """One for every checkout of this user; ASSISTANTS_BENCH_CACHE names another."""
    if given := os.environ.get("ASSISTANTS_BENCH_CACHE"):
        return Path(given).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "assistants-server" / "bench"
