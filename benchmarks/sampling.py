"""What choosing the tokens of a step costs, by how many rows there are, together and one by one.

The rows come from memory, not from a processor's cache, as they do where a GPU has computed them.
The ways take turns, in another order each time.

    python -m benchmarks.sampling --threads 1 2 4 8
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.report import row
from server.engine.backend import Logits
from server.engine.protocol import Sampling
from server.engine.sampling import Picker, Sampler, Turn

BYTES = 512 << 20  # more than caches hold
SAMPLING = Sampling(temperature=0.8, top_p=0.95)

Way = Callable[[Logits], object]


def logits_of(vocabulary: int) -> Logits:
    """As a language model has them: one good token in ten thousand."""
    numbers = np.random.default_rng(1)
    logits = numbers.standard_normal((BYTES // vocabulary // 4, vocabulary), np.float32)
    logits *= 2
    good = numbers.integers(0, vocabulary, (len(logits), 15))
    np.put_along_axis(logits, good, numbers.uniform(4, 16, good.shape).astype(np.float32), axis=1)
    return logits


def one_by_one(rows: int) -> Way:
    """What every row would cost if it were alone."""
    samplers = [Sampler(SAMPLING) for _ in range(rows)]
    return lambda logits: [each.pick(row) for each, row in zip(samplers, logits, strict=True)]


def together(rows: int, threads: int) -> Way:
    """As the decoder does it."""
    picker, samplers = Picker(threads), [Sampler(SAMPLING) for _ in range(rows)]
    turns = [Turn(row, sampler) for row, sampler in enumerate(samplers)]
    return lambda logits: picker.pick(logits, turns)


def steps_of(logits: Logits, rows: int) -> Iterator[Logits]:
    """Other rows each time, without an end."""
    while True:
        for start in range(0, len(logits) - rows + 1, rows):
            yield logits[start : start + rows]


def medians(ways: dict[str, Way], steps: Iterator[Logits], times: int) -> dict[str, float]:
    """Of each way, in microseconds a step."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name in random.sample(list(ways), len(ways)):
            logits = next(steps)
            started = time.perf_counter()
            ways[name](logits)
            found[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) * 1e6 for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[128_000, 151_936])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--times", type=int, default=100)
    options = parser.parse_args()
    names = ["one by one", *(f"{threads} threads" for threads in options.threads)]
    print(row("vocabulary", "rows", *(f"{name}, us" for name in names)))
    print(row(*["---"] * (len(names) + 2)))
    for vocabulary in options.vocabulary:
        logits = logits_of(vocabulary)
        for rows in options.rows:
            ways = [one_by_one(rows), *(together(rows, threads) for threads in options.threads)]
            named = dict(zip(names, ways, strict=True))
            found = medians(named, steps_of(logits, rows), options.times)
            print(row(vocabulary, rows, *(f"{found[name]:.0f}" for name in names)), flush=True)


if __name__ == "__main__":
    main()
