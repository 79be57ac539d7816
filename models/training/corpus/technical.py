"""Manuals of made-up software, long and exact as real ones are, and the search of them.

A sentence is put together from what is said, conditions before it and details behind it; a third of
its words are invented, so that nothing helps but copying. Works with the passages of retrieval.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from corpus import files, retrieval, words
from corpus.dice import Dice
from corpus.files import Fact, capital
from corpus.retrieval import NOT_FOUND, Named, Passage, unrelated
from corpus.scene import Scene
from corpus.script import sections, ways
from corpus.tasks import ASKS_FOR_A_WORD

# Characters, of which a token has about two: of a conversation, and of passages that come at once.
MOST_CHARACTERS, MOST_SHOWN, MOST_BRIEF = 6400, 4600, 2200
FORMS = ("d", "ds", "dd", "dg")  # of a verb
SLOT = re.compile(r"\{([\w:]+)\}")
# What a sentence begins with that has a condition of its own.
CONDITIONAL = ("If", "When", "With", "Without", "Unless", "Since", "Before", "After", "For", "As")
CONDITIONAL += (
    "(If",
    "(When",
    "(As",
    "(Because",
    "(Where",
    "{v}",
    "{v:capital}",
    "By",
    "Like",
    "What",
)


@dataclass(frozen=True, slots=True)
class Term:
    """Something that is spoken of: in the text, and in a question about it."""

    text: str
    asked: str
    key: str  # the word that both have


@dataclass(frozen=True, slots=True)
class Matter:
    """A thing that can be said, in patterns."""

    sort: str
    slots: tuple[tuple[str, str], ...]  # with the kind of each
    statements: tuple[str, ...]
    rows: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What a sentence says, and one question that it answers."""

    sort: str
    keys: frozenset[str]  # of all that it speaks of
    asked: frozenset[str]  # of what the question names
    fact: Fact
    clause: str  # the sentence as it goes on in another
    row: tuple[str, str] = ("", "")  # the cells of a table that say the same
    kind: str = ""  # of what the first cell has
    subject: str = ""  # if the sentence begins with it


@cache
def matters() -> tuple[Matter, ...]:
    text = Path(__file__).with_name("technical.txt").read_text(encoding="utf-8")
    return tuple(_matter(part) for part in text.split("\n\n") if part.startswith("> "))


def _matter(part: str) -> Matter:
    head, *lines = part.strip().splitlines()
    sort, slots = head[2:].split(": ")
    marked = {mark: tuple(line[2:] for line in lines if line[:2] == mark) for mark in ("- ", "| ")}
    questions = tuple(line for line in lines if line[:2] not in marked)
    pairs = tuple((name, kind) for name, _, kind in (slot.partition("=") for slot in slots.split()))
    return Matter(sort, pairs, marked["- "], marked["| "], questions)


@cache
def listed(section: str) -> tuple[str, ...]:
    return tuple(item for line in sections("technical")[section] for item in line.split("|"))


