"""llama.cpp's source as the pinned llama-cpp-python ships it, unpacked once into the cache.

Peers are built from it and vocabularies read from it, so that both belong to the release we serve
with. Only pip fetches anything.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

from benchmarks.cache import cache_folder
from tools.build_llama import BUILD_TOOLS, SOURCE, locked, pip, say


def llama_cpp_source() -> Path:
    """The folder of llama.cpp's CMakeLists.txt."""
    folder = cache_folder() / "source" / hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        return _unpacked(folder) or _fetch(folder)


def build_tools() -> Path:
    """A folder for PYTHONPATH, whose `bin` has CMake and Ninja."""
    folder = cache_folder() / "tools" / hashlib.sha256(BUILD_TOOLS.read_bytes()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        if not (folder / "bin" / "cmake").exists():
            _quietly([*pip("install"), "--target", str(folder), "-r", str(BUILD_TOOLS)])
    return folder


def build_environment() -> dict[str, str]:
    """The environment in which CMake, Ninja and the package's build backend are found."""
    tools = build_tools()
    return {
        **os.environ,
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(tools),
    }


def gguf_package() -> ModuleType:
    """llama.cpp's own reader and writer of model files: it is part of the source."""
    folder = str(llama_cpp_source() / "gguf-py")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("gguf")


def _unpacked(folder: Path) -> Path | None:
    return next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"), None)


def _fetch(folder: Path) -> Path:
    say("Fetching the source of llama.cpp, once ...")
    with tempfile.TemporaryDirectory(dir=folder) as work:
        fetch = [*pip("download"), "--no-deps", "--no-build-isolation", "-d", work]
        fetch += ["--no-binary", "llama-cpp-python", "-r", str(SOURCE)]
        _quietly(fetch, build_environment())
        with tarfile.open(next(Path(work).glob("*.tar.gz"))) as archive:
            archive.extractall(work, filter="data")
        tree = next(path for path in Path(work).iterdir() if path.is_dir())
        tree.rename(folder / tree.name)
    return _unpacked(folder) or _missing(folder)


def _missing(folder: Path) -> Path:
    raise FileNotFoundError(f"llama-cpp-python's source in {folder} has no vendor/llama.cpp")


def _quietly(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run it; what it says is shown only when it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
