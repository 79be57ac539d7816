"""A child of spin.py: decodes batches with the library at hand and prints how fast.

A process of its own, because how threads wait is fixed when the library is loaded. Which library
that is says LLAMA_CPP_LIB_PATH.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np

PROMPT = 32
LARGEST_THREAD_COUNT = 512  # GGML_MAX_N_THREADS


class ThreadpoolParameters(ctypes.Structure):
    """ggml_threadpool_params, which llama_cpp does not bind."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * LARGEST_THREAD_COUNT),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


class Decoder:
    """A model and a context that decodes `sequences` at once."""

    def __init__(self, model: str, sequences: int, threads: int) -> None:
        self._silent = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self._silent, None)
        llama.llama_backend_init()
        self._model = llama.llama_model_load_from_file(
            model.encode(), llama.llama_model_default_params()
        )
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = sequences * 256
        parameters.n_seq_max = parameters.n_outputs_max = sequences
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._context = llama.llama_init_from_model(self._model, parameters)
        self._batch = llama.llama_batch_init(sequences * PROMPT, 0, 1)
        self._sizes = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        self._tokens = np.random.default_rng(0)

    def attach_threads(self, threads: int, poll: int) -> None:
        """Give the context ggml's own threads, which outlive a step and poll before they sleep."""
        folder = Path(os.environ["LLAMA_CPP_LIB_PATH"])
        cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"))
        base = ctypes.CDLL(str(folder / "libggml-base.so"))
        library = ctypes.CDLL(str(folder / "libllama.so"))
        parameters = ThreadpoolParameters()
        base.ggml_threadpool_params_init(ctypes.byref(parameters), threads)
        parameters.poll = poll
        cpu.ggml_threadpool_new.restype = ctypes.c_void_p
        pool = ctypes.c_void_p(cpu.ggml_threadpool_new(ctypes.byref(parameters)))
        context = ctypes.cast(self._context, ctypes.c_void_p)
        library.llama_attach_threadpool(context, pool, None)

    def rate(self, sequences: int, steps: int) -> float:
        """Tokens a second of `sequences` decoded together, after a short prompt each."""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
        self._decode([(seq, at) for seq in range(sequences) for at in range(PROMPT)])
        begun = time.perf_counter()
        for step in range(steps):
            self._decode([(seq, PROMPT + step) for seq in range(sequences)])
        return sequences * steps / (time.perf_counter() - begun)

    def _decode(self, rows: Sequence[tuple[int, int]]) -> None:
        batch, newest = self._batch, dict(rows)
        batch.n_tokens = len(rows)
        for row, (seq, at) in enumerate(rows):
            batch.token[row] = int(self._tokens.integers(self._sizes))
            batch.pos[row] = at
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = seq
            batch.logits[row] = at == newest[seq]
        if code := llama.llama_decode(self._context, batch):
            raise SystemExit(f"llama_decode returned {code}")


def main() -> None:
    """Print tokens a second by number of sequences, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sequences", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--poll", type=int, help="how long ggml's own threads poll: 0 to 100")
    options = parser.parse_args()
    decoder = Decoder(options.model, max(options.sequences), options.threads)
    if options.poll is not None:
        decoder.attach_threads(options.threads, options.poll)
    rates = {count: decoder.rate(count, options.steps) for count in options.sequences}
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
