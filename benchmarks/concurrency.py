"""Several runs at once: tokens a second, time to the first token, processor time.

Every server gets the same prompts lengths, answers and sampling; llama-batched-bench, which does
neither HTTP nor sampling, gives what the model allows on this machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.answers import Answer, Speaker, heard
from benchmarks.exchange import Exchange
from benchmarks.peers import program
from benchmarks.processes import Server, children_of, cpu_of, cpu_of_tree
from benchmarks.prompts import Prompts
from benchmarks.samples import Samples
from benchmarks.servers import Loading, context_flags

CEILING = "llama-batched-bench"
# An interval between two tokens of a stream says little; some of them say how fast it flows.
FEWEST_PIECES = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """So many runs at once, of so many prompt and answer tokens, after shared instructions."""

    runs: int
    prompt: int
    answer: int
    shared: int = 0

    @property
    def name(self) -> str:
        runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
        shared = f"{self.shared:,} shared + " if self.shared else ""
        return f"{runs}, {shared}{self.prompt:,} + {self.answer} tokens"

    @property
    def tokens(self) -> int:
        """Cells of the context that it takes at most, with what a template adds."""
        return self.runs * (self.shared + self.prompt + self.answer + 64)


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server and how to talk to it."""

    name: str
    server: Server
    speaker: Speaker
    most_runs: int = 1000  # cells with more are left out


async def measure(turn: int, cell: Cell, peer: Peer, prompts: Prompts, samples: Samples) -> None:
    """One round of one cell on one server."""
    shared = prompts.of(cell.shared)
    exchanges = [
        await peer.speaker.start(prompts.first(cell.prompt), cell.answer, shared)
        for _ in range(cell.runs)
    ]
    cpu, of_api = await _cpu_while_all_write(peer, exchanges)
    answers = [await heard(exchange) for exchange in exchanges]
    waits = [answer.first_token_after for answer in answers]
    steps = steps_together(answers)
    samples.add(
        turn,
        cell.name,
        peer.name,
        decode=decode_rate(answers),
        aggregate=sum(answer.completion_tokens for answer in answers) / _duration(answers),
        first_median=statistics.median(waits),
        first_worst=max(waits),
        cpu_per_step=cpu / steps if steps else None,
        api_per_step=of_api / steps if steps and children_of(peer.server.pid) else None,
        prompt_tokens=statistics.median(answer.prompt_tokens for answer in answers) or None,
        cached_tokens=sum(answer.cached_tokens for answer in answers),
    )


def measure_ceiling(turn: int, cells: Sequence[Cell], loading: Loading, samples: Samples) -> None:
    """One round of llama-batched-bench on cells that differ only in their runs."""
    prompt, answer = cells[0].prompt, cells[0].answer
    for found in _batched_bench(loading, prompt, answer, [cell.runs for cell in cells]):
        cell = Cell(int(found["pl"]), prompt, answer)
        samples.add(
            turn,
            cell.name,
            CEILING,
            decode=found["speed_tg"],
            aggregate=cell.runs * answer / found["t"],
            prefill=found["speed_pp"],
        )


async def learn_frame(speaker: Speaker, prompts: Prompts) -> None:
    """Find out how many tokens the template adds, so that prompts have the length they should."""
    asked = 64
    answer = await heard(await speaker.start(prompts.of(asked), 16))
    prompts.frame = answer.prompt_tokens - asked


def decode_rate(answers: Sequence[Answer]) -> float | None:
    """Tokens a second of all streams together, while all of them were writing.

    None if there was no such time, as when the first stream ended before the last began.
    """
    steps, (begun, over) = steps_together(answers), _while_all_write(answers)
    return len(answers) * steps / (over - begun) if steps else None


def steps_together(answers: Sequence[Answer]) -> float | None:
    """Tokens of each stream in the time in which all were writing, on average."""
    begun, over = _while_all_write(answers)
    pieces = [sum(begun < at <= over for at in answer.pieces) for answer in answers]
    if min(pieces) < FEWEST_PIECES:
        return None
    return statistics.mean(
        count * answer.completion_tokens / len(answer.pieces)
        for count, answer in zip(pieces, answers, strict=True)
    )


def _while_all_write(answers: Sequence[Answer]) -> tuple[float, float]:
    return max(a.pieces[0] for a in answers), min(a.pieces[-1] for a in answers)


async def _cpu_while_all_write(peer: Peer, exchanges: Sequence[Exchange]) -> tuple[float, float]:
    """Processor seconds of the server from the last stream's first text to the first's end.

    All of it, and what is not the engine's.
    """
    await asyncio.gather(*(exchange.sight(peer.speaker.first_text) for exchange in exchanges))
    before = cpu_of_tree(peer.server.pid), cpu_of(peer.server.pid)
    ends = {exchange.done for exchange in exchanges}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    after = cpu_of_tree(peer.server.pid), cpu_of(peer.server.pid)
    return after[0] - before[0], after[1] - before[1]


def _duration(answers: Sequence[Answer]) -> float:
    """From the first request to the last token."""
    return max(a.pieces[-1] for a in answers) - min(a.sent for a in answers)


def _batched_bench(
    loading: Loading, prompt: int, answer: int, runs: Sequence[int]
) -> list[dict[str, float]]:
    command = [str(program(CEILING, loading.gpu)), *context_flags(loading)]
    command += ["-npp", str(prompt), "-ntg", str(answer), "-npl", ",".join(map(str, runs))]
    command += ["--output-format", "jsonl"]
    done = subprocess.run(
        command, env=loading.environment, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
