"""A self-hosted server that speaks the OpenAI Assistants API v2 over a local llama.cpp model."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _version() -> str:
    try:
        return version("assistants-server")
    except PackageNotFoundError:  # a checkout that was never installed
        project = Path(__file__).parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


__version__ = _version()
