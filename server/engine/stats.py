"""What an engine has done so far, for the metrics page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made, and the state at its last decode step.

    Its engine counts in it, once for each step, and gives copies away.
    """

    live: int = 0  # sequences that hold a slot
    waiting: int = 0  # requests that wait for one
    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    cached_tokens: int = 0  # of prompt_tokens, those that were in the prefix cache
    cells: int = 0  # of the context that hold a token, live or idle
    saved_bytes: int = 0  # of threads' snapshots in memory
    stored_bytes: int = 0  # and on disk
    restarts: int = 0
    refused_grammars: int = 0  # what they would have held to was let go, or its request failed
    last_step_seconds: float = 0.0
