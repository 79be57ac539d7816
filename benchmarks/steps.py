"""What a decode step costs besides the model: planning, the batch, the tokens, the report.

The model does nothing and has a vocabulary of 152,000 tokens; sampling is measured apart.

    python -m benchmarks.steps
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from server.engine.backend import Logits, Outcome, State
from server.engine.batch import Batch
from server.engine.decoder import Decoder
from server.engine.messages import encode
from server.engine.protocol import Request, Sampling
from server.engine.sampling import Sampler
from server.engine.settings import EngineSettings

VOCABULARY = 151_936
STREAMS = (1, 4, 16, 64)
PROMPT = 200
STEPS = 400
SAMPLINGS = {
    "greedy": Sampling(temperature=0),
    "default (top_k 40)": Sampling(),
    "top_k 40, top_p 0.95": Sampling(top_p=0.95, temperature=0.8),
    "with penalties": Sampling(presence_penalty=0.5, frequency_penalty=0.5),
    "whole vocabulary": Sampling(top_k=0),
}


class IdleBackend:
    """A model that computes nothing: its logits are always the same few."""

    rolls_back = True
    mixes = True
    sampling_threads = 1
    vocabulary = VOCABULARY

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.context = 4096
        self.cells = slots * self.context
        self._rows = np.zeros((slots, 64), np.float32)  # so that sampling costs next to nothing
        self._rows[:, 7] = 1

    def decode(self, batch: Batch) -> Outcome:
        return Outcome.DONE

    def logits(self, rows: Sequence[int]) -> Logits:
        return self._rows[: len(rows)]

    def cut(self, slot: int, length: int) -> None: ...

    def copy(self, source: int, target: int, length: int) -> None: ...

    def save(self, slot: int, length: int, most: int) -> State | None:
        return np.zeros(length, np.uint8)

    def load(self, slot: int, state: State) -> bool:
        return True

    def interrupt(self) -> None: ...

    def resume(self) -> None: ...

    def ends_turn(self, token: int) -> bool:
        return False

    def text(self, token: int) -> bytes:
        return b" word"


def streaming(streams: int) -> Decoder:
    """A decoder in which so many sequences write."""
    decoder = Decoder(IdleBackend(streams), EngineSettings(slots=streams, batch=512))
    for number in range(streams):
        prompt = [1 + number] * PROMPT
        decoder.submit(number, Request(prompt, 3000, Sampling(temperature=0)))
    while len(decoder.step().tokens) < streams:
        pass
    return decoder


def microseconds(times: int, work: Callable[[], object]) -> float:
    """The median of many single calls."""

    def each() -> Iterator[float]:
        for _ in range(times):
            started = time.perf_counter()
            work()
            yield time.perf_counter() - started

    return statistics.median(each()) * 1e6


def step_costs(streams: int) -> tuple[float, float]:
    """Of a decode step, and of encoding its report for the other process."""
    decoder = streaming(streams)
    step = microseconds(STEPS, decoder.step)
    report = decoder.step()
    return step, microseconds(STEPS, lambda: encode(report))


def sampling_cost(sampling: Sampling) -> float:
    """Of one token, on logits as a language model has them: one good token in ten thousand."""
    random = np.random.default_rng(1)
    rows = random.normal(0, 2, (8, VOCABULARY)).astype(np.float32)
    rows[:, random.integers(0, VOCABULARY, 15)] += 12
    sampler = Sampler(sampling)
    turn = iter(range(STEPS))
    return microseconds(STEPS, lambda: sampler.pick(rows[next(turn) % 8]))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]).parse_args()
    print("streams   step, us   report, us")
    for streams in STREAMS:
        step, report = step_costs(streams)
        print(f"{streams:7}   {step:8.0f}   {report:10.0f}")
    print("\nsampling of one token, us")
    for name, sampling in SAMPLINGS.items():
        print(f"{sampling_cost(sampling):7.0f}   {name}")


if __name__ == "__main__":
    main()
