"""The engine beside llama.cpp's own programs, on a random-weight model of a real shape.

Interleaved rounds on one machine, with the same library, threads, cells, prompts and sampling:
our server over HTTP, llama-server, llama-cpp-python's packaged server and, as the ceiling,
llama-batched-bench. `python -m benchmarks.peers` builds them; those that are not built are left
out. Prints tables and the goals; `--quick` is a look in some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import cancelling, concurrency, responsiveness, returning
from benchmarks.answers import AssistantsSpeaker, ChatSpeaker
from benchmarks.concurrency import Cell, Peer
from benchmarks.exchange import Refused
from benchmarks.goals import LLAMA_SERVER, OURS, goals
from benchmarks.peers import NotBuilt
from benchmarks.processes import NotServing, Server
from benchmarks.prompts import Prompts
from benchmarks.report import tables, write_json
from benchmarks.samples import Samples
from benchmarks.servers import Loading, llama_server, our_server, packaged_server
from benchmarks.weights import QUANTIZATIONS, SHAPES, model_file, vocabulary_words
from server.engine.machine import physical_cores
from tools.build_llama import GPUS, say

PACKAGED = "packaged server"
SCENARIOS = ("runs", "shared", "returning", "cancel", "get")
SHORT_PROMPT = 32  # leaves a time in which all runs write: that is where decoding is measured


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `python -m benchmarks.engine --help` says what each is."""

    rounds: int
    runs: tuple[int, ...]
    prompts: tuple[int, ...]
    answer: int
    shared: Cell
    histories: tuple[int, ...]
    cancelled_prompt: int
    packaged_runs: int  # it answers one by one: more would only take longer

    def groups(self) -> list[list[Cell]]:
        """Every combination of runs and prompts, by the length of the prompt."""
        lengths = dict.fromkeys((SHORT_PROMPT, *self.prompts))
        return [[Cell(runs, prompt, self.answer) for runs in self.runs] for prompt in lengths]

    def cells(self) -> list[Cell]:
        """All of them, and the one with shared instructions."""
        return [*(cell for group in self.groups() for cell in group), self.shared]

    @property
    def most_runs(self) -> int:
        return max(*self.runs, self.shared.runs)


FULL = Plan(
    rounds=5,
    runs=(1, 4, 8, 16),
    prompts=(100, 1000),
    answer=64,
    shared=Cell(16, 30, 32, shared=1000),
    histories=(2000, 8000),
    cancelled_prompt=2000,
    packaged_runs=4,
)
QUICK = replace(
    FULL,
    runs=(1, 4, 8),
    prompts=(100,),
    answer=16,
    shared=Cell(4, 30, 16, shared=300),
    histories=(600,),
    cancelled_prompt=200,
    packaged_runs=1,
)


class Bench:
    """One run of the benchmark: what is loaded how, and what was measured so far."""

    def __init__(self, plan: Plan, loading: Loading, prompts: Prompts, folder: Path) -> None:
        self.plan = plan
        self.loading = loading
        self.prompts = prompts
        self.folder = folder
        self.samples = Samples()

    def run(self, scenarios: Sequence[str]) -> None:
        """The scenarios that were asked for."""
        if set(scenarios) - {"returning"}:
            with self._peers() as peers:
                asyncio.run(concurrency.learn_frame(peers[0].speaker, self.prompts))
                for turn in range(self.plan.rounds):
                    self._round(turn, peers, scenarios)
        if "returning" in scenarios:
            for history in self.plan.histories:
                self._returning(history)

    def _round(self, turn: int, peers: Sequence[Peer], scenarios: Sequence[str]) -> None:
        say(f"Round {turn + 1} of {self.plan.rounds} ...")
        peers = [*peers[turn % len(peers) :], *peers[: turn % len(peers)]]
        if "runs" in scenarios:
            for cells in self.plan.groups():
                self._ceiling(turn, cells)
                for cell in cells:
                    self._cell(turn, cell, peers)
        if "shared" in scenarios:
            self._cell(turn, self.plan.shared, peers)
        for peer in peers:
            if "cancel" in scenarios and peer.name != PACKAGED:
                asyncio.run(self._cancel(turn, peer))
            if "get" in scenarios and isinstance(peer.speaker, AssistantsSpeaker):
                asyncio.run(self._get(turn, peer.speaker))

    def _ceiling(self, turn: int, cells: Sequence[Cell]) -> None:
        with contextlib.suppress(NotBuilt):
            concurrency.measure_ceiling(turn, cells, self.loading, self.samples)

    def _cell(self, turn: int, cell: Cell, peers: Sequence[Peer]) -> None:
        for peer in peers:
            if cell.runs <= peer.most_runs:
                measured = concurrency.measure(turn, cell, peer, self.prompts, self.samples)
                asyncio.run(measured)

    async def _cancel(self, turn: int, peer: Peer) -> None:
        prompt = self.plan.cancelled_prompt
        await cancelling.measure(turn, peer, prompt, self.prompts, self.samples)

    async def _get(self, turn: int, speaker: AssistantsSpeaker) -> None:
        runs, answer = self.plan.most_runs, self.plan.answer
        await responsiveness.measure(turn, speaker, runs, answer, self.prompts, self.samples)

    def _returning(self, history: int) -> None:
        say(f"Threads of {history:,} tokens come back ...")
        folder = self.folder / f"history-{history}"
        with returning.homes(self.loading, folder) as homes:
            for home in homes:
                asyncio.run(returning.grow(home, history, self.prompts))
            for turn in range(self.plan.rounds):
                for home in homes:
                    returning.measure(turn, home, history, self.prompts, self.samples)

    @contextlib.contextmanager
    def _peers(self) -> Iterator[list[Peer]]:
        """All servers, started; those that are not there are said to be missing."""
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(our_server(self.loading, self.folder / "data"))
            found = [Peer(OURS, ours, asyncio.run(AssistantsSpeaker.on(ours.port)))]
            others: list[tuple[str, Callable[[Loading], AbstractContextManager[Server]], int]] = [
                (LLAMA_SERVER, llama_server, self.plan.most_runs),
                (PACKAGED, packaged_server, self.plan.packaged_runs),
            ]
            for name, start, most_runs in others:
                try:
                    server = stack.enter_context(start(self.loading))
                except NotBuilt as missing:
                    say(f"{name} is left out: {missing}")
                    continue
                found.append(Peer(name, server, ChatSpeaker(server.port), most_runs))
            yield found


