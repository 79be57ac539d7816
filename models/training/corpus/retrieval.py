"""Exchanges with the search of files: the query, the passages, and the sentence that answers."""

import math
import re
from collections import Counter
from dataclasses import dataclass

from corpus import files, words
from corpus.builtin import QUERY, SEARCH
from corpus.dice import Dice
from corpus.files import Fact, capital
from corpus.scene import Scene
from corpus.script import blocks, ways

NOT_FOUND = "I did not find that in the files."
NO_HITS = ["", "[]", "No results.", "No results found.", "Nothing was found.", "No matches."]
# Mostly the question first, as with a search, where it is known what to look for.
SHOWN = [
    *["{question}\n\n{passages}", "Question: {question}\n\nContext:\n{passages}"],
    *["{question}\n{passages}", "{question} Answer from these passages:\n\n{passages}"],
    *["Context:\n{passages}\n\nQuestion: {question}", "{passages}\n\n{question}"],
]
# Between two questions in one sentence, and between two sentences; a query has none of these words.
WITHIN = [
    *[" and ", ", and ", " and also ", " and ", ", and also ", "; and ", "; ", ", ", "; also "],
    *[", also ", " and please ", ", and please also ", " and so ", " and now ", " - and "],
]
BETWEEN = [
    *[" ", " And ", "\n", " Also: ", " ", " And ", "\n\n", " Also, ", " And also: ", " Also "],
    *[" And please tell me: ", " I also (want/need/would like) to know: ", "\n- ", " And: "],
    *[" One more question: ", " And one more: ", " And (can/could) you tell me: ", " Well, and "],
    *[" Please also tell me: ", " And one more question: ", " And now: ", " So, and ", " OK, and "],
    *[" And I (want/need) to know: ", " And also tell me: ", " And let me know: ", "\nAlso: "],
    *[" And please (check/see/find/look up): ", " Also (check/see/find/look up): ", "\nAnd: "],
    *[" Thanks. And ", " Thank you. Also: ", " One more: ", "\n\nAlso, ", " / ", " + "],
]
COUNTS = [1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8]  # of passages


@dataclass(frozen=True, slots=True)
class Passage:
    """A text and the facts in it, each with the words that answer its question."""

    text: str
    facts: list[tuple[Fact, str]]


Named = tuple[str, Passage]  # with the name of its file


@dataclass(frozen=True, slots=True)
class Files:
    """Passages with the names of their files, and the facts in them."""

    passages: list[Named]
    facts: list[Fact]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gives back, and the answers to questions about it, each with its passage."""

    text: str
    answers: tuple[tuple[str, str], ...]

    @property
    def cited(self) -> list[str]:
        """Each answer with the number of its passage."""
        return [f"{text} [{number}]" for text, number in self.answers]

    def told(self) -> str:
        """All of them; one sentence may answer two questions."""
        return " ".join(dict.fromkeys(self.cited))


def query(question: str) -> str:
    """The words of a question that say what it is about, each once."""
    bare = (word.strip("?!,:;") for word in question.split())
    kept = [word for word in bare if word.strip(".-()").lower() not in words.NOT_SEARCHED_FOR]
    words_of_it = (word.removesuffix(".") for word in kept if word.strip("-+/"))
    return " ".join(dict.fromkeys(words_of_it)) or question


def search_exchange(scene: Scene) -> None:
    roll = scene.dice.random.random()
    if roll < 0.03:
        without_hits(scene)
    elif roll < 0.1:
        not_found(scene)
    elif roll < 0.46:
        answered(scene, questions=3 if roll < 0.18 else 2)
    else:
        answered(scene, questions=1)


def without_hits(scene: Scene) -> None:
    question = unrelated(scene.dice)
    searched(scene, question, scene.dice.pick(NO_HITS), NOT_FOUND)


def not_found(scene: Scene) -> None:
    """The passages speak of other things, or of other sides of the same thing."""
    dice = scene.dice
    facts = statements(dice, scene.brief)
    asked = facts.pop(dice.between(0, len(facts) - 1))
    question = asked.question if dice.chance(0.7) else unrelated(dice)
    passages = ranked(dice, files_of(scene, facts).passages, question)
    searched(scene, question, given_back(scene, passages, ()).text, NOT_FOUND)


def answered(scene: Scene, questions: int) -> tuple[Fact, ...]:
    """Questions that the passages answer; returns what was asked for.

    The same passages come back under new numbers when more is asked about the same files.
    """
    dice = scene.dice
    if scene.files is None or dice.chance(0.6):
        scene.files = files_of(scene, statements(dice, scene.brief))
    asked = tuple(dice.some(scene.files.facts, questions))
    question = joined(dice, asked)
    found = given_back(scene, ranked(dice, scene.files.passages, question), asked)
    searched(scene, question, found.text, found.told())
    return asked


def joined(dice: Dice, asked: tuple[Fact, ...]) -> str:
    """The questions as one message."""
    text = together(dice, asked)
    if len(asked) == 1 or dice.chance(0.3):
        return dice.surface(dice.phrasing(ways("search")).replace("{}", text))
    return text


def together(dice: Dice, asked: tuple[Fact, ...]) -> str:
    text, *more = (fact.question for fact in asked)
    for question in more:
        if text.endswith("?") and dice.chance(0.5):
            text = text[:-1] + dice.pick(WITHIN) + question[:1].lower() + question[1:]
            continue
        joint = dice.expanded(dice.pick(BETWEEN))
        if joint.endswith(("and ", "And ", ", ")) and dice.chance(0.5):
            question = question[:1].lower() + question[1:]
        text += ("" if text.endswith("?") else ".") + joint + question
    return f"- {text}" if "\n- " in text and dice.chance(0.8) else text


def shown_passages(scene: Scene) -> None:
    """Passages in the user's own message, with a question; then other questions about them."""
    dice = scene.dice
    facts = statements(dice, scene.brief)
    missing = facts.pop().question if len(facts) > 2 and dice.chance(0.4) else ""
    asked = tuple(dice.some(facts, dice.between(1, 4)))
    passages = dice.shuffled(files_of(scene, facts).passages)
    found = given_back(scene, passages, asked)
    exchanges = asked_and_told(asked, found)
    if missing:
        exchanges.insert(dice.between(0, len(exchanges)), (missing, NOT_FOUND))
    if len(exchanges) > 1 and exchanges[1][0] != missing != exchanges[0][0] and dice.chance(0.4):
        answers = dict.fromkeys(answer for _, answer in exchanges[:2])
        exchanges[:2] = [(together(dice, asked[:2]), " ".join(answers))]
    shown(scene, found, exchanges)


