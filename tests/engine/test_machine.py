"""What the machine has free, as its files tell it: a container's limit, a build for a GPU."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.engine import devices, machine
from server.engine.devices import Gpus
from server.engine.llama import memory_of_gpus

GIB = 1 << 30
CPU, GPU, IGPU, ACCELERATOR = range(4)  # as ggml-backend.h numbers them


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a control group; it limits nothing yet."""
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    return tmp_path


def test_a_container_has_what_its_limit_leaves(container: Path) -> None:
    """Files that it has read are not counted: their memory is given back when it is needed."""
    (container / "memory.max").write_text(f"{3 << 20}\n")
    (container / "memory.current").write_text(f"{2 << 20}\n")
    assert machine.available_memory() == 1 << 20
    stat = f"anon 5\nactive_file {1 << 19}\ninactive_file {1 << 18}\nfile 9\n"
    (container / "memory.stat").write_text(stat)
    assert machine.available_memory() == (1 << 20) + (1 << 19) + (1 << 18)


def test_a_service_has_what_the_least_of_its_groups_leaves(
    container: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service of systemd is in a group within groups, each of which may have a limit."""
    own = container / "system.slice" / "assistants.service"
    own.mkdir(parents=True)
    (container / "own").write_text("1:cpu:/elsewhere\n0::/system.slice/assistants.service\n")
    monkeypatch.setattr(machine, "_OWN_GROUP", container / "own")
    for group, limit in ((own, 5 << 20), (own.parent, 3 << 20)):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{1 << 20}\n")
    (own / "cpu.max").write_text("100000 100000\n")
    assert machine.available_memory() == 2 << 20
    assert machine.physical_cores() == 1


def test_a_container_without_a_limit_has_what_the_machine_has(container: Path) -> None:
    """As if it were none."""
    expected = machine.available_memory()
    (container / "memory.max").write_text("max\n")
    (container / "memory.current").write_text("1\n")
    assert machine.available_memory() == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(
    ("library", "expected"),
    [("libggml-cuda.so.0.25.3", True), ("libggml-metal.dylib", True), ("libggml-cpu.so", False)],
)
def test_a_build_for_a_gpu_is_known_by_its_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, expected: bool
) -> None:
    """Nothing is loaded to find out."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libggml-base.so").touch()
    (tmp_path / "lib" / library).touch()
    spec = ModuleSpec("llama_cpp", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(machine, "find_spec", lambda _: spec)
    assert machine.computes_on_gpu() is expected


@pytest.fixture(autouse=True)
def unasked() -> None:
    """Nobody has looked for GPUs yet."""
    devices.find_gpus.cache_clear()


@pytest.mark.skipif(machine.computes_on_gpu(), reason="there may be a GPU")
def test_without_a_gpu_there_is_no_memory_of_one() -> None:
    """A real child asks llama.cpp."""
    assert devices.find_gpus() is None


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("\n8589934592 0\n", Gpus(8 * GIB, shared=False)),
        ("\n8589934592 1\n", Gpus(8 * GIB, shared=True)),
        ("\n0 0\n", None),
        ("oops", None),
    ],
)
def test_the_memory_of_gpus_is_the_last_word_of_who_is_asked(
    monkeypatch: pytest.MonkeyPatch, printed: str, expected: Gpus | None
) -> None:
    """Drivers may have printed before; one that cannot be understood is as if it were not there."""
    answer = SimpleNamespace(stdout=f"ggml_cuda_init: found 1 device {printed}")
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: answer)
    assert devices.find_gpus() == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(CPU, 64), (GPU, 8), (GPU, 16)], (24, False)),
        ([(CPU, 64), (GPU, 8), (IGPU, 60)], (8, False)),
        ([(IGPU, 60), (IGPU, 62), (CPU, 64)], (62, True)),
        ([(CPU, 64), (ACCELERATOR, 64)], (0, False)),
    ],
    ids=["of their own", "both", "integrated", "none"],
)
def test_integrated_gpus_count_where_there_are_no_others(
    found: list[tuple[int, int]], expected: tuple[int, bool]
) -> None:
    """llama.cpp takes them then only; however many drivers see it, there is one memory."""
    assert memory_of_gpus(found) == expected


def test_a_child_finds_this_code() -> None:
    """Beside what was there to be found already."""
    root = str(Path(__file__).parents[2])
    assert machine.child_environment()["PYTHONPATH"].split(":")[0] in {root, *sys.path}
