"""The context over llama.cpp: what the scheduler relies on, shown on a real model."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from server.engine.backend import Logits, Outcome
from server.engine.batch import Batch, Part
from server.engine.llama import DecodeFailed, ErrorLog, LlamaBackend, Model
from server.engine.settings import EngineSettings
from tests.gguf_files import write_llama

SETTINGS = EngineSettings(slots=4, context=1024, kv_cells=1024, threads=1, gpu_layers=0)


@pytest.fixture(scope="module")
def backend(model_path: Path) -> Iterator[LlamaBackend]:
    """One small context in this process."""
    backend = LlamaBackend(Model(str(model_path), SETTINGS, ErrorLog()), SETTINGS)
    yield backend
    backend.close()


@pytest.fixture(autouse=True)
def _empty(backend: LlamaBackend) -> None:
    for slot in range(backend.slots):
        backend.cut(slot, 0)


def decode(backend: LlamaBackend, slot: int, position: int, tokens: list[int]) -> Logits | Outcome:
    """One sequence's tokens in one step: its logits, or why there are none."""
    batch = Batch(512)
    rows = batch.fill([Part(slot, position, tokens, True)])
    outcome = backend.decode(batch)
    return backend.logits(rows)[0].copy() if outcome is Outcome.DONE else outcome


def prompt(length: int, seed: int = 1) -> list[int]:
    """Plain tokens."""
    return np.random.default_rng(seed).integers(300, 1500, length).tolist()


def test_a_prompt_in_chunks_is_the_prompt_at_once(backend: LlamaBackend) -> None:
    """The same logits, but for the rounding of another batch shape."""
    tokens = prompt(60)
    whole = decode(backend, 0, 0, tokens)
    for start in range(0, 60, 7):
        chunked = decode(backend, 1, start, tokens[start : start + 7])
    assert np.abs(whole - chunked).max() < 0.1 * np.std(whole)


def test_a_cut_slot_goes_on_as_if_the_rest_had_never_been(backend: LlamaBackend) -> None:
    """What a prefix cache needs."""
    tokens = prompt(40)
    whole = decode(backend, 0, 0, tokens)
    decode(backend, 1, 0, tokens[:30] + prompt(20, seed=2))
    backend.cut(1, 30)
    assert np.abs(whole - decode(backend, 1, 30, tokens[30:])).max() < 0.1 * np.std(whole)


def test_a_copied_prefix_goes_on_like_its_own(backend: LlamaBackend) -> None:
    """Two sequences that share cells: one may go, the other keeps them."""
    tokens = prompt(40)
    whole = decode(backend, 0, 0, tokens)
    backend.copy(0, 1, 30)
    backend.cut(0, 0)
    assert np.abs(whole - decode(backend, 1, 30, tokens[30:])).max() < 0.1 * np.std(whole)


def test_a_batch_without_room_changes_nothing(backend: LlamaBackend) -> None:
    """FULL, and the step after it finds all as it was."""
    decode(backend, 0, 0, prompt(500))
    decode(backend, 1, 0, prompt(500))
    assert decode(backend, 2, 0, prompt(100)) is Outcome.FULL
    assert isinstance(decode(backend, 1, 500, prompt(10)), np.ndarray)


def test_an_interrupted_step_can_be_taken_back_and_done_again(
    backend: LlamaBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    """ABORTED from another thread, in the middle of a prompt; the kept prefix is unharmed.

    It is compared with the same steps in the same cells, uninterrupted: there is no other rounding.
    Nothing failed, so nobody is told of an error.
    """
    tokens = prompt(500)
    decode(backend, 1, 0, tokens[:20])
    calm = decode(backend, 1, 20, tokens[20:])
    backend.cut(1, 0)
    decode(backend, 1, 0, tokens[:20])
    done = threading.Event()

    def keep_interrupting() -> None:
        while not done.is_set():
            backend.interrupt()

    thread = threading.Thread(target=keep_interrupting)
    thread.start()
    try:
        outcome = decode(backend, 1, 20, tokens[20:])
    finally:
        done.set()
        thread.join()
    assert outcome is Outcome.ABORTED
    assert capfd.readouterr().err == ""
    backend.resume()
    backend.cut(1, 20)
    again = decode(backend, 1, 20, tokens[20:])
    assert np.abs(calm - again).max() < 0.001 * np.std(calm)


@pytest.mark.parametrize(
    ("asked", "few", "threads"), [(None, True, (1, 3)), (None, False, (3, 3)), (2, True, (2, 2))]
)
def test_one_sequence_of_a_small_model_takes_one_thread(
    model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: int | None,
    few: bool,
    threads: tuple[int, int],
) -> None:
    """Unless another number was asked for; several sequences take a core each."""
    monkeypatch.setattr("server.engine.llama.physical_cores", lambda: 3)
    if not few:
        monkeypatch.setattr("server.engine.llama._FEW_WEIGHTS", 0)
    settings = replace(SETTINGS, threads=asked)
    backend = LlamaBackend(Model(str(model_path), settings, ErrorLog()), settings)
    made = backend._context
    assert (llama_cpp.llama_n_threads(made), llama_cpp.llama_n_threads_batch(made)) == threads
    backend.close()


def test_an_impossible_batch_raises(backend: LlamaBackend) -> None:
    """A hole in a sequence is a fault of ours: the worker is to die of it, not to guess."""
    decode(backend, 0, 0, prompt(3))
    with pytest.raises(DecodeFailed):
        decode(backend, 0, 50, prompt(3))


def test_a_model_that_differs_in_some_layers_is_another_one(
    model_path: Path, tmp_path: Path
) -> None:
    """What was saved for one must not be read for the other, whose file is as large."""
    content = bytearray(model_path.read_bytes())
    tuned = tmp_path / "tuned.gguf"
    third = len(content) // 3
    content[third : third + len(content) // 50] = bytes(len(content) // 50)
    tuned.write_bytes(content)
    assert fingerprint_of(tuned) != fingerprint_of(model_path)
    assert fingerprint_of(tuned) == fingerprint_of(tuned)


def test_a_split_model_is_all_of_its_parts(tmp_path: Path) -> None:
    """The first may have no tensors at all, so that only the others tell two models apart."""
    first = write_llama(tmp_path / "big-00001-of-00002.gguf", split=True)
    second = tmp_path / "big-00002-of-00002.gguf"
    model = Model(str(first), SETTINGS, ErrorLog())
    assert model.describe("", "", 256).size == first.stat().st_size + second.stat().st_size
    before, content = fingerprint_of(first), bytearray(second.read_bytes())
    content[-100] = 1
    second.write_bytes(content)
    assert fingerprint_of(first) != before


def fingerprint_of(path: Path) -> str:
    """As the worker says it."""
    return Model(str(path), SETTINGS, ErrorLog()).describe("", "", 1024).fingerprint


def test_llama_can_still_log_when_nobody_holds_the_log() -> None:
    """The log is the process's; a log that was freed would crash whatever llama.cpp does next."""
    script = (
        "import ctypes, gc, llama_cpp\n"
        "from server.engine.llama import ErrorLog\n"
        "ErrorLog()\n"
        "gc.collect()\n"
        "others = [ctypes.CFUNCTYPE(None)(print) for _ in range(1000)]  # where the callback was\n"
        "parameters = llama_cpp.llama_model_default_params()\n"
        "llama_cpp.llama_model_load_from_file(b'/missing.gguf', parameters)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "missing.gguf" in done.stderr