def asked_and_told(asked: tuple[Fact, ...], found: Found) -> list[tuple[str, str]]:
    """The question of each fact, and its answer."""
    return [(fact.question, told) for fact, told in zip(asked, found.cited, strict=True)]


def shown(scene: Scene, found: Found, exchanges: list[tuple[str, str]]) -> None:
    """The passages beside the first question; then the other ones."""
    (first, answer), *others = exchanges
    form = scene.dice.pick(SHOWN)
    scene.exchange(form.format(question=first, passages=found.text), answer, "Done.")
    for question, answer in others:
        scene.exchange(question, answer, "Done.")


def unrelated(dice: Dice) -> str:
    """A question about the world, which the files say nothing of."""
    if dice.chance(0.5):
        kind = dice.pick(files.NAMED_KINDS)
        return files.documented(dice, kind)(dice, files.entity(dice, kind), 1)[0].question
    return dice.pick([b for b in blocks("refusals") if b.answer == "I do not know that"]).prompt(
        dice
    )


def searched(scene: Scene, question: str, found: str, answer: str) -> None:
    scene.user(question)
    scene.call([(SEARCH, {QUERY: query(question)})])
    scene.result(found)
    scene.reply(answer, "Done.")


def statements(dice: Dice, brief: bool = False) -> list[Fact]:
    """Facts about two or three things of a kind, so that neither the thing nor the matter alone
    tells which of them answers a question; now and then among facts about something else.

    Brief ones are two to four.
    """
    facts: dict[tuple[str, str], Fact] = {}
    kind, topic = files.topic(dice)
    if brief:
        least = dice.between(2, 3)
        while len(facts) < least:
            add(facts, topic(dice, files.entity(dice, kind), dice.between(1, 2)))
        return dice.shuffled(list(facts.values()))
    for _ in range(dice.between(2, 3)):
        add(facts, topic(dice, files.entity(dice, kind), dice.between(2, files.MOST_FACTS)))
    if kind in files.NAMED_KINDS and dice.chance(0.25):
        other = dice.pick(files.NAMED_KINDS)
        more = files.documented(dice, other)
        add(facts, more(dice, files.entity(dice, other), dice.between(1, 2)))
    return dice.shuffled([worn(dice, fact) for fact in facts.values()])


def add(facts: dict[tuple[str, str], Fact], more: list[Fact]) -> None:
    """One fact of a thing about the same: what a question asks for is said once."""
    for fact in more:
        facts.setdefault((fact.entity, fact.about or fact.question), fact)


def worn(dice: Dice, fact: Fact) -> Fact:
    return files.dressed(dice, fact) if dice.chance(0.2) else fact


