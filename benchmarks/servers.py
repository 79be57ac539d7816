"""The servers that are compared, started alike: same model, threads, cells, waiting of threads."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import packaged_server_python, program
from benchmarks.processes import Server, free_port, serving

# How the model is decoded is in our hands alone.
OTHER_SETTINGS = ("ASSISTANTS_", "OMP_", "GOMP_", "LLAMA_")


def environment_without_settings() -> dict[str, str]:
    """Ours, without what would set up a server or the library behind our back."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OTHER_SETTINGS)}


@dataclass(frozen=True, slots=True)
class Loading:
    """How every server loads the model."""

    model: Path
    threads: int
    cells: int  # tokens that all sequences hold together
    slots: int
    spin: int
    gpu: str = "cpu"
    batch: int = 512

    @property
    def environment(self) -> dict[str, str]:
        """Of every server and program: how OpenMP waits is decided when it is loaded."""
        return {
            **environment_without_settings(),
            "OMP_NUM_THREADS": str(self.threads),
            "GOMP_SPINCOUNT": str(self.spin),
        }

    @property
    def gpu_layers(self) -> int:
        return 0 if self.gpu == "cpu" else 999


@contextlib.contextmanager
def our_server(loading: Loading, data: Path, **engine: int) -> Iterator[Server]:
    """This project's server; `engine` has more settings of that section."""
    settings = {
        "slots": loading.slots,
        "kv_cells": loading.cells,
        "context": loading.cells,
        "threads": loading.threads,
        "batch": loading.batch,
        "spin": loading.spin,
        **engine,
    }
    environment = {
        **loading.environment,
        **{f"ASSISTANTS_ENGINE__{name.upper()}": str(value) for name, value in settings.items()},
        "ASSISTANTS_LOGGING__LEVEL": "warning",
        "ASSISTANTS_RUNS__EXPIRES_AFTER": "3600",
    }
    port = free_port()
    command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port)]
    command += ["--model", str(loading.model), "--data-dir", str(data)]
    with serving(command, environment, port, "/readyz") as server:
        yield server


@contextlib.contextmanager
def bundled_server(data: Path, settings: Mapping[str, object]) -> Iterator[Server]:
    """This project's server with the bundled model, as it comes but for these settings.

    They are named as in the environment, without the prefix: `RUNS__QUEUE`.
    """
    environment = {
        **environment_without_settings(),
        **{f"ASSISTANTS_{name}": str(value) for name, value in settings.items()},
        "ASSISTANTS_LOGGING__LEVEL": "warning",
    }
    port = free_port()
    command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port)]
    command += ["--data-dir", str(data)]
    with serving(command, environment, port, "/readyz") as server:
        yield server


@contextlib.contextmanager
def llama_server(loading: Loading) -> Iterator[Server]:
    """llama.cpp's own server, its sequences in one unified context as ours are."""
    port = free_port()
    command = [str(program("llama-server", loading.gpu)), "--port", str(port)]
    command += [*context_flags(loading), "-np", str(loading.slots), "--slots", "--offline"]
    with serving(command, loading.environment, port, "/health") as server:
        yield server


@contextlib.contextmanager
def packaged_server(loading: Loading) -> Iterator[Server]:
    """llama-cpp-python's server: one sequence, so requests wait for each other."""
    port = free_port()
    command = [
        str(packaged_server_python(loading.gpu)),
        "-m",
        "llama_cpp.server",
        "--port",
        str(port),
    ]
    flags = {
        "model": loading.model,
        "n_ctx": loading.cells,
        "n_batch": loading.batch,
        "n_threads": loading.threads,
        "n_threads_batch": loading.threads,
        "n_gpu_layers": loading.gpu_layers,
        "flash_attn": True,
        "interrupt_requests": False,  # else a second request cuts the first one off
    }
    command += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    with serving(command, loading.environment, port, "/v1/models") as server:
        yield server


def context_flags(loading: Loading) -> list[str]:
    """The flags that llama.cpp's programs have in common."""
    sizes = {"-c": loading.cells, "-ub": loading.batch}
    sizes |= {"-t": loading.threads, "-tb": loading.threads, "-ngl": loading.gpu_layers}
    told = [word for name, value in sizes.items() for word in (name, str(value))]
    return ["-m", str(loading.model), *told, "-kvu", "-fa", "on"]
