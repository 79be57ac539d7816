"""Puts what the server needs beside its code into the wheel, as `server/_bundled`.

A checkout keeps these at its top level, so an editable install carries none of them.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLED = (
    "LICENSE",
    "config.toml",
    "migrations",
    "models/tiny-assistant.gguf",
    "requirements/code-interpreter.lock",
)


class BundleHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for name in BUNDLED:
            self._include(Path(self.root, name), f"server/_bundled/{name}", build_data)

    def _include(self, source: Path, target: str, build_data: dict[str, Any]) -> None:
        if not source.exists():
            raise FileNotFoundError(f"{source} must be in the wheel and is not there")
        build_data["force_include"][str(source)] = target
