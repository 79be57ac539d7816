"""An environment for each pinned version of the official SDKs, made once and kept.

They live in `$XDG_CACHE_HOME/assistants-server/sdk` (else in `~/.cache`), since no two versions can
share one. Making them needs the package registries; nothing else here uses a network.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.untested import not_tested

HERE = Path(__file__).parent
PATIENCE = 300.0
NODE_MAJOR = 22
SDKS = "the official SDKs"


class Version(NamedTuple):
    """A pinned SDK."""

    language: str
    number: str

    def __str__(self) -> str:
        return f"{self.language}-{self.number}"


def pinned(language: str) -> list[Version]:
    """The versions of one language, in the order of `versions.txt`."""
    lines = (HERE / "versions.txt").read_text().splitlines()
    versions = [Version(*line.split()) for line in lines]
    return [version for version in versions if version.language == language]


def python_with(version: Version) -> Path:
    """An interpreter that has this version of the Python SDK."""
    return _folder(version, _make_venv) / "bin" / "python"


def node_modules_with(version: Version) -> Path:
    """A folder where Node finds this version of its SDK."""
    return _folder(version, _install_node_module)


def node() -> Path:
    """Node itself; skips the test where it is missing or old."""
    found = shutil.which("node", path=_search_path())
    if found is None:
        not_tested(SDKS, "there is no node: install the extra `test`")
    major = int(_run(found, "--version").lstrip("v").partition(".")[0])
    if major < NODE_MAJOR:
        not_tested(SDKS, f"node is version {major}; the SDK needs {NODE_MAJOR}")
    return Path(found)


def _folder(version: Version, make: Callable[[Path, Version], None]) -> Path:
    """The version's folder, made if need be; two test runs at once make it once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "assistants-server" / "sdk" / f"{version}-{python}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, version, make)
    return folder


def _make(folder: Path, version: Version, make: Callable[[Path, Version], None]) -> None:
    try:
        make(folder, version)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        not_tested(SDKS, f"openai {version} cannot be installed: {last}")
    except subprocess.TimeoutExpired:
        not_tested(SDKS, f"openai {version} was not installed within {PATIENCE:g} seconds")
    (folder / "complete").touch()


def _make_venv(folder: Path, version: Version) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    _run(python, "-m", "pip", "install", "--quiet", f"openai=={version.number}")


def _install_node_module(folder: Path, version: Version) -> None:
    folder.mkdir()
    npm = shutil.which("npm", path=_search_path())
    if npm is None:
        not_tested(SDKS, "there is no npm: install the extra `test`")
    flags = ("--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error")
    _run(npm, "install", *flags, "--prefix", str(folder), f"openai@{version.number}")


def _run(*command: str) -> str:
    environ = {**os.environ, "PATH": _search_path()}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=PATIENCE, env=environ
    )
    return done.stdout


def _search_path() -> str:
    """The test environment's own programs first."""
    own = os.fspath(Path(sys.executable).parent)
    return f"{own}{os.pathsep}{os.environ.get('PATH', '')}"
