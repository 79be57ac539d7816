"""Models that talk nonsense, with the vocabularies and the templates of real families."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.bundled import bundled_path
from tests.engine.models import write_model

SOURCE_TREE = Path(os.environ.get("ASSISTANTS_LLAMA_CPP_DIR") or "/nowhere")


@dataclass(frozen=True, slots=True)
class Family:
    """Where its vocabulary and its template are, if that is another file."""

    vocabulary: Path
    template: Path | None = None

    def write(self, path: Path) -> Path:
        """A model with random weights. Skips the test where the family's files are not."""
        if not self.vocabulary.is_file():
            pytest.skip("ASSISTANTS_LLAMA_CPP_DIR is not set")
        template = self.template.read_text() if self.template else None
        write_model("llama", path, self.vocabulary, template=template)
        return path


def _source(vocabulary: str, template: str) -> Family:
    folder = SOURCE_TREE / "models"
    return Family(folder / f"ggml-vocab-{vocabulary}.gguf", folder / f"templates/{template}.jinja")


FAMILIES = {
    "bundled": Family(bundled_path("models/tiny-assistant.gguf")),
    "qwen": _source("qwen2", "Qwen-Qwen2.5-7B-Instruct"),
    "llama": _source("llama-bpe", "meta-llama-Llama-3.1-8B-Instruct"),
}
