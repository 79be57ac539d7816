"""What our engine is compared with, built once into the cache: `python -m benchmarks.peers`.

llama.cpp's own programs come from the source of the release that our llama-cpp-python pins, with
the flags of our wheel; llama-cpp-python's packaged server runs on our wheel itself, in an
environment of its own. `threadpool` is the same library without OpenMP, for benchmarks.spin.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cache import cache_folder
from benchmarks.source import build_environment, llama_cpp_source
from tools import build_llama
from tools.build_llama import BuildFailed, locked, say, watched

# The programs need what our wheel goes without; of the rest, what would be fetched or is not used.
PROGRAM_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",  # so that the built folder can be moved
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_BUILD_COMMON=ON",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to build, and what of it is wanted."""

    flags: tuple[str, ...]
    targets: tuple[str, ...]


VARIANTS = {
    "programs": Variant((), ("llama-server", "llama-batched-bench", "llama-bench")),
    "threadpool": Variant(("-DGGML_OPENMP=OFF",), ("llama",)),
}


class NotBuilt(Exception):
    """A peer is missing; the text says how to get it."""


def program(name: str, gpu: str = "cpu") -> Path:
    """A program of llama.cpp that was built before."""
    return _existing(built_folder("programs", gpu) / name)


def threadpool_library(gpu: str = "cpu") -> Path:
    """The folder of libllama without OpenMP, for LLAMA_CPP_LIB_PATH."""
    return _existing(built_folder("threadpool", gpu))


def packaged_server_python(gpu: str = "cpu") -> Path:
    """The interpreter that has llama-cpp-python's packaged server."""
    return _existing(_packaged_folder(gpu) / "bin" / "python")


def built_folder(variant: str, gpu: str) -> Path:
    """Where a build of these flags on this machine lies, or would."""
    facts = (build_llama.SOURCE.read_text(), *_flags(variant, gpu), *build_llama.machine())
    digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()
    return cache_folder() / "peers" / f"{variant}-{gpu}-{digest[:16]}"


def build(variant: str, gpu: str) -> Path:
    """The folder of programs and libraries, built if the cache has none."""
    folder = built_folder(variant, gpu)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            _compile(variant, gpu, folder)
    return folder


def install_packaged_server(gpu: str) -> Path:
    """llama-cpp-python's server and what it alone needs, on the wheel that we built."""
    folder = _packaged_folder(gpu)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            say("Installing llama-cpp-python's packaged server ...")
            wheel = build_llama.cached_wheel(_wheel_recipe(gpu), build_llama.cache_folder())
            _install(f"{wheel}[server]", folder)
    return folder


def _flags(variant: str, gpu: str) -> tuple[str, ...]:
    extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    return (*PROGRAM_FLAGS, *VARIANTS[variant].flags, *build_llama.GPUS[gpu], *extra)


def _compile(variant: str, gpu: str, folder: Path) -> None:
    build_llama.require_compilers()
    say(f"Building {' '.join(VARIANTS[variant].targets)}, once: some minutes ...")
    environment, log = build_environment(), folder.with_suffix(".log")
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        configure = ["cmake", "-S", str(llama_cpp_source()), "-B", work, "-G", "Ninja"]
        make = ["cmake", "--build", work, "--target", *VARIANTS[variant].targets]
        with log.open("w") as out:
            for command in ([*configure, *_flags(variant, gpu)], make):
                if watched(command, environment, out):
                    raise BuildFailed(build_llama.explained(log, gpu))
        shutil.move(Path(work) / "bin", folder)


def _wheel_recipe(gpu: str) -> build_llama.Recipe:
    """That of the wheel which `make setup` installs."""
    extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    return build_llama.Recipe((*build_llama.FLAGS, *build_llama.GPUS[gpu], *extra), gpu)


def _packaged_folder(gpu: str) -> Path:
    return cache_folder() / "peers" / f"packaged-server-{_wheel_recipe(gpu).key}"


def _install(requirement: str, folder: Path) -> None:
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    done = subprocess.run([*pip, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder)
        raise BuildFailed(f"The packaged server was not installed:\n{done.stderr}")


def _existing(path: Path) -> Path:
    if not path.exists():
        raise NotBuilt(f"{path.name} is not built: python -m benchmarks.peers")
    return path


def main() -> int:
    """Build all peers; 1 with an explanation if one cannot be built."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", choices=build_llama.GPUS, default="cpu")
    options = parser.parse_args()
    try:
        for variant in VARIANTS:
            print(build(variant, options.gpu))
        print(install_packaged_server(options.gpu))
    except BuildFailed as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
