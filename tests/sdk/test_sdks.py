"""The official SDKs, each in an environment of its own, against running servers.

What a program sees is in `seen-python.jsonl` and `seen-node.jsonl`, as the scenarios print it; it
is the same for every version of a language.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pytest

from tests.process import MODEL, served, started
from tests.sdk.environments import Version, node, node_modules_with, pinned, python_with

HERE = Path(__file__).parent
LIMIT = 120.0

pytestmark = pytest.mark.timeout(600)  # the first test of a version makes its environment

Outcomes = dict[str, dict[str, Any]]


def read(lines: str) -> Outcomes:
    """What the scenarios printed, by name."""
    return {outcome["name"]: outcome for outcome in map(json.loads, lines.splitlines())}


SEEN = {
    language: read((HERE / f"seen-{language}.jsonl").read_text()) for language in ("python", "node")
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The URLs of a server on the bundled model, and of one that says what it is told to."""
    if not MODEL.is_file():
        pytest.skip(f"there is no model at {MODEL}")
    folder = tmp_path_factory.mktemp("servers")
    script = (sys.executable, str(HERE / "scripted_server.py"), "data")
    with served(folder / "model") as model, started(script, folder / "scripted") as scripted:
        yield [model.url, scripted.url]


@pytest.fixture(scope="module", params=pinned("python"), ids=str)
def python(request: pytest.FixtureRequest, servers: list[str]) -> Outcomes:
    """What programs on one version of the Python SDK saw."""
    version: Version = request.param
    own = installed("openai") == version.number
    interpreter = Path(sys.executable) if own else python_with(version)
    return _played(str(interpreter), str(HERE / "scenarios.py"), *servers)


@pytest.fixture(scope="module", params=pinned("node"), ids=str)
def javascript(request: pytest.FixtureRequest, servers: list[str]) -> Outcomes:
    """What programs on the Node SDK saw."""
    modules = node_modules_with(request.param)
    return _played(str(node()), str(HERE / "scenarios.mjs"), str(modules), *servers)


@pytest.mark.parametrize("name", SEEN["python"])
def test_python_sdk(python: Outcomes, name: str) -> None:
    """A program on any major version of the Python SDK runs unchanged, and sees the same."""
    assert python[name] == SEEN["python"][name], python[name].get("failure")


@pytest.mark.parametrize("name", SEEN["node"])
def test_node_sdk(javascript: Outcomes, name: str) -> None:
    """A program on the Node SDK runs unchanged; its strict stream helper never raises."""
    assert javascript[name] == SEEN["node"][name], javascript[name].get("failure")


def test_every_scenario_is_expected(python: Outcomes, javascript: Outcomes) -> None:
    """No scenario is played without being looked at."""
    assert list(python) == list(SEEN["python"])
    assert list(javascript) == list(SEEN["node"])


def _played(*command: str) -> Outcomes:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environ)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)
