"""What it costs to hold a model to a grammar: tokens a second, with one and without, in turns.

In one process, on the model with the shape of a 0.5B one; threads wait as the worker's do:

    GOMP_SPINCOUNT=1000 python -m benchmarks.grammar
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from benchmarks.report import row
from benchmarks.weights import SHAPES, model_file
from server.chat.dialects import HERMES, PLAIN
from server.chat.grammar import AnswerForm, turn_grammar
from server.chat.values import ToolSpec
from server.engine.decoder import Decoder
from server.engine.grammars import Grammars
from server.engine.llama import ErrorLog, LlamaBackend, Model
from server.engine.protocol import Request, Sampling
from server.engine.settings import EngineSettings

FREE = "free"
WANTED = 0.95  # of the free rate, with 8 streams
SAMPLING = Sampling(temperature=0.8, top_p=0.95)
PROMPT = 32

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [ToolSpec(name, "A function.", PLACE) for name in ("weather", "time", "map")]
# Neither may end before its time.
TEXT = {"type": "string", "minLength": 10_000}
TEXTS = {"type": "object", "properties": {"text": TEXT}, "required": ["text"]}
NUMBERS = {"type": "array", "items": {"type": "integer"}, "minItems": 10_000}


def grammars_of(tags: dict[str, int]) -> dict[str, str]:
    """What is measured beside free decoding."""
    return {
        "text, with functions at hand": turn_grammar(HERMES, TOOLS, tags=tags),
        "JSON, a long string": turn_grammar(PLAIN, [], form=AnswerForm(TEXTS), tags=tags),
        "JSON, many numbers": turn_grammar(PLAIN, [], form=AnswerForm(NUMBERS), tags=tags),
    }


class Bench:
    """A decoder on one model, and what its streams are held to."""

    def __init__(self, path: str, streams: int, threads: int) -> None:
        settings = EngineSettings(slots=streams, threads=threads, context=2048, kv_cells=16_384)
        model = Model(path, settings, ErrorLog())
        self._decoder = Decoder(LlamaBackend(model, settings), settings)
        self._grammars = Grammars(model.vocabulary.for_grammars)
        self._texts = {FREE: "", **grammars_of(model.vocabulary.tags)}
        self._vocabulary = model.vocabulary.size
        self._numbers = count()
        self._dice = random.Random(1)

    @property
    def cases(self) -> list[str]:
        """Free decoding first."""
        return list(self._texts)

    def rate(self, case: str, streams: int, steps: int) -> float:
        """Tokens a second of so many streams, once all of them write."""
        numbers = [next(self._numbers) for _ in range(streams)]
        for number in numbers:
            prompt = [self._dice.randrange(100, self._vocabulary // 2) for _ in range(PROMPT)]
            text = self._texts[case]
            constraint = self._grammars.compile(text) if text else None
            request = Request(prompt, steps + 2 * streams + 8, SAMPLING)
            self._decoder.submit(number, request, constraint)
        writing: set[int] = set()
        while len(writing) < streams:
            writing |= {token.number for token in self._decoder.step().tokens}
        begun = time.perf_counter()
        written = sum(len(self._decoder.step().tokens) for _ in range(steps))
        seconds = time.perf_counter() - begun
        for number in numbers:
            self._decoder.cancel(number)
        self._decoder.step()
        if written != streams * steps:
            raise SystemExit(f"{case}: a stream ended before its time")
        return written / seconds


def rounds(bench: Bench, streams: int, steps: int, times: int) -> dict[str, list[float]]:
    """The cases in turns, each round beginning with another one."""
    found: dict[str, list[float]] = {case: [] for case in bench.cases}
    for number in range(times):
        for case in _rotated(bench.cases, number):
            found[case].append(bench.rate(case, streams, steps))
    return found


def _rotated(cases: list[str], by: int) -> Iterator[str]:
    for place in range(len(cases)):
        yield cases[(place + by) % len(cases)]


def table(streams: int, found: dict[str, list[float]]) -> Iterator[str]:
    """Medians of rates, and of the ratios to the free rate of the same round."""
    for case, rates in found.items():
        ratio = statistics.median(
            mine / free for mine, free in zip(rates, found[FREE], strict=True)
        )
        met = "" if streams < 8 or case == FREE else "met" if ratio >= WANTED else "**missed**"
        yield row(streams, case, f"{statistics.median(rates):.1f}", f"{ratio:.3f}", met)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="where to write all values")
    options = parser.parse_args()
    path = str(model_file(options.shape, "q4_k_m"))
    bench = Bench(path, max(options.streams), options.threads)
    found = {n: rounds(bench, n, options.steps, options.rounds) for n in options.streams}
    print(row("streams", "", "tokens/s", "of the free rate", f"≥ {WANTED}"))
    print(row(*["---"] * 5))
    for streams, rates in found.items():
        print("\n".join(table(streams, rates)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
