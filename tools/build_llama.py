"""Builds llama-cpp-python for this machine, once, and prints the path of the wheel.

Wheels are kept in a cache of our own, since pip's does not know of CMake's flags: one for each
version, Python, set of flags and processor. Needs a C and a C++ compiler; CMake and Ninja are
fetched.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "requirements" / "llama.lock"
BUILD_TOOLS = ROOT / "requirements" / "llama-build.lock"

# Only the library is needed. The package's own CMake file forces "common" into the cache, where a
# plain variable, set by a file that is included at its start, still shadows it.
WITHOUT_COMMON = "set(LLAMA_BUILD_COMMON OFF)\n"
FLAGS = (
    "-DLLAVA_BUILD=OFF",
    "-DLLAMA_BUILD_TOOLS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
GPUS = {
    "cpu": (),
    "cuda": ("-DGGML_CUDA=ON",),
    "metal": ("-DGGML_METAL=ON",),
    "vulkan": ("-DGGML_VULKAN=ON",),
}
PORTABLE = ("-DGGML_NATIVE=OFF",)
STEP = re.compile(r"\[(\d+)/(\d+)\]")
TAIL = 25


class BuildFailed(Exception):
    """The build did not work; the text says what is known and what may help."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides how the built library comes out."""

    flags: tuple[str, ...]
    gpu: str

    @property
    def key(self) -> str:
        facts = (SOURCE.read_text(), WITHOUT_COMMON, *self.flags, *machine())
        digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()
        return f"{self.gpu}-{digest[:16]}"


def main() -> int:
    """Print the wheel's path; 1 with an explanation if it cannot be built."""
    options = arguments()
    extra = shlex.split(os.environ.get("CMAKE_ARGS", ""))
    portable = PORTABLE if options.portable else ()
    recipe = Recipe((*FLAGS, *GPUS[options.gpu], *portable, *extra), options.gpu)
    try:
        print(cached_wheel(recipe, cache_folder()))
    except BuildFailed as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", choices=GPUS, default="cpu", help="what to decode on")
    parser.add_argument(
        "--portable", action="store_true", help="for any processor of this kind, not just this one"
    )
    return parser.parse_args()


def cache_folder() -> Path:
    """Where built wheels are kept, for every checkout of this user."""
    if given := os.environ.get("ASSISTANTS_WHEEL_CACHE"):
        return Path(given).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "assistants-server" / "wheels"


def cached_wheel(recipe: Recipe, cache: Path) -> Path:
    """The wheel for `recipe`, built if the cache has none. Whoever comes second waits."""
    folder = cache / recipe.key
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        return existing_wheel(folder) or build(recipe, folder)


def existing_wheel(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.whl"))), None)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock; the kernel gives it back if we die."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another build of llama.cpp on this machine ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(recipe: Recipe, folder: Path) -> Path:
    """Build in a folder that goes away, and move the wheel into the cache in one step."""
    require_compilers()
    say("Building llama.cpp for this machine, once: about 2-4 minutes on two cores ...")
    log = folder / "build.log"
    for left_by_a_killed_build in folder.glob("build-*/"):
        shutil.rmtree(left_by_a_killed_build)
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as work:
        run_build(recipe, Path(work), log)
        built = existing_wheel(Path(work))
        if built is None:
            raise BuildFailed(f"The build made no wheel. Its log: {log}")
        return built.rename(folder / built.name)


def require_compilers() -> None:
    """Fail at once, and clearly, where CMake would fail late."""
    c, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
    missing = [name for name in (c, cxx) if not shutil.which(shlex.split(name)[0])]
    if missing:
        raise BuildFailed(
            f"llama.cpp cannot be built: there is no {' and no '.join(missing)}.{HINT}"
        )


HINT = """
It needs a C and a C++ compiler. On Debian and Ubuntu: apt-get install build-essential.
On Fedora: dnf install gcc gcc-c++. On macOS: xcode-select --install."""
CUDA_HINT = """
A CUDA build also needs NVIDIA's CUDA toolkit, with nvcc on the PATH."""


def run_build(recipe: Recipe, work: Path, log: Path) -> None:
    tools, shadow = work / "tools", work / "without_common.cmake"
    shadow.write_text(WITHOUT_COMMON)
    flags = (*recipe.flags, f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={shadow}")
    environment = {
        **os.environ,
        "CMAKE_ARGS": shlex.join(flags),
        "CMAKE_GENERATOR": "Ninja",
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(tools),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    fetch = [*pip("install"), "--target", str(tools), "-r", str(BUILD_TOOLS)]
    make = [*pip("wheel"), "-v", "--no-build-isolation", "--no-cache-dir", "--no-deps"]
    make += ["--no-binary", "llama-cpp-python", "-w", str(work), "-r", str(SOURCE)]
    with log.open("w") as out:
        for command in (fetch, make):
            if watched(command, environment, out):
                raise BuildFailed(explained(log, recipe.gpu))


def pip(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "--require-hashes", "--no-input"]


def watched(command: list[str], environment: dict[str, str], log: TextIO) -> int:
    """Run `command` with its output in the log, showing how far it is; its exit status."""
    progress = Progress()
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        reader = Thread(target=progress.read, args=(process.stdout, log), daemon=True)
        reader.start()
        try:
            progress.show_until_done(reader)
        except BaseException:
            process.terminate()
            raise
    return process.returncode


class Progress:
    """How far a build is, told on standard error. Written by the reading thread, shown by ours."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._step = ""
        self._live = sys.stderr.isatty()

    def read(self, output: TextIO, log: TextIO) -> None:
        for line in output:
            log.write(line)
            if found := STEP.search(line):
                self._step = f"{int(found[1]) * 100 // int(found[2]):3d} %, "
        log.flush()

    def show_until_done(self, reader: Thread) -> None:
        while reader.is_alive():
            reader.join(1 if self._live else 15)
            if self._live or reader.is_alive():
                self.show()
        if self._live:
            print(file=sys.stderr)

    def show(self) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        text = f"  llama.cpp: {self._step}{minutes}:{seconds:02d}"
        print(f"\r{text} " if self._live else text, end="" if self._live else "\n", file=sys.stderr)
        sys.stderr.flush()


def explained(log: Path, gpu: str) -> str:
    """The end of the log, where the rest is, and what is most often missing."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL:]
    hint = HINT + (CUDA_HINT if gpu == "cuda" else "")
    return "\n".join([*lines, "", f"llama.cpp was not built. The whole log: {log}{hint}"])


def machine() -> tuple[str, ...]:
    """What of this machine the built library depends on."""
    libc = " ".join(platform.libc_ver())
    return (sysconfig.get_platform(), sys.implementation.cache_tag or "", libc, processor())


def processor() -> str:
    """The processor's model and abilities, as Linux tells them; elsewhere its name."""
    told = Path("/proc/cpuinfo")
    if not told.exists():
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    lines = {line for line in told.read_text().splitlines() if line.startswith(wanted)}
    return "\n".join(sorted(lines))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
