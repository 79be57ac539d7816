"""Sessions of a server that is not root, where the tests are: they run again, as somebody else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process import ROOT, environment
from tests.sandbox.conftest import BACKENDS, SYSTEM
from tests.untested import named_in, not_tested

SOMEBODY = 64_999  # has no processes but these
NEEDED = "import pydantic_core, pytest, server.sandbox.pool"
TESTS = ("test_folders.py", "test_hostile.py", "test_sessions.py")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="these tests are not root's anyway"),
    pytest.mark.timeout(600),
]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of this user's."""
    with tempfile.TemporaryDirectory(prefix="somebody-") as name:
        os.chown(name, SOMEBODY, SOMEBODY)
        yield Path(name)


def as_somebody(home: Path, python: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python with what ours has at hand. Raises OSError."""
    return subprocess.run(
        [python, *command],
        user=SOMEBODY,
        group=SOMEBODY,
        extra_groups=[],
        cwd=ROOT,
        env=environment(
            HOME=str(home),
            TMPDIR=str(home),
            PYTHONPATH=os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")]),
            PYTHONDONTWRITEBYTECODE="1",
        ),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def python(home: Path) -> Path:
    """One that this user can run, with our packages."""
    for candidate in (Path(sys.executable), SYSTEM):
        with contextlib.suppress(OSError):
            if as_somebody(home, candidate, "-c", NEEDED).returncode == 0:
                return candidate
    return not_tested("sandboxes without root", "only root can reach a Python for the tests")


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_root_it_is_the_same(home: Path, python: Path, backend: str) -> None:
    """Nothing reaches the host, which has the same user here, and sessions do what they do."""
    tests = [str(Path(__file__).with_name(name)) for name in TESTS]
    flags = ("-q", "-p", "no:cacheprovider", "-k", backend)
    ran = as_somebody(home, python, "-m", "pytest", *flags, *tests)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    if untested := named_in(said):
        not_tested(f"the sandbox {backend} without root", untested[0])