def files_of(scene: Scene, facts: list[Fact]) -> Files:
    dice = scene.dice
    parts = laid_out(dice, facts, scene.wordy)
    names = [files.file_name(dice) for _ in parts]
    if dice.chance(0.3):
        names = [names[0]] * len(parts)
    return Files(list(zip(names, parts, strict=True)), facts)


def ranked(dice: Dice, passages: list[Named], question: str) -> list[Named]:
    """As a search gives them back: those first that have most of the question's words, of which the
    rare ones count most; like ones in any order.
    """
    shuffled = dice.shuffled(passages)
    wanted = stems(query(question))
    held = [stems(passage.text) & wanted for _, passage in shuffled]
    counts = Counter(stem for each in held for stem in each)
    weights = {stem: math.log(1 + len(held) / count) for stem, count in counts.items()}
    scores = [-round(sum(weights[stem] for stem in sorted(each)), 6) for each in held]
    return [shuffled[place] for place in sorted(range(len(shuffled)), key=scores.__getitem__)]


def stems(text: str) -> set[str]:
    """What the words of a text begin with."""
    return {word[:5] for word in re.findall(r"\w+", text.casefold())}


def given_back(scene: Scene, passages: list[Named], asked: tuple[Fact, ...]) -> Found:
    """The passages of a search, in their order.

    Numbers go on from search to search; the first ones may be of searches that nobody sees any
    more.
    """
    dice = scene.dice
    if not scene.passages and dice.chance(0.15):
        scene.passages = dice.between(1, 60)
    first = scene.passages + 1
    scene.passages += len(passages)
    numbered, where = [], {}
    for number, (name, passage) in enumerate(passages, first):
        numbered.append(f"[{number}] {name}\n{passage.text}")
        where |= {fact.question: (answer, str(number)) for fact, answer in passage.facts}
    return Found("\n\n".join(numbered), tuple(where[fact.question] for fact in asked))


def laid_out(dice: Dice, facts: list[Fact], wordy: bool) -> list[Passage]:
    """Some of it in a table, a passage for each thing, or spread at random."""
    if not wordy and dice.chance(0.12) and (columns := dice.some(shared(facts), 2)):
        columns = columns[: dice.between(1, 2)]
        rows = [fact for fact in facts if fact.about in columns]
        rest = [fact for fact in facts if fact.about not in columns]
        return dice.shuffled([table(dice, rows, columns), *spread(dice, rest, wordy)])
    if not wordy and dice.chance(0.3 if facts[0].entity else 0.1):
        return [passage_about(dice, part) for part in by_entity(facts)]
    return spread(dice, facts, wordy)


def spread(dice: Dice, facts: list[Fact], wordy: bool) -> list[Passage]:
    count = min(len(facts), dice.pick(COUNTS))
    return [passage(dice, facts[place::count], wordy) for place in range(count)]


def by_entity(facts: list[Fact]) -> list[list[Fact]]:
    entities = dict.fromkeys(fact.entity for fact in facts)
    return [[fact for fact in facts if fact.entity == entity] for entity in entities]


def shared(facts: list[Fact]) -> list[str]:
    """What is said of several things, or can be said in rows of a table on its own."""
    told = [fact.about for fact in facts if fact.about]
    single = all(not fact.entity for fact in facts)
    return [about for about in dict.fromkeys(told) if single or told.count(about) > 1]


