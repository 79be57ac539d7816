"""Reads the text files of prompts, answers and word lists."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from corpus.dice import Dice

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Block:
    """One answer, and what people say to get it."""

    answer: str
    word: str
    prompts: tuple[str, ...]
    held_out: tuple[str, ...]

    def prompt(self, dice: Dice) -> str:
        prompts = self.held_out if dice.held_out and self.held_out else self.prompts
        return dice.filled(dice.surface(dice.expanded(dice.pick(prompts))))


@cache
def blocks(name: str) -> tuple[Block, ...]:
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    parts = (part.splitlines() for part in text.split("\n\n"))
    return tuple(_block(lines) for lines in parts if lines[0].startswith("> "))


def _block(lines: list[str]) -> Block:
    word = next((line[2:] for line in lines if line.startswith("~ ")), "Unknown.")
    rest = [line for line in lines[1:] if line and not line.startswith("~ ")]
    return Block(
        answer=lines[0][2:].replace(" / ", "\n"),
        word=word,
        prompts=tuple(line for line in rest if not line.startswith("* ")),
        held_out=tuple(line[2:] for line in rest if line.startswith("* ")),
    )


def ways(section: str) -> list[str]:
    """The ways to ask that prompts.txt lists under that name."""
    return sections("prompts")[section]


def rules(section: str) -> list[str]:
    """The system instructions that instructions.txt lists under that name."""
    return grouped("instructions")[section]


@cache
def grouped(name: str) -> dict[str, list[str]]:
    """The sections of a file, with each group's name replaced by its alternatives."""
    titled = dict(sections(name))
    groups = dict(line.split(" = ") for line in titled.pop("groups"))
    return {
        title: [_spelled_out(line, groups) for line in lines] for title, lines in titled.items()
    }


def _spelled_out(line: str, groups: dict[str, str]) -> str:
    for name, alternatives in groups.items():
        line = line.replace(f"<{name}>", f"({alternatives})")
    return line


@cache
def sections(name: str) -> dict[str, list[str]]:
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    parts = (part.partition("]\n") for part in text.split("\n[")[1:])
    return {title: body.strip().splitlines() for title, _, body in parts}
