"""One document's source of chance, and the values drawn from it.

Half of the values are invented words, so that copying pays and remembering does not.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from corpus import words

T = TypeVar("T")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./#@+!?%&*()"
FOREIGN = [
    "äöüßéèêñçåøæôîšžłığ",
    "абвгдежзиклмнопрст",
    "αβγδεζηθικλμνξοπρσ",
    "日本語中文漢字大小山川水火",
    "🙂😀🎉🚀🐱🌍🔥👍🍕⭐",
]
ALTERNATIVES = re.compile(r"\(([^()]*/[^()]*)\)")
FILE_ENDINGS = ["txt", "md", "pdf", "docx", "html", "json", "csv"]
SENTENCES = [
    "The {a} {b} {v} the {c}",
    "Every {a} {v} a {b} {c}",
    "The {a} of the {b} {v} {c}",
    "{A} and {b} {v} the {c}",
    "When the {a} is {b}, the {c} {v} the {d}",
    "Our {a} {v} {n} {b}s per {c}",
    "The {a} must be {b} before {day}",
    "{name} {v} the {a} in {city}",
    "I saw a {a} and a {b} near the {c}",
    "My {a} is {b} but my {c} is {d}",
    "There are {n} {a}s in the {b}",
    "{name} and I like the {a} {b}",
]


class Dice:
    """Draws from a stream that depends on its name alone; owned by one document."""

    def __init__(self, name: str, held_out: bool = False) -> None:
        self.random = random.Random(name)
        self.held_out = held_out

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.random.randrange(len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        return self.random.sample(list(items), min(count, len(items)))

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self.some(items, len(items))

    def phrasing(self, phrasings: Sequence[str]) -> str:
        """A way to say it; the last one of several is kept for evaluation."""
        if len(phrasings) < 3:
            return self.expanded(self.pick(phrasings))
        kept = phrasings[-1]
        if self.held_out:
            return kept
        while (drawn := self.expanded(self.pick(phrasings[:-1]))) == kept:
            pass
        return drawn

    def expanded(self, pattern: str) -> str:
        """The pattern with one alternative of each group: "(Please /)(say/tell me) {}"."""
        text, found = pattern, 1
        while found:  # a group may stand within another
            text, found = ALTERNATIVES.subn(lambda group: self.pick(group[1].split("/")), text)
        return text[:1].upper() + text[1:] if pattern.startswith("(") else text

    def invented(self) -> str:
        """A word that nobody knows; one in six cannot even be pronounced."""
        if self.chance(0.16):
            return "".join(self.pick(LETTERS) for _ in range(self.between(3, 8)))
        onsets = words.ONSETS_HELD_OUT if self.held_out else words.ONSETS
        syllables = (self._syllable(onsets) for _ in range(self.pick([2, 2, 2, 3])))
        return "".join(syllables)

    def _syllable(self, onsets: Sequence[str]) -> str:
        return self.pick(onsets) + self.pick(words.VOWELS) + self.pick(words.CODAS)

    def title(self) -> str:
        return self.invented().capitalize()

    def name(self) -> str:
        known = words.NAMES_HELD_OUT if self.held_out else words.NAMES
        first = self.pick(known) if self.chance(0.5) else self.title()
        return f"{first} {self.title()}" if self.chance(0.15) else first

    def known_name(self) -> str:
        return self.pick(words.NAMES)

    def city(self) -> str:
        known = words.CITIES_HELD_OUT if self.held_out else words.CITIES
        return self.pick(known) if self.chance(0.6) else self.title()

    def topic(self) -> str:
        known = words.TOPICS_HELD_OUT if self.held_out else words.TOPICS
        return self.pick(known) if self.chance(0.65) else self.phrase(1, 3)

    def word(self) -> str:
        return self.pick(words.WORDS) if self.chance(0.8) else self.invented()

    def phrase(self, least: int = 1, most: int = 4) -> str:
        return " ".join(self.word() for _ in range(self.between(least, most)))

    def sentence(self) -> str:
        a, b, c, d = (self.word() for _ in range(4))
        text = self.pick(SENTENCES).format(
            a=a,
            A=a.capitalize(),
            b=b,
            c=c,
            d=d,
            v=self.pick(words.VERBS),
            n=self.number(),
            day=self.date(),
            name=self.name(),
            city=self.city(),
        )
        return text + self.pick([".", ".", ".", "!", ""])

    def statement(self) -> str:
        """A sentence with a full stop."""
        return self.sentence().rstrip(".!") + "."

    def digits(self, least: int, most: int) -> str:
        return "".join(self.pick("0123456789") for _ in range(self.between(least, most)))

    def number(self) -> int:
        return self.between(0, self.pick([20, 100, 100, 1000, 20000]))

    def decimal(self) -> float:
        return round(self.random.random() * self.pick([1, 10, 100, 1000]), self.pick([1, 2]))

    def date(self) -> str:
        kind = self.between(0, 2)
        if kind == 0:
            return f"{self.between(2020, 2031)}-{self.between(1, 12):02d}-{self.between(1, 28):02d}"
        if kind == 1:
            return f"{self.pick(words.MONTHS)} {self.between(1, 30)}"
        return self.pick(["today", "tomorrow", "next week", *words.WEEKDAYS])

    def day(self) -> str:
        """A date that can stand behind *on*."""
        while (date := self.date()) in ("today", "tomorrow", "next week"):
            pass
        return date

    def time(self) -> str:
        exact = f"{self.between(0, 23)}:{self.between(0, 59):02d}"
        return self.pick([exact, f"{self.between(1, 12)} {self.pick(['am', 'pm'])}", "noon"])

    def code(self) -> str:
        digits = self.digits(2, 6)
        letters = "".join(self.pick("ABCDEFGHKLMNPRSTUVWXYZ") for _ in range(self.between(1, 3)))
        return self.pick([f"{letters}-{digits}", f"{letters}{digits}", digits, self.hexadecimal()])

    def hexadecimal(self) -> str:
        return "".join(self.pick("0123456789abcdef") for _ in range(self.between(5, 8)))

    def email(self) -> str:
        who = self.name().split()[0].lower() + self.pick(["", self.digits(1, 3)])
        return f"{who}@{self.domain()}"

    def domain(self) -> str:
        return self.invented() + self.pick([".com", ".org", ".net", ".io"])

    def url(self) -> str:
        return f"https://{self.domain()}" + self.pick(["", "/" + self.word()])

    def phone(self) -> str:
        return self.pick(["", "+", "0"]) + self.pick(["-", " ", ""]).join(
            self.digits(2, 4) for _ in range(self.between(2, 3))
        )

    def file_name(self, *endings: str) -> str:
        stem = self.pick([self.word, self.invented, self.word])()
        if self.chance(0.4):
            stem += self.pick(["_", "-"]) + self.pick([self.word(), self.digits(1, 4)])
        return f"{stem}.{self.pick(endings or FILE_ENDINGS)}"

    def folder(self) -> str:
        return self.pick(["", "/", "/home/"]) + "/".join(
            self.pick([self.word, self.invented])() for _ in range(self.between(1, 2))
        )

    def noise(self) -> str:
        """Characters in no order, from any script."""
        alphabet = SYMBOLS if self.chance(0.7) else self.pick(FOREIGN)
        return "".join(self.pick(alphabet) for _ in range(self.between(2, 8)))

    def anything(self) -> str:
        makers: list[Callable[[], str]] = [
            self.name,
            self.city,
            self.code,
            self.word,
            self.phrase,
            self.email,
            self.date,
            self.title,
            self.noise,
            lambda: str(self.number()),
        ]
        return self.pick(makers)()

    def saying(self) -> str:
        """Something to repeat: words, a sentence, or characters."""
        makers: list[Callable[[], str]] = [
            lambda: self.phrase(1, 6),
            self.sentence,
            self.sentence,
            self.anything,
            lambda: " ".join(self.invented() for _ in range(self.between(1, 5))),
            lambda: f"{self.sentence()} {self.sentence()}",
        ]
        return self.pick(makers)()

    def filled(self, prompt: str) -> str:
        """The prompt with each slot filled by a value of its own."""
        while "{" in prompt:
            head, _, rest = prompt.partition("{")
            slot, _, tail = rest.partition("}")
            if slot not in SLOTS:
                return prompt
            prompt = head + SLOTS[slot](self) + tail
        return prompt

    def surface(self, prompt: str, ends: str = "?.!") -> str:
        """The prompt as people type it: without its capital or its end, or with a courtesy."""
        if self.chance(0.06):
            prompt = self.pick(["Please ", "Hey, ", "OK, ", "So, ", "Well, ", "Now "]) + (
                prompt if prompt.startswith("I ") else prompt[:1].lower() + prompt[1:]
            )
        if self.chance(0.12):
            prompt = prompt[:1].lower() + prompt[1:]
        if self.chance(0.12):
            prompt = prompt.rstrip(ends) or prompt
        elif self.chance(0.08) and prompt[-1:].isalpha():
            prompt += self.pick([".", "!", ", please", " please", ", thanks", "?"])
        return prompt


SLOTS: dict[str, Callable[[Dice], str]] = {
    "t": Dice.topic,
    "q": lambda dice: dice.phrase(1, 4),
    "w": Dice.word,
    "n": lambda dice: str(dice.between(11, dice.pick([99, 999, 9999]))),
    "name": Dice.name,
    "city": Dice.city,
    "year": lambda dice: str(dice.between(1500, 2030)),
    "lang": lambda dice: dice.pick(words.LANGUAGES),
    "x": lambda dice: dice.title() if dice.chance(0.7) else dice.invented(),
}


def dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
