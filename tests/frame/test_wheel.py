"""An installed wheel serves as well as a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from server.bundled import bundled_path
from tests.process import started

ROOT = bundled_path("pyproject.toml").parent
BUILD_TOOLS = Path(sys.prefix, "build")


def pip(*arguments: str | Path) -> None:
    """Run pip without a network."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(BUILD_TOOLS)}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_the_code_and_what_it_needs_and_no_more(wheel: Path) -> None:
    """Migrations, model, default settings and licence travel along; training scripts do not."""
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    assert "server/_bundled/config.toml" in names
    assert "server/_bundled/migrations/env.py" in names
    assert "server/_bundled/models/tiny-assistant.gguf" in names
    assert "server/_bundled/LICENSE" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"server", "assistants_server"}
    assert not [name for name in names if "__pycache__" in name or "training" in name]


def test_the_installed_wheel_answers_a_message(wheel: Path, tmp_path: Path) -> None:
    """Installed elsewhere and started in an empty folder, it migrates, loads its model and runs."""
    site = tmp_path / "site"
    pip("install", "--quiet", "--no-index", "--no-deps", "--target", site, wheel)
    command = (sys.executable, str(site / "bin" / "assistants"), "serve", "--port", "0")
    with (
        started(command, tmp_path / "elsewhere", {"PYTHONPATH": str(site)}) as server,
        server.sdk() as client,
    ):
        assistant = client.beta.assistants.create(model="gpt-4o")
        run = client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": "Hello!"}]},
        )
        assert run.status == "completed"
        assert server.end() == 0
    assert (tmp_path / "elsewhere" / "data").is_dir()
