"""The build of llama.cpp: done once, kept, and clear about what is wrong.

Nothing is compiled here: what would do it is stood in for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools import build_llama
from tools.build_llama import FLAGS, BuildFailed, Recipe, cached_wheel

CPU = Recipe(FLAGS, "cpu")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The builds that were run; each makes a wheel without compiling anything."""
    done: list[Recipe] = []

    def run(recipe: Recipe, work: Path, log: Path) -> None:
        done.append(recipe)
        (work / "llama.whl").write_text("built")

    monkeypatch.setattr(build_llama, "run_build", run)
    return done


def test_a_wheel_is_built_once(tmp_path: Path, builds: list[Recipe]) -> None:
    """The second request for the same recipe takes what the first one built."""
    first = cached_wheel(CPU, tmp_path)
    assert cached_wheel(CPU, tmp_path) == first
    assert builds == [CPU]
    assert first.read_text() == "built"


def test_builds_at_the_same_time_share_one_wheel(tmp_path: Path, builds: list[Recipe]) -> None:
    """Two checkouts that are set up at once compile once."""
    wheels: list[Path] = []
    threads = [
        threading.Thread(target=lambda: wheels.append(cached_wheel(CPU, tmp_path)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(wheels)) == len(builds) == 1


def test_other_flags_and_other_machines_need_another_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GPU, flags and processor are all part of what a wheel is kept under."""
    keys = {CPU.key, Recipe(FLAGS, "cuda").key, Recipe((*FLAGS, "-DX=1"), "cpu").key}
    monkeypatch.setattr(build_llama, "processor", lambda: "another")
    assert len({*keys, CPU.key}) == 4


def test_what_a_killed_build_left_is_removed(tmp_path: Path, builds: list[Recipe]) -> None:
    """A build that was killed half-way leaves nothing behind for long."""
    left = tmp_path / CPU.key / "build-killed"
    left.mkdir(parents=True)
    cached_wheel(CPU, tmp_path)
    assert not left.exists()


def test_a_missing_compiler_is_told_before_anything_is_fetched(
    tmp_path: Path, builds: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a compiler nothing is started, and the message says what to install."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildFailed, match=r"no no-such-compiler\.\n.*build-essential"):
        cached_wheel(CPU, tmp_path)
    assert not builds


def test_a_failed_build_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's end is in the message, with the log's place; the cache stays empty."""
    program = "print('[1/2] compiling'); print('error: it broke'); raise SystemExit(3)"
    monkeypatch.setattr(build_llama, "pip", lambda _: [sys.executable, "-c", program])
    with pytest.raises(BuildFailed, match="error: it broke") as caught:
        cached_wheel(Recipe(FLAGS, "cuda"), tmp_path)
    log = next(tmp_path.glob("*/build.log"))
    assert str(log) in str(caught.value)
    assert "nvcc" in str(caught.value)
    assert not list(tmp_path.glob("*/*.whl"))


def test_a_build_shows_how_far_it_is(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The share of steps done is read from the build's own output."""
    progress = build_llama.Progress()
    with (tmp_path / "log").open("w+") as log:
        log.writelines(["start\n", "  [41/83] cc -c x.c\n"])
        log.seek(0)
        with (tmp_path / "copy").open("w") as copy:
            progress.read(log, copy)
    progress.show()
    assert "llama.cpp:  49 %, 0:00" in capfd.readouterr().err
    assert "[41/83]" in (tmp_path / "copy").read_text()


def test_the_command_prints_only_the_path_of_the_wheel(tmp_path: Path) -> None:
    """A script can use the output as it is; what is for people goes to standard error."""
    kept = tmp_path / CPU.key / "kept.whl"
    kept.parent.mkdir()
    kept.touch()
    environment = {**os.environ, "ASSISTANTS_WHEEL_CACHE": str(tmp_path), "CMAKE_ARGS": ""}
    done = subprocess.run(
        [sys.executable, build_llama.__file__],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{kept}\n"
