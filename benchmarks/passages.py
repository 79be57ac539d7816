"""Texts with questions whose answers are known to stand at one place, for `retrieval.py`.

Two corpora. The project's own documents, asked with half of a sentence's words in another order.
And invented products, whose sheets state facts that questions ask for in other words than the
sheets have; names are mentioned in other sheets, too. Everything follows from a seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

ROOT: Final = Path(__file__).parent.parent
LEFT_OUT: Final = ("docs/chat-completions.md", "docs/files.md")  # nothing else answers what they do
PRODUCTS: Final = 150
UNKNOWN: Final = 30  # products without a sheet
MENTIONS: Final = 3  # of other products, in each sheet
WORDS_OF_SENTENCE: Final = range(8, 40)

# What a sheet states, and how it is asked for.
FACTS: Final = {
    "price": (
        ("It sells for {number} euros.", "Dealers ask {number} euros for it."),
        ("How much does {name} cost?", "What is the price of {name}?"),
    ),
    "colour": (
        ("Its casing comes in {colour} only.", "Outside it is {colour}."),
        ("What colour does {name} have?", "Which shade is {name} painted in?"),
    ),
    "weight": (
        ("On the scale it shows {number} grams.", "It brings {number} grams to the scale."),
        ("How heavy is {name}?", "What does {name} weigh?"),
    ),
    "inventor": (
        ("The engineer {person} came up with it.", "It goes back to an idea of {person}."),
        ("Who invented {name}?", "Who is the inventor of {name}?"),
    ),
    "origin": (
        ("It is assembled in {town}.", "Workers in {town} put it together."),
        ("Where is {name} manufactured?", "In which place is {name} produced?"),
    ),
    "launch": (
        ("It went on sale in {year}.", "Shops have had it since {year}."),
        ("When was {name} launched?", "In what year did {name} reach the market?"),
    ),
    "warranty": (
        (
            "Defects are repaired free of charge for {small} years.",
            "Whatever breaks within {small} years is mended at no charge.",
        ),
        ("How long is the guarantee of {name}?", "What warranty does {name} have?"),
    ),
    "battery": (
        ("A full charge lasts {small} hours.", "After {small} hours it must be plugged in."),
        ("What is the battery life of {name}?", "How long does the accumulator of {name} hold?"),
    ),
    "noise": (
        ("At full speed it is as loud as {number} decibels.", "It hums at {number} decibels."),
        ("How noisy is {name}?", "What sound level does {name} produce?"),
    ),
    "water": (
        ("It may be submerged to {small} metres.", "Divers took it {small} metres down."),
        ("Is {name} waterproof?", "How deep under water can {name} be used?"),
    ),
    "energy": (
        ("It draws {number} watts.", "The socket delivers {number} watts to it."),
        ("How much electricity does {name} consume?", "What is the power consumption of {name}?"),
    ),
    "parts": (
        (
            "Spare parts are kept in stock by {person} and sons.",
            "{person} and sons have screws and hinges for it.",
        ),
        ("Who supplies replacement components for {name}?", "Where can I order spares for {name}?"),
    ),
    "users": (
        ("It was designed with {people} in mind.", "Mostly {people} buy it."),
        ("Which target group is {name} meant for?", "Who are the customers of {name}?"),
    ),
    "care": (
        ("Wipe it with {liquid} once a month.", "A cloth with {liquid} keeps it bright."),
        ("How should {name} be cleaned?", "What removes dirt from {name}?"),
    ),
}
FILLER: Final = (
    "Many have tried to copy {name}, and few have come close.",
    "There is little else to say about that side of {name}.",
    "The brochure of {name} has a picture on every page.",
    "Reviewers agree that {name} looks better than it is described.",
    "In its class {name} has been compared with {other} more than once.",
    "Owners of {other} may want to look at {name} as well.",
    "The box of {name} also holds a leaflet in nine languages.",
    "Whether {name} is worth it, everybody decides for themselves.",
)
COLOURS: Final = ("crimson", "ivory", "turquoise", "charcoal", "amber", "violet", "olive")
PEOPLE: Final = ("gardeners", "nurses", "sailors", "pupils", "carpenters", "beekeepers", "cyclists")
LIQUIDS: Final = ("vinegar", "warm water", "spirit", "lemon juice", "linseed oil", "soap suds")
SYLLABLES: Final = (
    "ka",
    "lo",
    "mi",
    "ren",
    "tu",
    "vas",
    "zel",
    "or",
    "pim",
    "dra",
    "fen",
    "gul",
    "hob",
    "sy",
)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """It is answered by `text[start:end]` of a file."""

    text: str
    file: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files' texts by name, questions about them, and such as nothing in them answers."""

    name: str
    files: dict[str, str]
    questions: list[Question]
    unanswered: list[str]

    @property
    def bytes(self) -> int:
        return sum(len(text.encode()) for text in self.files.values())


