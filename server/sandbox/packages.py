"""The environment with the packages that a model's code has: made once, apart from the server's.

pip fetches what is locked, from wherever it is set up to fetch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from server.bundled import bundled_path
from server.fetching import Unobtainable, pip_for
from server.sandbox.backends import FONTS

_LOCK: Final = "requirements/code-interpreter.lock"
_FIND_FONTS: Final = "import matplotlib.font_manager"


def is_made(environment: Path) -> bool:
    """Whether it has what is locked; what was added to it does not matter."""
    copy = environment / Path(_LOCK).name
    return copy.is_file() and copy.read_bytes() == bundled_path(_LOCK).read_bytes()


def make(environment: Path) -> None:
    """Make it, or bring it up to date. Raises Unobtainable, OSError."""
    pip = pip_for("packages")
    is_new = not environment.exists()
    try:
        _fill(environment, pip)
    except BaseException:
        if is_new:  # one that is there is in use, and said to have the packages
            shutil.rmtree(environment, ignore_errors=True)
        raise


def _fill(environment: Path, pip: Sequence[str]) -> None:
    python = environment / "bin" / "python"
    base = getattr(sys, "_base_executable", sys.executable)
    if not python.exists():
        _run(base, "-m", "venv", "--without-pip", str(environment))
    _run(
        *(*pip, "--python", str(python), "install", "--quiet"),
        *("--require-hashes", "--only-binary=:all:", "-r", str(bundled_path(_LOCK))),
    )
    # What matplotlib finds out of the fonts takes it a second, each time, if it cannot keep it.
    _run(str(python), "-I", "-c", _FIND_FONTS, MPLCONFIGDIR=str(environment / FONTS))
    (environment / Path(_LOCK).name).write_bytes(bundled_path(_LOCK).read_bytes())


def _run(*command: str, **environment: str) -> None:
    """Its progress and troubles it tells itself."""
    given = {**os.environ, **environment} if environment else None
    if subprocess.run(command, env=given, check=False).returncode != 0:
        raise Unobtainable(f"{' '.join(command[:3])} failed; why is said above")