def table(dice: Dice, facts: list[Fact], columns: list[str]) -> Passage:
    """A row for each thing; or, where all is said of the same, for each side of it."""
    if not facts[0].entity:
        head = dice.pick([["Topic", "Details"], ["Item", "Value"], ["What", "How much"]])
        rows = [[capital(fact.about), fact.value] for fact in facts]
        answers = [(fact, line(fact)) for fact in facts]
    else:
        head = [capital(facts[0].kind), *map(capital, columns)]
        groups = by_entity(facts)
        rows = [[capital(group[0].entity), *cells(group, columns)] for group in groups]
        answers = [(fact, f"{capital(fact.entity)}: {fact.value}") for fact in facts]
    if dice.chance(0.2):
        return Passage("\n".join(",".join(row) for row in [head, *rows]), answers)
    rule = [dice.pick(["---", "---", "-"])] * len(head)
    return Passage("\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows]), answers)


def cells(facts: list[Fact], columns: list[str]) -> list[str]:
    values = {fact.about: fact.value for fact in facts}
    return [values.get(column, "-") for column in columns]


def line(fact: Fact) -> str:
    return f"{capital(fact.about)}: {fact.value}"


def passage_about(dice: Dice, facts: list[Fact]) -> Passage:
    """What is said of one thing: under its name, or with its name in the first sentence."""
    entity = facts[0].entity
    heading = capital(entity) or dice.pick(words.LISTS["headings"])
    titled = dice.pick([f"# {heading}\n\n", f"## {heading}\n\n", f"{heading}\n"])
    if all(fact.about for fact in facts) and dice.chance(0.45):
        return listing(dice, facts, titled)
    if all(fact.other_question for fact in facts) and dice.chance(0.2):
        return interview(dice, facts)
    if entity and dice.chance(0.5):
        pronoun = dice.pick(["She", "He"]) if facts[0].kind == "person" else "It"
        rest = [(fact, fact.with_pronoun(pronoun).statement) for fact in facts[1:]]
        answers = [(facts[0], facts[0].statement), *rest]
    else:
        answers = [(fact, fact.statement) for fact in facts]
    text = " ".join(answer for _, answer in answers)
    return Passage(f"{titled}{text}" if dice.chance(0.3) else text, answers)


def listing(dice: Dice, facts: list[Fact], titled: str) -> Passage:
    """Lines that say what they are about by their heading alone."""
    mark = dice.pick(["", "", "- ", "- ", "* "])
    answers = [(fact, line(fact)) for fact in facts]
    return Passage(titled + "\n".join(mark + answer for _, answer in answers), answers)


def interview(dice: Dice, facts: list[Fact]) -> Passage:
    """Questions, in other words than the user's, and the answers to them."""
    form = dice.pick(["Q: {}\nA: {}", "{}\n{}", "**{}**\n{}", "## {}\n\n{}"])
    joint = dice.pick(["\n", "\n\n"]) if form[0] == "Q" else "\n\n"
    text = joint.join(form.format(fact.other_question, fact.statement) for fact in facts)
    return Passage(text, [(fact, fact.statement) for fact in facts])


def passage(dice: Dice, facts: list[Fact], wordy: bool) -> Passage:
    """Facts among sentences that have nothing to do with them."""
    if not wordy and dice.chance(0.15) and all(not f.entity and f.about for f in facts):
        return listing(dice, facts, dice.pick(["", f"# {dice.pick(words.LISTS['headings'])}\n\n"]))
    if not wordy and dice.chance(0.06) and all(fact.other_question for fact in facts):
        return interview(dice, facts)
    if dice.chance(0.1) and all(fact.about for fact in facts):
        return sections(dice, facts, wordy)
    answers = compound(facts) if dice.chance(0.2) else [(fact, fact.statement) for fact in facts]
    lines = list(dict.fromkeys(answer for _, answer in answers))
    for _ in range(dice.between(5, 15) if wordy else dice.pick([0, 0, 0, 1, 2, 3])):
        aside = files.remark_on(dice, dice.pick(facts)) if dice.chance(0.2) else files.remark(dice)
        lines.insert(dice.between(0, len(lines)), aside)
    prose = " ".join(lines)
    heading = dice.pick(words.LISTS["headings"]) if dice.chance(0.5) else capital(dice.phrase(1, 2))
    if len(facts) == 1 and facts[0].about and dice.chance(0.3):
        heading = capital(facts[0].about)
    marks = [f"{n}. {line}" for n, line in enumerate(lines, 1)]
    forms = ["\n".join(f"- {line}" for line in lines), "\n".join(lines), "\n".join(marks)]
    forms += [f"# {heading}\n\n{prose}", f"## {heading}\n\n{prose}", f"{heading}: {prose}"]
    return Passage(prose if dice.chance(0.45) else dice.pick(forms), answers)


def compound(facts: list[Fact]) -> list[tuple[Fact, str]]:
    """Two statements about the same as one sentence."""
    answers, rest = [], list(facts)
    while rest:
        first = rest.pop(0)
        second = next((fact for fact in rest if is_same(fact, first)), None)
        if second and all(is_sentence(fact) for fact in (first, second)):
            rest.remove(second)
            text = files.joined(first, second)
            answers += [(first, text), (second, text)]
        else:
            answers.append((first, first.statement))
    return answers


def is_sentence(fact: Fact) -> bool:
    return fact.statement.endswith(".") and ": " not in fact.statement


def sections(dice: Dice, facts: list[Fact], wordy: bool) -> Passage:
    """Facts under headings that say what they are about."""
    parts = []
    for fact in facts:
        lines = [fact.statement]
        for _ in range(dice.between(1, 5) if wordy else dice.pick([0, 0, 1])):
            lines.insert(dice.between(0, len(lines)), files.remark(dice))
        parts.append(f"## {capital(fact.about)}\n\n{' '.join(lines)}")
    title = dice.pick(["", f"# {dice.pick(words.LISTS['headings'])}\n\n"])
    return Passage(title + "\n\n".join(parts), [(fact, fact.statement) for fact in facts])


def is_same(fact: Fact, other: Fact) -> bool:
    return (fact.entity, fact.kind) == (other.entity, other.kind)
