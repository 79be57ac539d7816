"""How a model is loaded: its adapters, its cache's types, how GPUs share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from server.config import CacheType, SplitMode
from server.engine import llama, sizing
from server.engine.backend import Logits
from server.engine.batch import Batch, Part
from server.engine.gguf import read_gguf
from server.engine.llama import ErrorLog, LlamaBackend, Model, ModelRefused
from server.engine.machine import computes_on_gpu
from server.engine.settings import EngineSettings
from server.engine.sizing import demand
from tests.gguf_files import write_lora

SETTINGS = EngineSettings(slots=2, context=256, kv_cells=256, threads=1)
PROMPT = "The library opens at nine on weekdays, and on Sundays it is closed."


def loaded(path: Path, settings: EngineSettings) -> tuple[Logits, str]:
    """What a model says next to a fixed prompt, and its fingerprint."""
    model = Model(str(path), settings, ErrorLog())
    backend = LlamaBackend(model, settings)
    batch = Batch(64)
    rows = batch.fill([Part(0, 0, model.vocabulary.tokenize(PROMPT), True)])
    backend.decode(batch)
    logits = backend.logits(rows)[0].copy()
    fingerprint = model.describe("a", "", backend.context).fingerprint
    backend.close()
    return logits, fingerprint


def adapter(folder: Path, model_path: Path) -> str:
    """A random adapter for the model."""
    file = read_gguf(model_path)
    shape = file.number("embedding_length"), file.number("feed_forward_length")
    layers = file.number("block_count")
    path = write_lora(folder / "style.gguf", width=shape[0], outer=shape[1], layers=layers)
    return str(path)


def test_an_adapter_changes_what_the_model_says_as_much_as_its_scale(
    tmp_path: Path, model_path: Path
) -> None:
    """Scale 0 is the plain model, and each scale is a model of its own."""
    path = adapter(tmp_path, model_path)
    plain, fingerprint = loaded(model_path, SETTINGS)
    off, other = loaded(model_path, replace(SETTINGS, lora={path: 0.0}))
    some, third = loaded(model_path, replace(SETTINGS, lora={path: 0.1}))
    more, fourth = loaded(model_path, replace(SETTINGS, lora={path: 0.5}))
    assert np.abs(plain - off).max() < 1e-3
    assert 0.01 < np.abs(plain - some).mean() < np.abs(plain - more).mean()
    assert len({fingerprint, other, third, fourth}) == 4


@pytest.mark.parametrize("content", [None, b"no adapter"])
def test_an_adapter_that_cannot_be_used_is_named(
    tmp_path: Path, model_path: Path, content: bytes | None
) -> None:
    """Whether it is missing or something else."""
    path = tmp_path / "style.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelRefused, match=r"cannot apply the LoRA adapter .*style\.gguf to "):
        Model(str(model_path), replace(SETTINGS, lora={str(path): 1.0}), ErrorLog())


@pytest.mark.parametrize("kind", get_args(CacheType))
def test_the_cache_can_be_of_every_type(model_path: Path, kind: str) -> None:
    """With as much loss as its bits make; the fingerprint tells them apart."""
    plain, fingerprint = loaded(model_path, SETTINGS)
    settings = replace(SETTINGS, cache_type_k=kind, cache_type_v=kind)
    logits, other = loaded(model_path, settings)
    correlation = np.corrcoef(plain, logits)[0, 1]
    assert correlation > (0.99 if "4" not in kind else 0.6)
    assert (fingerprint == other) == (kind == "f16")


def test_a_model_that_was_given_no_part_of_the_memory_keeps_to_what_is_free(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as whoever gives out parts does: the types of the cache, all that a cell costs."""
    settings = replace(SETTINGS, kv_cells=None, context=1024, cache_type_k="q8_0")
    cell = demand(read_gguf(model_path), settings).takes.cell
    monkeypatch.setattr(sizing, "SMALL_CACHE", 0)
    for free, cells in ((10_000, 2048), (3072, 1536), (1024, 1024)):
        monkeypatch.setattr(llama, "available_memory", lambda free=free: free * cell)
        backend = LlamaBackend(Model(str(model_path), settings, ErrorLog()), settings)
        assert backend.cells == cells
        backend.close()
    monkeypatch.setattr(llama, "available_memory", lambda: 1023 * cell)
    with pytest.raises(ModelRefused, match=r"A context of 1024 tokens .* MiB are free"):
        LlamaBackend(Model(str(model_path), settings, ErrorLog()), settings)


def test_small_values_need_flash_attention(model_path: Path) -> None:
    """llama.cpp has no other way to use them."""
    settings = replace(SETTINGS, flash_attention=False, cache_type_v="q8_0")
    with pytest.raises(ModelRefused, match="cache_type_v = 'q8_0' needs flash_attention"):
        loaded(model_path, settings)
    loaded(model_path, replace(settings, cache_type_v="f16", cache_type_k="q8_0"))


@pytest.mark.parametrize("mode", get_args(SplitMode))
def test_every_way_to_split_is_taken(model_path: Path, mode: str) -> None:
    """Where there is no GPU they are all the same, but that one is of no use then."""
    plain, _ = loaded(model_path, SETTINGS)
    settings = replace(SETTINGS, split_mode=mode, tensor_split=(3.0, 1.0), gpu_layers=2)
    if mode == "tensor" and not computes_on_gpu():
        with pytest.raises(ModelRefused, match="SPLIT_MODE_TENSOR needs >= 1 devices"):
            loaded(model_path, settings)
        return
    assert np.abs(plain - loaded(model_path, settings)[0]).max() < 1e-3


def test_more_shares_than_devices_can_be_are_refused(model_path: Path) -> None:
    """Before llama.cpp reads beyond them."""
    with pytest.raises(ModelRefused, match="tensor_split has more than"):
        Model(str(model_path), replace(SETTINGS, tensor_split=(1.0,) * 1000), ErrorLog())
