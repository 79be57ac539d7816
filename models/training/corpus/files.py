"""What files say: statements that a question has an answer in, and the passages they stand in.

Statements are made of documents.txt, of any attribute of any thing, and of who does what to what.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from corpus import words
from corpus.dice import Dice


def is_name_first(pattern: str, entity: str) -> bool:
    return pattern.startswith("{") and not entity.startswith("the ")


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def lowered(text: str) -> str:
    """As it stands within a sentence: *API keys* stay what they are."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement, and a question that it answers."""

    statement: str
    question: str
    entity: str  # nothing, where all is said of the same
    value: str
    kind: str = ""
    about: str = ""  # what the value is, where that has a name
    begins_with_name: bool = False
    other_question: str = ""  # another way to ask, for lists of questions and answers

    def with_pronoun(self, pronoun: str) -> "Fact":
        """Without the name, where that begins the statement."""
        name = re.escape(capital(self.entity))
        return replace(self, statement=re.sub(f"^{name} ", f"{pronoun} ", self.statement))


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing that can be said of entities of a kind."""

    kind: str
    about: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]

    def fact(self, dice: Dice, entity: str) -> Fact:
        value = VALUES[self.value](dice)
        pattern, question = phrasing(dice, self.statements), phrasing(dice, self.questions)
        other = tidy(dice.expanded(dice.pick(self.questions[:-1])))
        return Fact(
            capital(named(pattern, entity).replace("{v}", value)),
            question.replace("{e}", entity),
            entity if "{e}" in pattern else "",
            value,
            self.kind,
            self.about,
            is_name_first(pattern, entity),
            other.replace("{e}", entity),
        )


def phrasing(dice: Dice, patterns: Sequence[str]) -> str:
    return tidy(dice.phrasing(patterns))


def tidy(text: str) -> str:
    """Without the space that an empty alternative leaves at the end."""
    return f"{text[:-2]}{text[-1]}" if text[-2] == " " else text


def named(pattern: str, entity: str) -> str:
    """The pattern with a name in it: *one the lamp* is *the lamp*."""
    if entity.startswith("the "):
        pattern = pattern.replace("One {e}", "{e}").replace("newest {e}", f"newest {entity[4:]}")
    return pattern.replace("{e}", entity)


@cache
def matters() -> dict[str, list[Matter]]:
    """What can be said, by the kind of thing that it is said of."""
    text = Path(__file__).with_name("documents.txt").read_text(encoding="utf-8")
    kinds: dict[str, list[Matter]] = {}
    for part in text.split("\n\n"):
        if part.startswith("> "):
            matter = _matter(part)
            kinds.setdefault(matter.kind, []).append(matter)
    return kinds


def _matter(part: str) -> Matter:
    head, *lines = part.strip().splitlines()
    kind, about, value = head[2:].split(": ")
    statements = tuple(line[2:] for line in lines if line.startswith("- "))
    questions = tuple(line for line in lines if line[:2] != "- ")
    return Matter(kind, about, value, statements, questions)


def money(dice: Dice) -> str:
    amount = dice.pick([str(dice.number()), f"{dice.number()}.{dice.digits(2, 2)}"])
    return dice.pick(
        [f"{amount} euros", f"{amount} dollars", f"${amount}", f"{amount} EUR", f"€{amount}"]
    )


def measure(*units: str) -> Callable[[Dice], str]:
    return lambda dice: f"{dice.pick([dice.number(), dice.decimal()])} {dice.pick(units)}"


def counted(most: int, *units: str) -> Callable[[Dice], str]:
    return lambda dice: f"{dice.between(2, most)} {dice.pick(units)}"


def one_of(values: str) -> Callable[[Dice], str]:
    return lambda dice: dice.pick(words.LISTS[values])


def duration(dice: Dice) -> str:
    unit = dice.pick(["days", "days", "hours", "months", "years", "weeks", "business days"])
    count = dice.pick(words.NUMERALS[2:]) if dice.chance(0.15) else str(dice.between(2, 90))
    return f"{count} {unit}"


def clock(dice: Dice) -> str:
    hour = dice.between(1, 12)
    minute = dice.pick(["00", "15", "30", "45", str(dice.between(10, 59))])
    half = dice.pick(["am", "pm"])
    return dice.pick([f"{hour} {half}", f"{hour}:{minute}", f"{hour}:{minute} {half}", dice.time()])


def hours(dice: Dice) -> str:
    return dice.pick(
        [
            f"from {clock(dice)} to {clock(dice)}",
            f"from {dice.between(5, 12)} am to {dice.between(1, 11)} pm",
            f"between {clock(dice)} and {clock(dice)}",
        ]
    )


def somebody(dice: Dice) -> str:
    return dice.name() if dice.chance(0.85) else f"the {dice.word()} team"


def mailbox(dice: Dice) -> str:
    if dice.chance(0.5):
        return dice.email()
    who = dice.pick(words.LISTS["mailboxes"])
    domain = f"{dice.word()}.{dice.pick(['com', 'org', 'net', 'example'])}"
    return f"{who}@{domain}"


def room(dice: Dice) -> str:
    number = dice.digits(1, 3)
    return dice.pick([f"room {number}", f"room {dice.title()}", f"building {number}"])


VALUES: dict[str, Callable[[Dice], str]] = {
    "money": money,
    "weight": measure("kg", "grams", "pounds"),
    "length": measure("meters", "feet", "cm"),
    "duration": duration,
    "minutes": counted(90, "minutes"),
    "hours": hours,
    "word": lambda dice: dice.phrase(1, 2) if dice.chance(0.2) else dice.word(),
    "name": somebody,
    "city": Dice.city,
    "job": lambda dice: dice.pick(words.JOBS),
    "code": Dice.phone,
    "phone": Dice.phone,
    "digits": lambda dice: dice.digits(5, 10),
    "email": mailbox,
    "domain": Dice.domain,
    "date": Dice.day,
    "time": clock,
    "year": lambda dice: str(dice.between(1700, 2030)),
    "count": lambda dice: str(dice.between(2, dice.pick([99, 999, 65000]))),
    "percent": lambda dice: f"{dice.between(1, 60)}{dice.pick(['%', ' percent'])}",
    "ordinal": lambda dice: f"{dice.between(4, 20)}th",
    "size": counted(999, "MB", "GB", "megabytes", "gigabytes"),
    "grams": counted(900, "grams"),
    "degrees": counted(300, "degrees", "°C", "°F", "degrees Celsius"),
    "watts": counted(3000, "watts"),
    "liters": counted(90, "liters", "gallons", "cups"),
    "drops": counted(30, "drops", "tablets", "spoons"),
    "version": lambda dice: ".".join(str(dice.between(0, 30)) for _ in range(dice.between(2, 3))),
    "folder": lambda dice: f"/{dice.word()}/{dice.word()}",
    "path": lambda dice: f"/{dice.word()}/{dice.file_name('log', 'txt')}",
    "shell": lambda dice: f"`{dice.word()} {dice.pick(['', '--'])}{dice.word()}`",
    "company": lambda dice: f"{dice.title()} {dice.pick(['Ltd', 'Inc', 'AG', 'Group', 'Foods'])}",
    "room": room,
    "street": lambda dice: f"{dice.number()} {dice.title()} {dice.pick(['Street', 'Road'])}",
    "spot": lambda dice: f"{dice.pick(['at', 'behind', 'in front of'])} the {dice.word()}",
    "material": one_of("materials"),
    "hobby": one_of("hobbies"),
    "license": one_of("licenses"),
    "language": one_of("programming languages"),
    "ailment": one_of("ailments"),
}


# Names of things: a pattern of a brand, and what it is one of.
NAMED: dict[str, tuple[list[str], str]] = {
    "product": (["{} {w}", "the {} {w}", "{} {w} {n}", "the {w} {}"], "products"),
    "company": (["{} {w}", "the {} {w}", "{} & {} {w}"], "companies"),
    "policy": (["the {} {w}", "the {} {w}", "{w} {}"], "policies"),
    "event": (["the {} {w}", "the {} {w} {n}", "{} {w}"], "events"),
    "software": (["{} {w}", "the {} {w}", "{} {n}", "{}{w}"], "programs"),
    "place": (["the {} {w}", "{} {w}", "the {w} of {}"], "places"),
    "course": (["the {} {w}", "{} {w}", "{w} {n}"], "courses"),
    "dish": (["{} {w}", "the {} {w}", "{w} {}"], "dishes"),
    "medicine": (["{}", "{} {w}", "the {} {w}", "{} {n}"], "medicines"),
}


def brand(dice: Dice) -> str:
    return dice.pick(words.WORDS).capitalize() if dice.chance(0.45) else dice.title()


def entity(dice: Dice, kind: str) -> str:
    """The name of something: mostly invented, with a word for what it is, or that alone."""
    if kind in words.UNNAMED and dice.chance(0.15):
        return dice.pick(words.UNNAMED[kind])
    if kind not in NAMED:
        return dice.name() if dice.chance(0.5) else f"{dice.name()} {dice.title()}"
    if dice.chance(0.2):
        return brand(dice) if dice.chance(0.5) else f"{brand(dice)} {brand(dice)}"
    patterns, sort = NAMED[kind]
    name = dice.pick(patterns).replace("{w}", dice.pick(words.LISTS[sort]))
    while "{}" in name:
        name = name.replace("{}", brand(dice), 1)
    return name.replace("{n}", dice.digits(1, 3))


# A family of facts: makes so many facts about one entity, each about something else.
Topic = Callable[[Dice, str, int], list[Fact]]


def attributes(dice: Dice, kind: str) -> Topic:
    """Attributes that nobody has heard of: what the question asks for is in the statement."""
    shared = attribute_nouns(dice) if dice.chance(0.4) else None

    def facts(dice: Dice, name: str, count: int) -> list[Fact]:
        nouns = (shared or attribute_nouns(dice))[:count]
        return [attribute_fact(dice, kind, name, noun) for noun in nouns]

    return facts


def attribute_nouns(dice: Dice) -> list[str]:
    nouns = [f"{dice.word()} {dice.word()}" if dice.chance(0.3) else dice.word() for _ in range(3)]
    return dice.shuffled(list(dict.fromkeys([*nouns, dice.invented()])))


def attribute_fact(dice: Dice, kind: str, name: str, noun: str) -> Fact:
    pattern, question = dice.phrasing(ATTRIBUTE_STATEMENTS), dice.phrasing(ATTRIBUTE_QUESTIONS)
    other, value = dice.expanded(dice.pick(ATTRIBUTE_QUESTIONS[:-1])), dice.anything()

    def told(text: str) -> str:
        return text.replace("{e}", name).replace("{a}", noun).replace("{v}", value)

    named = is_name_first(pattern, name)
    return Fact(capital(told(pattern)), told(question), name, value, kind, noun, named, told(other))


ATTRIBUTE_STATEMENTS = [
    "The {a} of {e} is {v}.",
    "The {a} of {e} is {v}.",
    "{e} has the {a} {v}.",
    "The {a} for {e} is {v}.",
    "{e} has {v} as its {a}.",
    "For {e}, the {a} is {v}.",
    "The {a} of {e} was set to {v}.",
    "{v} is the {a} of {e}.",
    "{e} (comes with/was given/got/uses/is known for) the {a} {v}.",
    "{v} (is/serves as/was chosen as) the {a} (of/for) {e}.",
    "The {a} (that belongs to/that goes with/of) {e} (is/was/will be/remains) {v}.",
    "(They/We) (set/changed) the {a} of {e} to {v}.",
    "{e}'s {a} (is/was) {v}.",
    "With {e}, the {a} is {v}.",
    "As its {a}, {e} has {v}.",
]
ATTRIBUTE_QUESTIONS = [
    "What is the {a} of {e}?",
    "What is the {a} of {e}?",
    "Which {a} does {e} have?",
    "Tell me the {a} of {e}",
    "What's the {a} for {e}?",
    "What {a} does {e} have?",
    "Do you know the {a} of {e}?",
    "(Look up/Find) the {a} of {e}",
    "I need the {a} of {e}",
    "(What/Which) is {e}'s {a}?",
    "(What {a}/Which {a}) (belongs to/comes with/was given to/goes with) {e}?",
    "(Tell me/Say/Find out) (what the {a} of {e} is/which {a} {e} has)",
    "(Who or what is/What do they say is) the {a} of {e}?",
    "{e}: what is its {a}?",
    "Could you look up the {a} of {e}?",
]


def documented(dice: Dice, kind: str) -> Topic:
    """Facts of documents.txt; often the same of each thing, so that only its name tells."""
    own = matters()[kind] if kind != MIXED else [m for each in MIXABLE for m in matters()[each]]
    shared = dice.some(own, MOST_FACTS) if dice.chance(0.5) and kind in NAMED_KINDS else None

    def facts(dice: Dice, name: str, count: int) -> list[Fact]:
        chosen = shared[:count] if shared else dice.some(own, count)
        return [matter.fact(dice, name) for matter in chosen]

    return facts


def deeds(dice: Dice, kind: str) -> Topic:
    """Who does what to what, where and when, each part of which can be asked for."""

    def facts(dice: Dice, name: str, count: int) -> list[Fact]:
        verbs = dice.some(words.VERBS, count)
        actors = (name if dice.chance(0.5) else f"the {dice.word()}" for _ in verbs)
        return [deed(dice, kind, *both) for both in zip(actors, verbs, strict=True)]

    return facts


def deed(dice: Dice, kind: str, actor: str, verb: str) -> Fact:
    thing = f"the {dice.phrase(1, 2)}"
    place, day = dice.pick(["in", "near"]) + f" {dice.city()}", f"on {dice.day()}"
    question, value, *parts = dice.pick(
        [
            [f"What does {actor} {base(verb)}?", thing, actor, verb, thing],
            [f"Who {verb} {thing}?", actor, actor, verb, thing],
            [f"Where does {actor} {base(verb)} {thing}?", place, actor, verb, thing, place],
            [f"When does {actor} {base(verb)} {thing}?", day, actor, verb, thing, day],
        ]
    )
    named = not actor.startswith("the ")
    return Fact(sentence(*parts), question, actor, value, kind, begins_with_name=named)


def sentence(*parts: str) -> str:
    return f"{capital(' '.join(parts))}."


def base(verb: str) -> str:
    """carries: carry; watches: watch; helps: help."""
    if verb.endswith("ies"):
        return f"{verb[:-3]}y"
    return verb[:-2] if verb.endswith(("ches", "shes", "sses")) else verb[:-1]


def dressed(dice: Dice, fact: Fact) -> Fact:
    """The statement with more around it, as real texts have."""
    statement = fact.statement.rstrip(".")
    if dice.chance(0.5) and is_clause(statement):
        lead = filled(dice, dice.phrasing(words.LEADS))
        if not fact.begins_with_name:
            statement = lowered(statement)
        statement = f"{lead} {statement}"
    if dice.chance(0.6):
        statement += filled(dice, dice.phrasing(words.TAILS))
    return replace(fact, statement=f"{statement}.")


def is_clause(statement: str) -> bool:
    """Neither a request nor a note, such as *Price of the lamp: 5 euros*."""
    return statement.partition(" ")[0] not in words.IMPERATIVES and ": " not in statement


def remark(dice: Dice) -> str:
    """A sentence that has nothing to do with any question."""
    return dice.statement() if dice.chance(0.2) else filled(dice, dice.pick(words.REMARKS))


def remark_on(dice: Dice, fact: Fact) -> str:
    """A sentence about the same thing that answers nothing."""
    if not fact.entity:
        return remark(dice)
    return capital(dice.pick(words.LISTS["remarks on a thing"]).replace("{e}", fact.entity))


def joined(first: Fact, second: Fact) -> str:
    """Two statements in a sentence, of which the second may begin with the same name."""
    text = second.statement
    if second.kind != "person":
        text = second.with_pronoun("it").statement
    if text != second.statement or not (second.begins_with_name or text.startswith(second.value)):
        text = lowered(text)
    return f"{first.statement[:-1]}, and {text}"


def filled(dice: Dice, pattern: str) -> str:
    """Each letter in braces by a value: w word, v verb, n number, d date, p name, x invented."""
    for slot, maker in FILLINGS.items():
        while slot in pattern:
            pattern = pattern.replace(slot, maker(dice), 1)
    return capital(pattern)


FILLINGS: dict[str, Callable[[Dice], str]] = {
    "{w}": Dice.word,
    "{v}": lambda dice: dice.pick(words.VERBS),
    "{n}": lambda dice: str(dice.between(1, dice.pick([20, 100, 1000]))),
    "{d}": Dice.date,
    "{p}": Dice.name,
    "{x}": Dice.invented,
    "{f}": Dice.file_name,
    "{c}": Dice.code,
}
NAMED_KINDS = [*NAMED, "person"]
# Kinds whose files speak of one thing, which needs no name; and those that fit into one file.
HANDBOOKS = ["shop", "staff", "it", "finance", "health", "hotel", "kitchen", "project", "school"]
HANDBOOKS += ["travel", "household", "manual"]
MIXED, MIXABLE = "mixed", ["shop", "staff", "it", "finance", "hotel", "project"]
MOST_FACTS = 4  # about one thing


def topic(dice: Dice) -> tuple[str, Topic]:
    """The kind of a conversation's entities, and what its files say of them."""
    roll = dice.random.random()
    if roll < 0.3:
        kind = dice.pick(HANDBOOKS) if dice.chance(0.75) else MIXED
        return kind, documented(dice, kind)
    kind = dice.pick(NAMED_KINDS)
    if roll < 0.72:
        return kind, documented(dice, kind)
    return kind, attributes(dice, kind) if roll < 0.88 else deeds(dice, kind)


def file_name(dice: Dice) -> str:
    if dice.chance(0.5):
        return dice.file_name()
    stem = dice.pick(words.LISTS["file stems"])
    number = dice.pick(["", "", f"-{dice.digits(1, 4)}", f"_{dice.between(2019, 2031)}"])
    return f"{stem}{number}.{dice.pick(['md', 'md', 'txt', 'pdf', 'pdf', 'docx', 'html', 'csv'])}"