def documents(seed: int, most: int) -> Corpus:
    """The project's own, and so many sentences of them as questions."""
    dice = random.Random(seed)
    paths = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    asked = [question for name, text in files.items() for question in _shuffled(dice, name, text)]
    kept = {name: text for name, text in files.items() if name not in LEFT_OUT}
    answered = [question for question in asked if question.file in kept]
    unanswered = [question.text for question in asked if question.file in LEFT_OUT]
    return Corpus("documents", kept, _some(dice, answered, most), _some(dice, unanswered, most))


def products(seed: int, most: int) -> Corpus:
    """Sheets of products, and so many questions about them."""
    dice = random.Random(seed)
    names = [*_names(dice, PRODUCTS + UNKNOWN)]
    known, unknown = names[:PRODUCTS], names[PRODUCTS:]
    files, asked = {}, []
    for name in known:
        others = dice.sample([each for each in known if each != name], MENTIONS)
        text, questions = _sheet(dice, name, others)
        files[f"{name}.txt"] = text
        asked += questions
    unanswered = [question.text for name in unknown for question in _sheet(dice, name, known)[1]]
    return Corpus("products", files, _some(dice, asked, most), _some(dice, unanswered, most))


def _some(dice: random.Random, all_of_them: list[T], most: int) -> list[T]:
    return dice.sample(all_of_them, min(most, len(all_of_them)))


def _sheet(dice: random.Random, name: str, others: list[str]) -> tuple[str, list[Question]]:
    text, questions = f"{name}\n\n", []
    for statements, ways in dice.sample([*FACTS.values()], len(FACTS)):
        statement = _filled(dice, dice.choice(statements))
        before, after = (
            each.format(name=name, other=dice.choice(others)) for each in dice.sample(FILLER, 2)
        )
        start = len(text) + len(before) + 1
        text += f"{before} {statement} {after}\n\n"
        asked = dice.choice(ways).format(name=name)
        questions.append(Question(asked, f"{name}.txt", start, start + len(statement)))
    return text, questions


def _filled(dice: random.Random, statement: str) -> str:
    return statement.format(
        number=dice.randint(20, 990),
        small=dice.randint(2, 19),
        year=dice.randint(1950, 2024),
        colour=dice.choice(COLOURS),
        people=dice.choice(PEOPLE),
        liquid=dice.choice(LIQUIDS),
        person=next(_names(dice, 1)),
        town=next(_names(dice, 1)),
    )


def _names(dice: random.Random, count: int) -> Iterator[str]:
    seen = set[str]()
    while len(seen) < count:
        name = "".join(dice.choices(SYLLABLES, k=3)).capitalize()
        if name not in seen:
            seen.add(name)
            yield name


def _shuffled(dice: random.Random, name: str, text: str) -> Iterator[Question]:
    """Half of the words of each sentence that is long enough, in another order."""
    for found in re.finditer(r"[A-Z][^.!?|]*[.!?](?=\s)", text):
        words = re.findall(r"\w+", found[0])
        if len(words) in WORDS_OF_SENTENCE and text.count(found[0]) == 1:
            asked = " ".join(dice.sample(words, len(words) // 2))
            yield Question(asked, name, *found.span())