@cache
def verbs(section: str) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Groups of verbs for the same, each in its four forms."""
    lines = sections("technical")[section]
    return tuple(tuple(tuple(verb.split("/")) for verb in line.split("; ")) for line in lines)


class Manual:
    """What one manual speaks of: a name stands for one thing in all of it.

    Owned by a conversation.
    """

    def __init__(self, dice: Dice, subjects: int, objects: int) -> None:
        self.dice = dice
        kept = " held out" if dice.held_out else ""
        self.details = dice.pick([[0, 0, 1, 1], [0, 1, 1, 2], [1, 2, 2, 3]])  # of a sentence
        self.words = words.WORDS if dice.chance(0.3) else listed(f"words{kept}")
        self.product = dice.title() if dice.chance(0.7) else dice.word().capitalize()
        self.events, self.deeds = listed(f"events{kept}"), verbs(f"deeds{kept}")
        parts, things = dice.shuffled(listed("parts")), dice.shuffled(listed("things"))
        if dice.held_out:
            parts = dice.shuffled(listed("parts held out")) + parts
            things = dice.shuffled(listed("things held out")) + things
        self.subjects = [self.part(noun) for noun in parts[:subjects]]
        self.objects = [self.plural(noun) for noun in things[:objects]]
        self.singles = [self.single(noun) for noun in things[objects : 2 * objects]]
        self.other_parts, self.other_things = parts[subjects:], things[2 * objects :]

    # What is spoken of

    def part(self, noun: str) -> Term:
        dice = self.dice
        roll = dice.random.random()
        if roll < 0.35:
            return Term(f"the {noun}", f"the {noun}", noun)
        if roll < 0.6:
            name = dice.invented() if dice.chance(0.6) else dice.word()
            full = f"the {name} {noun}"
            return Term(full, dice.pick([full, f"the {noun}"]), noun)
        if roll < 0.75:
            name = dice.title()
            return Term(name, dice.pick([name, name, name.lower()]), name)
        code = self.identifier("-")
        text = dice.pick([f"`{code}`", f"`{code}`", f"the `{code}` {noun}"])
        return Term(text, self.bare(text), code)

    def plural(self, noun: str) -> Term:
        some = several(noun)
        full = self.described(some)
        if self.dice.chance(0.2):
            full += f" of {article(self.dice.pick(listed('things')))}"
        if self.dice.chance(0.12):
            full = f"the {full}"
        return Term(full, self.dice.pick([full, some, some, f"the {some}"]), noun)

    def single(self, noun: str) -> Term:
        full = article(self.described(noun))
        return Term(full, self.dice.pick([full, article(noun)]), noun)

    def described(self, noun: str) -> str:
        """The noun with a word that says which ones, mostly."""
        dice = self.dice
        roll = dice.random.random()
        if roll < 0.35:
            return noun
        return f"{dice.pick(listed('qualities')) if roll < 0.7 else self.odd()} {noun}"

    def event(self, that: str = "") -> Term:
        """Something that happens to a thing; or the thing that it happens to."""
        thing, event = self.dice.pick(self.singles), self.dice.pick(self.events)
        ways = event.split("/")
        text, asked = self.dice.pick(ways), self.dice.pick(ways)
        key = f"{thing.key} {event}"
        return Term(f"{thing.text} {that}{text}", f"{thing.asked} {that}{asked}", key)

    def code(self, text: str) -> Term:
        return Term(text, self.bare(text), text)

    def bare(self, text: str) -> str:
        """As people type it: without backticks, mostly."""
        return text.replace("`", "") if self.dice.chance(0.7) else text

    # Names that are made up

    def odd(self) -> str:
        return self.dice.invented() if self.dice.chance(0.3) else self.dice.pick(self.words)

    def name(self) -> str:
        return self.dice.title() if self.dice.chance(0.6) else self.odd().capitalize()

    def identifier(self, joint: str = "_") -> str:
        return joint.join(self.odd() for _ in range(self.dice.pick([1, 2, 2, 3])))

    def setting(self) -> str:
        dice = self.dice
        if dice.chance(0.15):
            return f"`{self.identifier().upper()}`"
        return (
            f"`{self.odd()}.{self.identifier()}`" if dice.chance(0.8) else f"`{self.identifier()}`"
        )

    def flag(self) -> str:
        dice = self.dice
        value = dice.pick(["", "", "", f" {self.odd().upper()}", f"={dice.between(1, 99)}"])
        return f"`--{self.identifier('-')}{value}`"

    def command(self) -> str:
        dice = self.dice
        program = self.product.lower() if dice.chance(0.7) else self.odd()
        rest = dice.pick(["", "", f" {self.odd().upper()}", f" --{self.odd()}", f" [{self.odd()}]"])
        return f"`{program} {self.identifier('-')}{rest}`"

    def path(self) -> str:
        dice = self.dice
        folder = dice.pick(["", "", "/var/", "/etc/", "~/.", "./", "data/"])
        ending = dice.pick(
            ["/", ".log", ".db", ".json", ".toml", ".d/", ".lock", f".{dice.digits(1, 2)}"]
        )
        middle = f"{self.odd()}/" if dice.chance(0.5) else ""
        return f"`{folder}{middle}{self.odd()}{ending}`"

    def failure(self) -> str:
        dice = self.dice
        status = dice.between(400, 599)
        what = dice.pick(["is missing", "failed", "not found", "refused", "first"])
        text = f"`{capital(self.identifier(' '))} {what}`"
        return dice.pick(
            [
                f"{dice.pick(['a', 'the status'])} {status}",
                f"a {status} with the code `{self.identifier()}`",
                text,
                f"the error {text}",
                f"the exit code {dice.between(2, 99)}",
            ]
        )

    def value(self) -> str:
        dice = self.dice
        number = str(dice.number())
        pair = f'{{"{self.odd()}": {number}}}'
        word = self.odd()
        known = [number, number, word, "true", "none", str(dice.decimal()), f'"{word}"', pair]
        return f"`{dice.pick(known)}`"

    def duration(self) -> str:
        dice = self.dice
        if dice.chance(0.12):
            return f"{self.setting()} {dice.pick(['seconds', 'minutes'])} ({dice.between(2, 900)})"
        return f"{dice.between(2, dice.pick([20, 100, 5000]))} {dice.pick(listed('units'))}"

    def size(self) -> str:
        dice = self.dice
        amount = f"{dice.between(2, dice.pick([64, 1000, 9000])):,} {dice.pick(listed('sizes'))}"
        return f"{self.setting()} ({amount})" if dice.chance(0.25) else amount

    def count(self) -> str:
        number = f"{self.dice.between(2, self.dice.pick([20, 500, 20000])):,}"
        return f"{number} ({self.setting()})" if self.dice.chance(0.2) else number

    def address(self) -> str:
        dice = self.dice
        port = dice.between(80, 65000)
        host = dice.pick(["127.0.0.1", "localhost", dice.domain()])
        url = f"`http://{host}:{port}/{self.odd()}`"
        return dice.pick([f"port {port}", f"`{host}:{port}`", url, f"the socket {self.path()}"])

    def endpoint(self) -> str:
        dice = self.dice
        middle = dice.pick(["", f"/{{{dice.word()}_id}}", f"/{self.odd()}"])
        method = dice.pick(["GET", "POST", "PUT", "DELETE"])
        return f"`{method} /v{dice.between(1, 4)}/{self.odd()}{middle}`"

    def from_list(self, section: str) -> str:
        return self.filled(self.dice.pick(listed(section)), {})

    # Sentences

    def filled(self, pattern: str, slots: dict[str, str]) -> str:
        """The pattern with what it speaks of; other slots get something that is spoken of once."""

        def of(slot: re.Match[str]) -> str:
            return slots[slot[1]] if slot[1] in slots else ASIDES[slot[1]](self)

        return SLOT.sub(of, pattern)

    def aside_thing(self) -> str:
        noun = self.dice.pick(self.other_things)
        return article(noun) if self.dice.chance(0.6) else f"the {self.odd()} {noun}"

    def aside_things(self) -> str:
        return self.described(several(self.dice.pick(self.other_things)))

    def aside_part(self) -> str:
        roll = self.dice.random.random()
        if roll < 0.4:
            return f"the {self.dice.pick(self.other_parts)}"
        return self.aside_thing() if roll < 0.8 else self.name()

    def aside_event(self) -> str:
        return f"{self.aside_thing()} {self.dice.pick(self.dice.pick(self.events).split('/'))}"

    def tail(self) -> str:
        return self.from_list("tails")

    def told(self, matter: Matter) -> Told:
        dice, terms = self.dice, self.terms(matter)
        texts = with_variants({name: term.text for name, term in terms.items()})
        wanted = with_variants({name: term.asked for name, term in terms.items()})
        pattern, question = dice.phrasing(matter.statements), dice.phrasing(matter.questions)
        clause = self.dressed(pattern, self.filled(pattern, texts))
        kind, row = self.row(matter, texts) if matter.rows else ("", ("", ""))
        keys = {name: term.key for name, term in terms.items() if name != "v"}
        begins = pattern.startswith("{s} ") and clause.startswith(texts["s"])
        return Told(
            matter.sort,
            frozenset(keys.values()),
            frozenset(keys[slot[0]] for slot in SLOT.findall(question) if slot[0] in keys),
            Fact(capital(clause), capital(self.filled(question, wanted)), "", texts["v"]),
            clause,
            row,
            kind,
            texts["s"] if begins else "",
        )

    def terms(self, matter: Matter) -> dict[str, Term]:
        """What the matter is said of this time; of a verb, all forms."""
        terms: dict[str, Term] = {}
        for name, kind in matter.slots:
            if kind == "deed":
                group = self.dice.pick(self.deeds)
                forms = zip(FORMS, self.dice.pick(group), self.dice.pick(group), strict=True)
                terms |= {form: Term(*pair, group[0][0]) for form, *pair in forms}
            else:
                terms[name] = TERMS[kind](self)
        return terms

    def row(self, matter: Matter, texts: dict[str, str]) -> tuple[str, tuple[str, str]]:
        """The kind of a table's first cell, and two cells."""
        first = "k" if "k" in texts else "v"
        cell = self.filled(self.dice.phrasing(matter.rows), texts)
        cell += self.tail() if self.dice.chance(0.3) else ""
        return dict(matter.slots)[first], (texts[first], cell)

    def dressed(self, pattern: str, text: str) -> str:
        """As it goes on in a sentence, with a condition before it and details behind it."""
        dice = self.dice
        text = text.rstrip(".")
        if pattern[0] != "{":
            text = text[:1].lower() + text[1:]
        if dice.chance(0.4) and not pattern.startswith(CONDITIONAL):
            lead = self.from_list("leads")
            text = f"{lead[:1].lower()}{lead[1:]} {text}"
        tails = dice.some(listed("tails"), dice.pick(self.details))
        return text + "".join(self.filled(tail, {}) for tail in tails) + "."

    def remark(self, subject: str = "") -> str:
        """A sentence that nobody asks for, often about what is asked for elsewhere."""
        dice = self.dice
        roll = 0.0 if subject else dice.random.random()
        about, known = "remarks", {}
        if roll < 0.25:
            about, known = "remarks on a part", {"r": subject or dice.pick(self.subjects).text}
        elif roll < 0.5:
            about, known = "remarks on things", {"q": dice.pick(self.objects).text}
        known["tail"] = self.tail() if dice.chance(0.6) else ""
        return capital(self.filled(dice.pick(listed(about)), known))

    def all_told(self, count: int) -> list[Told]:
        """So many, of few matters, so that neither what they are about nor what they say of it
        tells them apart; any of them can be asked for.
        """
        dice = self.dice
        chosen = dice.some(matters(), max(2, dice.between(count // 3, count)))
        found: list[Told] = []
        for _ in range(3 * count):
            new = self.told(dice.pick(chosen))
            if not any(are_confused(new, old) or are_confused(old, new) for old in found):
                found.append(new)
            if len(found) == count:
                break
        return found


def are_confused(asked: Told, other: Told) -> bool:
    """Whether what is said second could answer the first one's question, too."""
    kin = asked.sort == other.sort or "all" in (asked.sort, other.sort)
    return kin and (asked.asked <= other.keys or other.keys <= asked.asked)


def with_variants(texts: dict[str, str]) -> dict[str, str]:
    """Also without the article, or with a capital."""
    bare = {
        f"{name}:bare": re.sub("^(an?|the) ", "", texts[name]) for name in "ot" if name in texts
    }
    return {**texts, **bare, "v:capital": capital(texts["v"])}


def several(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith('uni') else 'a'} {noun}"


# What statements are about, by the kind that technical.txt names.
TERMS: dict[str, Callable[[Manual], Term]] = {
    "part": lambda manual: manual.dice.pick(manual.subjects),
    "things": lambda manual: manual.dice.pick(manual.objects),
    "other": lambda manual: same(manual.aside_part()),
    "thing": lambda manual: manual.dice.pick(manual.singles),
    "actor": lambda manual: same(manual.dice.pick(listed("actors"))),
    "setting": lambda manual: manual.code(manual.setting()),
    "flag": lambda manual: manual.code(manual.flag()),
    "command": lambda manual: manual.code(manual.command()),
    "failure": lambda manual: manual.code(manual.failure()),
    "metric": lambda manual: manual.code(f"`{manual.identifier()}_total`"),
    "endpoint": lambda manual: manual.code(manual.endpoint()),
    "state": lambda manual: manual.code(f"`{manual.identifier()}`"),
    "event": Manual.event,
    "that": lambda manual: manual.event("that "),
    "outcome": lambda manual: same(manual.aside_event()),
    "duration": lambda manual: same(manual.duration()),
    "span": lambda manual: same(manual.duration()),
    "count": lambda manual: same(manual.count()),
    "size": lambda manual: same(manual.size()),
    "usage": lambda manual: same(manual.size()),
    "value": lambda manual: same(manual.value()),
    "version": lambda manual: same(
        f"version {manual.dice.between(0, 20)}.{manual.dice.between(0, 30)}"
    ),
    "address": lambda manual: same(manual.address()),
    "manner": lambda manual: same(manual.from_list("manners")),
    "single": lambda manual: same(manual.from_list("manners of one")),
    "nature": lambda manual: same(manual.from_list("natures")),
    "platform": lambda manual: same(manual.from_list("platforms")),
    "kinds": lambda manual: same(manual.from_list("kinds")),
    "range": lambda manual: same(manual.from_list("ranges")),
    "moment": lambda manual: same(manual.from_list("moments")),
    "place": lambda manual: same(manual.from_list("places")),
    "purpose": lambda manual: same(manual.from_list("purposes")),
    "deeds": lambda manual: same(manual.from_list("deeds of a command")),
    "reason": lambda manual: same(manual.from_list("reasons")),
    "condition": lambda manual: same(manual.from_list("conditions")),
    "need": lambda manual: same(manual.from_list("needs")),
    "format": lambda manual: same(manual.from_list("formats")),
    "order": lambda manual: same(manual.from_list("orders")),
    "tries": lambda manual: same(manual.from_list("tries")),
    "algorithm": lambda manual: same(manual.from_list("algorithms")),
    "remedy": lambda manual: same(manual.from_list("remedies")),
    "contrast": lambda manual: same(manual.from_list("contrasts")),
}
# What else a sentence has.
ASIDES: dict[str, Callable[[Manual], str]] = {
    "q": Manual.aside_things,
    "r": Manual.aside_part,
    "e": Manual.aside_event,
    "k": Manual.setting,
    "f": Manual.flag,
    "m": Manual.command,
    "p": Manual.path,
    "u": Manual.duration,
    "value": Manual.value,
    "i": lambda manual: f"`{manual.identifier()}`",
    "i:plain": Manual.identifier,
    "n": lambda manual: str(manual.dice.between(2, manual.dice.pick([12, 90, 900]))),
    "x": Manual.name,
    "w": Manual.odd,
    "v": lambda manual: manual.dice.pick(words.VERBS),
    "v:plural": lambda manual: files.base(manual.dice.pick(words.VERBS)),
}


def same(text: str) -> Term:
    return Term(text, text, text)


# Layout


@dataclass(frozen=True, slots=True)
class Shape:
    """How a manual is laid out, and how its passages were cut out of it."""

    width: int  # of its lines, or 0
    is_cut: bool
    lists: float
    tables: float


def shape(dice: Dice) -> Shape:
    width = dice.between(76, 122) if dice.chance(0.45) else 0
    return Shape(width, dice.chance(0.4), dice.pick([0.1, 0.4, 0.8]), dice.pick([0.2, 0.7]))


def laid_out(manual: Manual, form: Shape, told: Sequence[Told], remarks: int) -> Passage:
    """A passage that says this, among sentences that nobody asks for."""
    dice = manual.dice
    answers: list[tuple[Fact, str]] = []
    parts = []
    rows = [each for each in told if each.row[0] and dice.chance(form.tables)]
    kinds = dict.fromkeys(each.kind for each in rows)
    for kind in kinds:
        text, more = table(manual, kind, [each for each in rows if each.kind == kind])
        parts.append(text)
        answers += more
    lines = []
    rest = [each for each in told if each not in rows]
    while rest:
        first = rest.pop()
        facts, answer = [first.fact], first.fact.statement
        if rest and dice.chance(0.12):
            second = rest.pop()
            facts.append(second.fact)
            answer = f"{answer[:-1]}{dice.pick(['; ', ', and ', '; also, '])}{second.clause}"
        line = answer
        if first.subject and dice.chance(0.25):
            answer = f"It{answer.removeprefix(capital(first.subject))}"
            line = f"{manual.remark(first.subject)} {answer}"
        lines.append(line)
        answers += [(fact, answer) for fact in facts]
    for _ in range(remarks):
        lines.insert(dice.between(0, len(lines)), manual.remark())
    while lines:
        count = dice.between(1, 6)
        part = listing if count > 1 and dice.chance(form.lists) else paragraph
        parts.insert(dice.between(0, len(parts)), part(manual, form, lines[:count]))
        lines = lines[count:]
    if dice.chance(0.08):
        parts.insert(dice.between(0, len(parts)), fenced(manual))
    return Passage(cut(manual, form, titled(manual, parts)), answers)


def paragraph(manual: Manual, form: Shape, lines: list[str]) -> str:
    return wrapped(" ".join(lines), form.width)


def listing(manual: Manual, form: Shape, lines: list[str]) -> str:
    dice = manual.dice
    mark, labels = dice.pick(["-", "-", "-", "*", "1."]), dice.chance(0.3)
    items: list[str] = []
    for line in lines:
        if items and dice.chance(0.2):
            items[-1] += f" {line}"
        else:
            items.append(f"**{capital(manual.odd())}**: {line}" if labels else line)
    marks = [f"{n}." if mark == "1." else mark for n in range(1, len(items) + 1)]
    joint = dice.pick(["\n", "\n", "\n\n"])
    return joint.join(
        wrapped(f"{each} {item}", form.width, "  ") for each, item in zip(marks, items, strict=True)
    )


def table(manual: Manual, kind: str, told: Sequence[Told]) -> tuple[str, list[tuple[Fact, str]]]:
    """A row, or a line of a list, for each, and some that nobody asks for."""
    dice = manual.dice
    rows = [each.row for each in told]
    for _ in range(dice.pick([0, 1, 2, 3])):
        second = (
            manual.aside_event() if kind == "failure" else manual.from_list("deeds of a command")
        )
        row = (TERMS[kind](manual).text, second)
        rows.insert(dice.between(0, len(rows)), row)
    if dice.chance(0.35):
        end = dice.pick(["", "."])
        answers = [(each.fact, f"{each.row[0]}: {each.row[1]}{end}") for each in told]
        return "\n".join(f"- {first}: {second}{end}" for first, second in rows), answers
    answers = [(each.fact, f"{each.row[0]}: {each.row[1]}") for each in told]
    between = [""] * len(rows)
    if dice.chance(0.3):
        between = [f"{dice.pick([manual.value, manual.size])()} | " for _ in rows]
    head = dice.pick([(kind, "what it does"), (kind, ""), ("", ""), (capital(kind), "Meaning")])
    rule = dice.pick(["---", "---", "-"])
    column = dice.pick(["default | ", "limit | ", " | "]) if between[0] else ""
    lines = [
        f"| {head[0]} | {column}{head[1]} |",
        f"| {rule} |{f' {rule} |' * (2 if column else 1)}",
    ]
    for (first, second), value in zip(rows, between, strict=True):
        lines.append(f"| {first} | {value}{second} |")
    return "\n".join(lines), answers


def fenced(manual: Manual) -> str:
    lines = [manual.command().strip("`") for _ in range(manual.dice.between(1, 3))]
    return "\n".join(["```", *lines, "```"])


def titled(manual: Manual, parts: list[str]) -> str:
    """With headings before some of its parts."""
    dice = manual.dice
    chance = dice.pick([0.1, 0.4])
    for place in range(len(parts)):
        if dice.chance(chance):
            about = dice.pick([manual.odd(), manual.aside_things(), dice.pick(manual.objects).text])
            parts[place] = (
                f"{dice.pick(['#', '##', '##', '###'])} {capital(about)}\n\n{parts[place]}"
            )
    return "\n\n".join(parts)


def cut(manual: Manual, form: Shape, text: str) -> str:
    """As it is found where a file is cut by length: with parts of the sentences around it."""
    if not form.is_cut:
        return text
    dice, before, after = manual.dice, manual.remark().split(), manual.remark().split()
    end = " ".join(before[dice.between(1, len(before) - 1) :])
    begin = " ".join(after[: dice.between(1, len(after) - 1)])
    goes_on = text[0].isalpha() and dice.chance(0.5)
    joint = " " if goes_on else "\n\n"
    return f"{wrapped(end, form.width)}{joint}{text}\n\n{wrapped(begin, form.width)}"


def wrapped(text: str, width: int, indent: str = "") -> str:
    """In lines of at most that width, if any."""
    if not width:
        return text
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = indent + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


# Exchanges


@dataclass(frozen=True, slots=True)
class Library:
    """Passages with their files' names, what they answer, and a question that they do not."""

    passages: list[Named]
    facts: list[Fact]
    missing: Fact

    @property
    def size(self) -> int:
        return sum(len(passage.text) for _, passage in self.passages)


def library(dice: Dice, wordy: bool) -> Library:
    """Of a few sentences, or of as many as a search gives back."""
    most = MOST_SHOWN if wordy else MOST_BRIEF
    while not (made := drawn(dice, wordy)).facts or made.size > most:
        pass
    return made


def drawn(dice: Dice, wordy: bool) -> Library:
    form = shape(dice)
    if wordy:
        sentences, count = dice.between(10, 44), dice.between(1, 6)
        manual = Manual(dice, dice.between(3, 6), dice.between(4, 10))
        facts, remarks = sentences // 2, sentences - sentences // 2
    else:
        facts, remarks = dice.between(2, 6), dice.pick([0, 0, 1, 2, 4])
        count = dice.pick([1, 1, 2, 2, 3])
        manual = Manual(dice, dice.between(1, 3), dice.between(2, 4))
    missing, *told = manual.all_told(facts + 1)
    count = min(count, len(told))
    names = [file_name(dice) for _ in range(count)]
    if dice.chance(0.5):
        names = names[:1] * count
    passages = [
        laid_out(manual, form, told[place::count], (remarks + place) // count)
        for place in range(count)
    ]
    named = list(zip(names, passages, strict=True))
    return Library(named, [each.fact for each in told], missing.fact)


def file_name(dice: Dice) -> str:
    return dice.file_name("md") if dice.chance(0.7) else files.file_name(dice)


def search_exchange(scene: Scene) -> None:
    """A question about a manual, or one of its sentences to repeat."""
    (repeated if not scene.wordy and scene.dice.chance(0.2) else searched)(scene)


def shown_exchange(scene: Scene) -> None:
    """The same, with the passages in the user's own message."""
    (repeated if not scene.wordy and scene.dice.chance(0.3) else shown)(scene)


def has_room(scene: Scene) -> bool:
    """Whether another exchange is surely no more than the network reads."""
    said = sum(len(message["content"] or "") for message in scene.messages)
    return said + (MOST_SHOWN if scene.wordy else MOST_BRIEF) < MOST_CHARACTERS


def repeated(scene: Scene) -> None:
    dice = scene.dice
    manual = Manual(dice, 1, 1)
    told = manual.all_told(dice.pick([1, 1, 1, 2]))
    texts = [
        *[each.fact.statement for each in told],
        *[f"{each.row[0]}: {each.row[1]}" for each in told if each.row[0] and dice.chance(0.3)],
    ]
    text = " ".join(dice.some(texts, len(told)))
    patterns = [way for way in ways("repeat") if not way.startswith(ASKS_FOR_A_WORD)]
    scene.exchange(dice.phrasing(patterns).format(text), text, "Done.")


def searched(scene: Scene) -> None:
    """The same passages come back when more is asked about the same files."""
    dice = scene.dice
    again = dice.chance(0.4) and scene.files is not None and scene.files.facts
    if not again:
        scene.files = library(dice, scene.wordy)
    if dice.chance(0.04):
        ask(scene, (), typed(dice, scene.files.missing) if dice.chance(0.7) else unrelated(dice))
    else:
        answered(scene, questions=2 if dice.chance(0.08) else 1)


def answered(scene: Scene, questions: int) -> tuple[Fact, ...]:
    """Questions that the passages answer; returns what was asked for."""
    dice = scene.dice
    if scene.files is None:
        scene.files = library(dice, scene.wordy)
    asked = tuple(dice.some(scene.files.facts, questions))
    ask(scene, asked, typed(dice, *asked))
    left = [fact for fact in scene.files.facts if fact not in asked]
    scene.files = replace(scene.files, facts=left)
    return asked


def ask(scene: Scene, asked: tuple[Fact, ...], question: str) -> None:
    passages = retrieval.ranked(scene.dice, scene.files.passages, question)
    found = retrieval.given_back(scene, passages, asked)
    retrieval.searched(scene, question, found.text, found.told() or NOT_FOUND)


def typed(dice: Dice, *asked: Fact) -> str:
    """As people write it, often without care."""
    if len(asked) == 1 and dice.chance(0.3):
        text = asked[0].question
        return (text[:1].lower() + text[1:]).rstrip("?") if dice.chance(0.5) else text
    return retrieval.joined(dice, asked)


def shown(scene: Scene) -> None:
    """Passages in the user's own message; then other questions about them."""
    dice = scene.dice
    shelf = library(dice, scene.wordy)
    asked = tuple(dice.some(shelf.facts, dice.between(1, 3)))
    found = retrieval.given_back(scene, dice.shuffled(shelf.passages), asked)
    exchanges = retrieval.asked_and_told(asked, found)
    if dice.chance(0.1):
        exchanges.insert(dice.between(0, len(exchanges)), (shelf.missing.question, NOT_FOUND))
    retrieval.shown(scene, found, exchanges)
