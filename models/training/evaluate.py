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
Measure = tuple[str, str]  # the row and what is measured of it
Score = dict[Measure, tuple[list[bool], list[bool]]]  # with trained phrasings, and with new ones
# The shares that a released file must reach, over fifty cases each.
FLOORS: dict[Measure, tuple[float, float]] = {
    ("greeting", "exact"): (0.95, 0.9),
    ("small talk", "exact"): (0.9, 0.65),
    ("small facts", "exact"): (0.9, 0.6),
    ("capital or opposite", "exact"): (0.9, 0.9),
    ("repeat", "exact"): (0.9, 0.9),
    ("recall a name, turns back", "exact"): (0.95, 0.95),
    ("recall a detail", "exact"): (0.85, 0.8),
    ("name never told", "exact"): (0.95, 0.95),
    ("decline, template", "ok"): (0.9, 0.9),
    ("decline, free prompts", "ok"): (0.95, 0.95),
    ("system: persona", "ok"): (0.9, 0.5),
    ("system: address as", "ok"): (0.9, 0.8),
    ("system: upper case", "followed"): (0.9, 0.9),
    ("system: lower case", "followed"): (0.9, 0.85),
    ("system: end with", "followed"): (0.8, 0.8),
    ("system: begin with", "followed"): (0.9, 0.9),
    ("system: only say", "followed"): (0.8, 0.8),
    ("system: one word", "followed"): (0.9, 0.9),
    ("system: echo", "followed"): (0.8, 0.75),
    ("call: everyday tool", "name"): (0.95, 0.95),
    ("call: everyday tool", "exact"): (0.8, 0.6),
    ("call: everyday tool of three", "exact"): (0.6, 0.5),
    ("call: two tools at once", "exact"): (0.85, 0.5),
    ("tool result to sentence", "exact"): (0.9, 0.8),
    ("no call for small talk", "ok"): (0.95, 0.95),
}


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
    score: Score = defaultdict(lambda: ([], []))
    for row, make in ROWS.items():
        for number in range(count) if only in row else []:
            for new in (False, True):
                dice = Dice(f"evaluation/{row}/{number}", held_out=new)
                take(score, speaker, row, make(dice), new, shown)
    return score


def take(score: Score, speaker: Speaker, row: str, case: Case, new: bool, shown: int) -> None:
    answer = speaker.answer(case)
    measures = case.judge(answer)
    for name, passed in measures.items():
        score[row, name][new].append(passed)
    misses = score[row, name][new].count(False)
    if not all(measures.values()) and misses <= shown:
        print(f"  {row} | {case.messages[-1]['content']!r} -> {answer!r}")


def report(score: Score) -> list[str]:
    """Prints a Markdown table; returns the lines of rows below a floor."""
    print("| row | measure | trained phrasings | new phrasings | floors |\n|---|---|---|---|---|")
    below = []
    for (row, name), passes in score.items():
        shares = [sum(each) / len(each) for each in passes]
        floors = FLOORS.get((row, name))
        stated = f"{floors[0]:.0%}, {floors[1]:.0%}" if floors else ""
        line = f"| {row} | {name} | {shares[0]:.0%} | {shares[1]:.0%} | {stated} |"
        print(line)
        if any(share < floor for share, floor in zip(shares, floors or (0, 0), strict=True)):
            below.append(line)
    return below


def first_steps(speaker: Speaker) -> list[str]:
    """Asks what newcomers ask first; returns what was not answered well."""
    poor = []
    for case in quick_start():
        answer = speaker.answer(case)
        line = f"{case.messages[-1]['content']!r} -> {answer!r}"
        print(line)
        if not all(case.judge(answer).values()):
            poor.append(line)
    return poor


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
    print("\nFirst steps:")
    poor = first_steps(speaker)
    print(f"\n{speaker.produced} tokens written in {speaker.seconds:.1f} s")
    for line in below + poor:
        print("too poor:", line)
    return 1 if below or poor else 0


if __name__ == "__main__":
    sys.exit(main())
