"""Benchmarks are run seldom: what they use of the server has to be there all the same."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import benchmarks

MODULES = sorted(path.stem for path in Path(benchmarks.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_can_be_imported(name: str) -> None:
    """Every name that it imports is there."""
    importlib.import_module(f"benchmarks.{name}")
