"""Measures a GGUF through llama.cpp, and fails where it falls below the floors.

Needs llama-cpp-python and jinja2, not torch.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import llama_cpp
from cases import ROWS, Case, quick_start
from corpus.dice import Dice
from corpus.render import render

MODEL = Path(__file__).parents[1] / "tiny-assistant.gguf"
LONGEST = 200
# Shares that a released file must reach, over fifty cases a row.
FLOORS: dict[tuple[str, str], float] = {
    ("greeting", "exact"): 0.85,
    ("name never told", "exact"): 0.9,
    ("decline, template", "ok"): 0.9,
    ("decline, free prompts", "ok"): 0.9,
    ("no call for small talk", "ok"): 0.9,
    ("quick start", "exact"): 1.0,
}

Score = dict[tuple[str, str], list[bool]]


class Speaker:
    """A loaded model that answers conversations."""

    def __init__(self, path: Path, threads: int, temperature: float) -> None:
        self.temperature = temperature
        self.llama = llama_cpp.Llama(
            str(path), n_ctx=0, n_threads=threads, n_threads_batch=threads, seed=1, verbose=False
        )
        self.produced, self.seconds = 0, 0.0

    def answer(self, case: Case) -> str:
        prompt = render(case.messages, case.tools, add_generation_prompt=True)
        tokens = self.llama.tokenize(prompt.encode(), add_bos=False, special=True)
        self.llama.reset()
        began, said = time.monotonic(), []
        stream = self.llama.generate(tokens, temp=self.temperature, top_k=40, top_p=1.0, min_p=0.0)
        for token in stream:
            if token == self.llama.token_eos() or len(said) == LONGEST:
                break
            said.append(token)
        self.produced += len(said)
        self.seconds += time.monotonic() - began
        return self.llama.detokenize(said, special=True).decode(errors="replace")


def measure(speaker: Speaker, only: str, count: int, shown: int) -> Score:
    score: Score = defaultdict(list)
    for row, make in ROWS.items():
        if only not in row:
            continue
        for number in range(count):
            take(
                score, speaker, row, make(Dice(f"evaluation/{row}/{number}", held_out=True)), shown
            )
    for case in quick_start() if only in "quick start" else []:
        take(score, speaker, "quick start", case, 99)
    return score


def take(score: Score, speaker: Speaker, row: str, case: Case, shown: int) -> None:
    answer = speaker.answer(case)
    for name, passed in case.judge(answer).items():
        score[row, name].append(passed)
    misses = sum(not passed for passed in score[row, name])
    if not passed and misses <= shown:
        print(f"  {row} | {case.messages[-1]['content']!r} -> {answer!r}")


def report(score: Score) -> list[str]:
    """Prints a Markdown table; returns the lines of rows below their floor."""
    print("| row | measure | share | cases | floor |\n|---|---|---|---|---|")
    below = []
    for (row, name), passes in score.items():
        share, floor = sum(passes) / len(passes), FLOORS.get((row, name), 0.0)
        line = f"| {row} | {name} | {share:.0%} | {len(passes)} | {floor:.0%} |"
        print(line)
        if share < floor:
            below.append(line)
    return below


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=50, help="cases in a row")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--show", type=int, default=0, help="misses to print in a row")
    options = parser.parse_args()
    speaker = Speaker(options.model, options.threads, options.temperature)
    below = report(measure(speaker, options.only, options.count, options.show))
    print(f"{speaker.produced} tokens written in {speaker.seconds:.1f} s")
    for line in below:
        print("below its floor:", line)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
