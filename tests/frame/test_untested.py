"""What a run says that it has not tested."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import ROOT, environment
from tests.untested import named_in

TESTS = """
import pytest
from tests.untested import not_tested

@pytest.fixture(scope="module")
def sandbox():
    not_tested("the sandbox", "there is none")

def test_one(sandbox): ...
def test_another(sandbox): ...
def test_packages(): not_tested("packages", "there are none")
def test_skipped(): pytest.skip("it is quiet")
"""


@pytest.mark.parametrize(("relied_on", "status"), [("", 0), ("1", 1)])
def test_what_is_not_tested_is_named_at_the_end(
    tmp_path: Path, relied_on: str, status: int
) -> None:
    """Once each, and is a failure where everything should be there."""
    file = tmp_path / "test_it.py"
    file.write_text(TESTS)
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.untested",
        "-p",
        "no:cacheprovider",
    )
    ran = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(file)],
        cwd=ROOT,
        env=environment(CI=relied_on),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == status, ran.stdout
    named = ["NOT TESTED: packages: there are none", "NOT TESTED: the sandbox: there is none"]
    if status == 0:
        assert named_in(ran.stdout) == named
    else:
        assert all(line in ran.stdout for line in named)