def cells_needed(plan: Plan) -> int:
    """Tokens for the largest case, with room for what comes back to a thread in every round."""
    of_runs = max(cell.tokens for cell in plan.cells())
    of_history = max(plan.histories) + (plan.rounds + 1) * 128
    needed = max(of_runs, of_history, plan.cancelled_prompt + cancelling.LONG_ANSWER + 64)
    return (needed + 255) // 256 * 256


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument("--shape", choices=SHAPES, default="0.5b", help="of the model")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="q4_k_m")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--runs", type=int, nargs="+", help="how many at once: up to 64")
    parser.add_argument("--prompts", type=int, nargs="+", help="tokens of a prompt")
    parser.add_argument("--answer", type=int, help="tokens of an answer")
    parser.add_argument("--histories", type=int, nargs="+", help="tokens of a returning thread")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--spin", type=int, default=1000, help="GOMP_SPINCOUNT of every server")
    parser.add_argument("--gpu", choices=GPUS, default="cpu", help="what all were built for")
    parser.add_argument("--data-dir", type=Path, help="a folder on the disk to measure on")
    parser.add_argument("--json", type=Path, help="write every value to this file")
    return parser.parse_args()


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan, with what the command line says otherwise."""
    plan = QUICK if options.quick else FULL
    return replace(
        plan,
        rounds=options.rounds or plan.rounds,
        runs=tuple(options.runs or plan.runs),
        prompts=tuple(options.prompts or plan.prompts),
        answer=options.answer or plan.answer,
        histories=tuple(options.histories or plan.histories),
    )


def about(options: argparse.Namespace) -> dict[str, object]:
    """What a reader of the values must know."""
    names = ("shape", "quantization", "threads", "spin", "gpu", "quick")
    return {
        "machine": platform.processor() or platform.machine(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **{name: getattr(options, name) for name in names},
    }


def main() -> int:
    """Measure and print."""
    options = arguments()
    plan = plan_of(options)
    model = model_file(options.shape, options.quantization)
    loading = Loading(
        model, options.threads, cells_needed(plan), plan.most_runs, options.spin, options.gpu
    )
    prompts = Prompts(vocabulary_words(options.shape), seed=time.time_ns())
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.data_dir) as folder:
        bench = Bench(plan, loading, prompts, Path(folder))
        try:
            bench.run(options.scenarios)
        except (NotServing, Refused) as problem:
            print(f"Not measured to the end: {problem}", file=sys.stderr)
            return 1
        finally:  # what an hour has measured is not lost with the next minute
            report(bench, options)
            print(f"{plan.rounds} rounds in {(time.monotonic() - begun) / 60:.1f} minutes.")
    return 0


def report(bench: Bench, options: argparse.Namespace) -> None:
    """Print what was measured, and write it where that was asked for."""
    judged = list(goals(bench.samples, bench.plan.cells(), bench.plan.histories))
    print(tables(bench.samples, judged))
    if options.json:
        write_json(options.json, about(options), bench.samples, judged)


if __name__ == "__main__":
    sys.exit(main())
