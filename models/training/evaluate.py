"""Measures a GGUF through the running server, and fails where it falls below the floors.

Runs in the server's environment; needs no torch. What the model writes as Python is run.
"""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

import llama_cpp
from cases import ROWS, Case, quick_start
from corpus.dice import Dice
from serving import Server, served

MODEL = Path(__file__).parents[1] / "tiny-assistant.gguf"
MEGABYTES, LOAD_SECONDS, SPEED = 8.0, 0.2, 1000.0  # of the file, of loading it, tokens a second
Measure = tuple[str, str]  # the row and what is measured of it
Score = dict[Measure, tuple[list[bool], list[bool]]]  # with trained phrasings, and with new ones
# The shares that a released file must reach, with trained phrasings and with new ones.
FLOORS: dict[Measure, tuple[float, float]] = {
    ("greeting", "exact"): (0.95, 0.9),
    ("small talk", "exact"): (0.9, 0.65),
    ("small facts", "exact"): (0.9, 0.6),
    ("capital or opposite", "exact"): (0.9, 0.9),
    ("repeat", "exact"): (0.9, 0.9),
    ("memory: a name, turns back", "exact"): (0.95, 0.95),
    ("memory: a detail, turns back", "exact"): (0.95, 0.95),
    ("memory: a name never told", "exact"): (0.95, 0.95),
    ("beyond it: templates", "ok"): (0.95, 0.95),
    ("beyond it: free prompts", "ok"): (0.95, 0.95),
    ("told: persona", "ok"): (0.85, 0.85),
    ("told: the persona's name", "ok"): (0.85, 0.85),
    ("told: address as", "ok"): (0.85, 0.85),
    ("told: upper case", "followed"): (0.85, 0.85),
    ("told: lower case", "followed"): (0.85, 0.85),
    ("told: end with", "followed"): (0.85, 0.85),
    ("told: begin with", "followed"): (0.85, 0.85),
    ("told: only say", "followed"): (0.85, 0.85),
    ("told: one word", "followed"): (0.85, 0.85),
    ("told: echo", "followed"): (0.85, 0.85),
    ("told: greet in a language", "followed"): (0.85, 0.85),
    ("told: answer as JSON", "followed"): (0.85, 0.85),
    ("told: several things", "followed"): (0.85, 0.85),
    ("JSON of what the user wrote", "exact"): (0.85, 0.85),
    ("call: known tool of up to five", "valid"): (1.0, 1.0),
    ("call: known tool of up to five", "exact"): (0.9, 0.7),
    ("call: made-up tool of up to five", "valid"): (1.0, 1.0),
    ("call: made-up tool of up to five", "exact"): (0.7, 0.7),
    ("call: unseen tool of up to five", "valid"): (1.0, 1.0),
    ("call: unseen tool of up to five", "exact"): (0.7, 0.7),
    ("call: two in one turn", "valid"): (1.0, 1.0),
    ("call: two in one turn", "exact"): (0.8, 0.8),
    ("no call: talk beside tools", "ok"): (0.95, 0.95),
    ("no call: no listed tool does it", "ok"): (0.95, 0.95),
    ("tool result to sentence", "values"): (0.95, 0.95),
    ("files: query", "called"): (0.95, 0.95),
    ("files: answer and citation", "cited"): (0.85, 0.85),
    ("code: arithmetic", "right"): (0.9, 0.9),
    ("code: statistics of a list", "right"): (0.9, 0.9),
    ("code: small table", "right"): (0.9, 0.9),
    ("code: plot", "right"): (0.9, 0.9),
}


def measure(server: Server, only: str, count: int, shown: int) -> Score:
    score: Score = defaultdict(lambda: ([], []))
    for row, make in ROWS.items():
        for new in (False, True) if only in row else ():
            dice = (Dice(f"evaluation/{row}/{number}", held_out=new) for number in range(count))
            take(score, server, row, [make(each) for each in dice], new, shown)
    return score


def take(score: Score, server: Server, row: str, cases: list[Case], new: bool, shown: int) -> None:
    for case, answer in zip(cases, server.answers(cases), strict=True):
        measures = case.judge(answer)
        for name, passed in measures.items():
            score[row, name][new].append(passed)
        if not all(measures.values()) and shown > 0:
            shown -= 1
            print(f"  {row} | {case.messages[-1]['content']!r} -> {answer.text!r} {answer.calls}")


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


def first_steps(server: Server) -> list[str]:
    """Asks what newcomers ask first; returns what was not answered well."""
    cases, poor = quick_start(), []
    for case, answer in zip(cases, server.answers(cases), strict=True):
        line = f"{case.messages[-1]['content']!r} -> {answer.text!r} {answer.calls or ''}"
        print(line)
        if not all(case.judge(answer).values()):
            poor.append(line)
    return poor


def file_itself(path: Path, threads: int) -> list[str]:
    """Size, time to load and speed, without the server; returns what is not good enough."""
    began = time.monotonic()
    llama = llama_cpp.Llama(str(path), n_ctx=0, n_threads=threads, seed=1, verbose=False)
    loaded = time.monotonic() - began
    tokens = llama.tokenize(b"The", add_bos=False)
    began, count = time.monotonic(), 0
    for _ in llama.generate(tokens, temp=0.0):
        count += 1
        if count == 1000:
            break
    speed, size = count / (time.monotonic() - began), path.stat().st_size / 1e6
    line = f"{size:.1f} MB, loaded in {loaded:.3f} s, {speed:.0f} tokens/s on {threads} threads"
    print(line)
    good = size <= MEGABYTES and loaded < LOAD_SECONDS and speed >= SPEED
    return [] if good else [line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=100, help="cases in a row")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--show", type=int, default=0, help="misses to print in a row")
    options = parser.parse_args()
    below = file_itself(options.model, options.threads)
    with served(options.model) as server:
        server.temperature = options.temperature
        began = time.monotonic()
        below += report(measure(server, options.only, options.count, options.show))
        seconds = time.monotonic() - began
        print(f"\n{server.tokens} tokens through the server in {seconds:.0f} s\n\nFirst steps:")
        below += first_steps(server)
    for line in below:
        print("too poor:", line)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
