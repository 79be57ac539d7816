"""Which memory models share: the machine's, or that of its GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import catalog
from server.engine.devices import Gpus
from tests.support import settings_for

MACHINE, GPUS = 1 << 30, 2 << 30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a GPU, whatever this one has."""
    monkeypatch.setattr(catalog, "computes_on_gpu", lambda: True)
    monkeypatch.setattr(catalog, "find_gpus", lambda: Gpus(GPUS, shared=False))
    monkeypatch.setattr(catalog, "available_memory", lambda: MACHINE)


@pytest.mark.parametrize(
    ("usual", "own", "memory"),
    [(-1, -1, GPUS), (-1, 0, GPUS), (0, 20, GPUS), (0, 0, MACHINE)],
)
def test_one_model_on_a_gpu_is_enough_to_count_its_memory(
    tmp_path: Path, usual: int, own: int, memory: int
) -> None:
    """Models that compute elsewhere need little of it."""
    settings = settings_for(tmp_path, engine__gpu_layers=usual, model__one__gpu_layers=own)
    assert catalog._memory(settings) == memory
    assert catalog._counts_gpu(settings) is (memory == GPUS)


def test_without_a_gpu_the_machines_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if all layers were to be on one."""
    monkeypatch.setattr(catalog, "computes_on_gpu", lambda: False)
    assert catalog._memory(settings_for(tmp_path)) == MACHINE


@pytest.mark.parametrize(("found", "memory"), [(None, MACHINE), (Gpus(GPUS, shared=True), GPUS)])
def test_without_memory_of_its_own_a_gpu_takes_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Gpus | None, memory: int
) -> None:
    """A GPU that is not there, or that has none of its own: models are counted whole."""
    monkeypatch.setattr(catalog, "find_gpus", lambda: found)
    settings = settings_for(tmp_path, engine__gpu_layers=-1)
    assert catalog._memory(settings) == memory
    assert not catalog._counts_gpu(settings)
    settings = settings_for(tmp_path, models__memory=5, engine__gpu_layers=-1)
    assert catalog._memory(settings) == 5
    assert not catalog._counts_gpu(settings)
