"""What an engine has done so far, for the metrics page."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


def _stat(text: str, *, grows: bool = False) -> int:
    found: int = field(default=0, metadata={"text": text, "grows": grows})
    return found


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made, and the state at its last decode step.

    Its engine counts in it, once for each step, and gives copies away.
    """

    live: int = _stat("Sequences that are being decoded.")
    waiting: int = _stat("Requests that wait for a sequence.")
    steps: int = _stat("Decode steps.", grows=True)
    prompt_tokens: int = _stat("Tokens of prompts, and of texts for vectors or scores.", grows=True)
    generated_tokens: int = _stat("Tokens that were generated.", grows=True)
    cached_tokens: int = _stat("Of the prompts' tokens, those that were in the cache.", grows=True)
    cells: int = _stat("Cells of the context that hold a token, live or idle.")
    saved_bytes: int = _stat("Threads' snapshots in memory.")
    stored_bytes: int = _stat("Threads' snapshots on disk.")
    restarts: int = _stat("Deaths of its process.", grows=True)
    refused_grammars: int = _stat(
        "Grammars that were let go, or whose request failed for them.", grows=True
    )
    last_step_seconds: float = _stat("The last decode step.")

    def lose_process(self) -> None:
        """What its process held is gone with it; what it has written stays."""
        self.live = self.waiting = self.cells = self.saved_bytes = 0

    def by_name(self) -> dict[str, float]:
        """Its values, by the names of `TEXTS`."""
        return {_name(each.name): getattr(self, each.name) for each in fields(self)}


def _name(name: str) -> str:
    grows = EngineStats.__dataclass_fields__[name].metadata["grows"]
    return f"{name}_total" if grows else name


TEXTS = {_name(each.name): str(each.metadata["text"]) for each in fields(EngineStats)}
