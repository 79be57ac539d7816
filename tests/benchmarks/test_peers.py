"""Peers of the engine's benchmark: what is kept under which name, and what is said of a lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import NotBuilt, built_folder, packaged_server_python, program


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANTS_BENCH_CACHE", str(tmp_path))


def test_a_missing_peer_says_how_to_get_it() -> None:
    """The benchmark leaves it out and shows this."""
    for wanted in (lambda: program("llama-server"), packaged_server_python):
        with pytest.raises(NotBuilt, match=r"python -m benchmarks\.peers"):
            wanted()


def test_other_flags_need_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build with OpenMP never stands in for one without, nor one for a GPU for one without."""
    folders = {
        built_folder(variant, gpu)
        for variant in ("programs", "threadpool")
        for gpu in ("cpu", "cuda")
    }
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_AVX512=OFF")
    folders.add(built_folder("programs", "cpu"))
    assert len(folders) == 5
