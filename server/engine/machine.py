"""What the machine at hand offers: cores to compute on, memory to fill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import server

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology"
_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_UNIFIED = "0::"  # how the line of the one hierarchy that is looked at begins
_RECLAIMABLE = ("active_file ", "inactive_file ")
_GPU_BACKENDS = ("ggml-cuda", "ggml-hip", "ggml-metal", "ggml-vulkan", "ggml-sycl")


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once, within the container's quota."""
    allowed = _allowed_processors()
    cores = {_core_of(processor) for processor in allowed}
    return max(1, min(len(cores), _quota()))


def available_memory() -> int:
    """Bytes that can be taken now without swapping; a guess of 4 GiB where nothing tells."""
    known = [size for size in (_free_in_system(), _free_in_container()) if size is not None]
    return max(0, min(known, default=4 << 30))


def computes_on_gpu() -> bool:
    """Whether llama.cpp was built for a GPU here; asked of its files, so that it is not loaded."""
    package = find_spec("llama_cpp")
    folders = package.submodule_search_locations if package else None
    files = (file.name for folder in folders or () for file in Path(folder).glob("lib/*ggml-*"))
    return any(backend in name for name in files for backend in _GPU_BACKENDS)


def child_environment() -> dict[str, str]:
    """Ours, such that `python -m server…` finds this code, installed or not."""
    environment = dict(os.environ)
    root = Path(server.__file__).parents[1]
    if root.name not in {"site-packages", "dist-packages"}:
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{known}" if known else str(root)
    return environment


def _allowed_processors() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _core_of(processor: int) -> tuple[str, str]:
    topology = Path(_TOPOLOGY.format(processor))
    package = _text(topology / "physical_package_id")
    core = _text(topology / "core_id")
    return (package or "", core or f"processor {processor}")


def _quota() -> int:
    return min((_quota_of(group) for group in _groups()), default=os.cpu_count() or 1)


def _quota_of(group: Path) -> int:
    quota, _, period = (_text(group / "cpu.max") or "max").partition(" ")
    if quota == "max" or not period:
        return os.cpu_count() or 1
    return max(1, int(quota) // int(period))


def _groups() -> Iterator[Path]:
    """The control group that we are in, and those that it is in: each may have a limit.

    A container sees its own as the root; a service of systemd does not.
    """
    lines = (_text(_OWN_GROUP) or "").splitlines()
    own = next((line[len(_UNIFIED) :] for line in lines if line.startswith(_UNIFIED)), "/")
    path = PurePosixPath(own)
    for group in (path, *path.parents):
        yield _CGROUP / group.relative_to("/")


def _free_in_system() -> int | None:
    for line in (_text(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free_in_container() -> int | None:
    free = (_free_in_group(group) for group in _groups())
    return min((size for size in free if size is not None), default=None)


def _free_in_group(group: Path) -> int | None:
    limit, used = _text(group / "memory.max"), _text(group / "memory.current")
    if limit is None or used is None or limit == "max":
        return None
    return int(limit) - int(used) + _cached_in_group(group)


def _cached_in_group(group: Path) -> int:
    """What is counted as used, and given back when it is needed: files that were read."""
    lines = (_text(group / "memory.stat") or "").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(_RECLAIMABLE))


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
