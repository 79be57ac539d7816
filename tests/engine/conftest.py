"""The model that the engine's tests load: the bundled one, or another by environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BUNDLED = Path(__file__).parents[2] / "models" / "tiny-assistant.gguf"


@pytest.fixture(scope="session")
def model_path() -> Path:
    """A small chat model with a ChatML template."""
    path = Path(os.environ.get("ASSISTANTS_TEST_MODEL", BUNDLED))
    if not path.is_file():
        pytest.skip(f"there is no model at {path}")
    return path
