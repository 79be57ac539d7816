"""Puts whole documents together and fingerprints the data set."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from corpus import builtin, talk, technical
from corpus.coding import code_exchange, one_calculation, one_table
from corpus.dice import Dice
from corpus.render import render
from corpus.retrieval import search_exchange, shown_passages
from corpus.scene import Message, Scene, Voice
from corpus.script import rules
from corpus.tool_use import (
    MOST_TOOLS,
    Toolbox,
    everyday_ones,
    functions,
    misfit,
    single_tool,
    tool_exchange,
    toolbox,
)
from corpus.voices import composed, helpful_assistant, instructed, voice


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages; or, with branches, an opening that each of them goes on from alone."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None
    branches: tuple[list[Message], ...] = ()

    def text(self) -> str:
        """Without the branches."""
        return render(self.messages, self.tools)

    def texts(self) -> tuple[str, ...]:
        """The whole; or the opening, and what each branch adds to it."""
        whole = [way.text() for way in self.ways()]
        if not self.branches:
            return tuple(whole)
        opening = whole[0].partition(USER_TURN)[0]
        return opening, *(text.removeprefix(opening) for text in whole)

    def ways(self) -> Iterator["Conversation"]:
        """Itself; or each branch with the opening before it."""
        for branch in self.branches or ([],):
            yield Conversation([*self.messages, *branch], self.tools)


Make = Callable[[Dice], Conversation]
BRANCHES = 8
USER_TURN = "<|im_start|>user"  # as the template has it


def conversation(seed: int, number: int, held_out: bool = False) -> Conversation:
    """The document of that number. Held-out ones use values and phrasings kept from training."""
    dice = Dice(f"{seed}/{number}/{'held out' if held_out else 'train'}", held_out)
    return drawn(dice, mix_of(number))


def mix_of(number: int) -> list[tuple[Make, int]]:
    if number < FULL:
        return BEGINNING
    return ALL if number < REFINING or is_held(number) else HARD


def is_held(number: int) -> bool:
    """Whether a document is there so that what is known is kept, while more is learned."""
    return number >= REFINING and number % HELD_EVERY == 0


def drawn(dice: Dice, mix: list[tuple[Make, int]]) -> Conversation:
    makers, weights = zip(*mix, strict=True)
    return dice.random.choices(makers, weights)[0](dice)


def chat(dice: Dice) -> Conversation:
    """Talk in any voice; with tools listed that nobody asks for, now and then."""
    box = toolbox(dice) if dice.chance(0.15) else Toolbox()
    scene = opened(dice, box, voice(dice))
    for _ in range(dice.pick([1, 1, 2, 2, 3, 3, 4, 5, 7])):
        talk.exchange(scene)
    return finished(scene, box)


def short_chat(dice: Dice) -> Conversation:
    scene = opened(dice, Toolbox(), voice(dice))
    for _ in range(dice.between(1, 3)):
        talk.exchange(scene)
    return finished(scene, Toolbox())


def copying(dice: Dice) -> Conversation:
    """Repetition and recall: this is where the network learns to copy."""
    scene = opened(dice, Toolbox(), helpful_assistant(dice) if dice.chance(0.5) else Voice())
    for _ in range(dice.between(3, 6)):
        dice.pick(talk.COPYING)(scene)
    return finished(scene, Toolbox())


def one_tool(dice: Dice) -> Conversation:
    box = single_tool(dice)
    scene = opened(dice, box, helpful_assistant(dice))
    for _ in range(dice.between(1, 3)):
        tool_exchange(scene, box)
    return finished(scene, box)


def obeying(dice: Dice) -> Conversation:
    """Talk under instructions that are kept to throughout."""
    voiced = instructed(dice)
    scene = opened(dice, Toolbox(), voiced)
    kinds = talk.GREETING if voiced.greets and dice.chance(0.6) else talk.OBEYING
    for _ in range(dice.between(2, 4)):
        dice.pick(kinds)(scene)
    return finished(scene, Toolbox())


def introducing(dice: Dice) -> Conversation:
    """A persona, who is asked for it and greeted in turns."""
    scene = opened(dice, Toolbox(), instructed(dice) if dice.chance(0.4) else composed(dice))
    for _ in range(dice.between(1, 3)):
        dice.pick(talk.INTRODUCING)(scene)
    return finished(scene, Toolbox())


def recalling(dice: Dice) -> Conversation:
    """What was said some turns ago."""
    scene = opened(dice, Toolbox(), helpful_assistant(dice))
    for _ in range(dice.between(2, 4)):
        dice.pick(talk.RECALL)(scene)
    return finished(scene, Toolbox())


def calling(dice: Dice) -> Conversation:
    """Requests for one of several functions, and for what none of them does."""
    box = toolbox(dice)
    return working(dice, box, Tasks(functions=12, search=1, code=1, misfit=2, talk=2))


def searching(dice: Dice) -> Conversation:
    box = Toolbox(other_functions(dice), builtin.file_search(dice), other_code(dice))
    return working(dice, box, Tasks(functions=1, search=12, code=1, misfit=0, talk=2))


def choosing(dice: Dice) -> Conversation:
    """Requests for several functions, whose results are short."""
    count = dice.between(3, MOST_TOOLS)
    drawn = everyday_ones(dice, count) if dice.chance(0.4) else functions(dice, count)
    kinds = Tasks(functions=12, search=0, code=0, misfit=2, talk=1)
    return working(dice, Toolbox(drawn), kinds, exchanges=dice.between(2, 4), brief=True)


def deciding(dice: Dice) -> Conversation:
    """Functions, and many first requests beside each other; some are served by none."""
    count = dice.between(2, MOST_TOOLS)
    box = Toolbox(everyday_ones(dice, count) if dice.chance(0.4) else functions(dice, count))
    kinds = Tasks(functions=12, search=0, code=0, misfit=3, talk=1)
    return beside_each_other(dice, box, kinds.exchanges(box))


def computing(dice: Dice) -> Conversation:
    """Many computations beside each other."""
    box = Toolbox(other_functions(dice), None, builtin.code_interpreter(dice))
    return beside_each_other(dice, box, [*[one_calculation] * 12, one_table, talk.exchange])


def beside_each_other(dice: Dice, box: Toolbox, kinds: list[talk.Kind]) -> Conversation:
    """First requests and what is answered at once, all after the same opening: of what there is to
    learn, choosing what to do takes the fewest tokens so.
    """
    voiced = tool_voice(dice, box)
    branches = []
    for _ in range(BRANCHES):
        scene = opened(dice, box, voiced)
        dice.pick(kinds)(scene)
        roles = [message["role"] for message in scene.messages]
        branches.append(scene.messages[: roles.index("assistant") + 1])
    opening = system_message(voiced.instructions)
    return Conversation(opening, box.tools(), tuple(branches))


def short_search(dice: Dice) -> Conversation:
    """Files that say little, so that most of what is read is what is asked about."""
    box = Toolbox(other_functions(dice), builtin.file_search(dice), None)
    kinds = Tasks(functions=0, search=1, code=0, misfit=0, talk=0)
    return working(dice, box, kinds, exchanges=dice.between(1, 3), brief=True)


def reading(dice: Dice) -> Conversation:
    """Passages that the user shows, and questions about them."""
    scene = opened(dice, Toolbox(), helpful_assistant(dice) if dice.chance(0.5) else Voice())
    scene.brief = dice.chance(0.7)
    for _ in range(dice.between(1, 2)):
        shown_passages(scene)
    return finished(scene, Toolbox())


def coding(dice: Dice) -> Conversation:
    box = Toolbox(other_functions(dice), other_search(dice), builtin.code_interpreter(dice))
    return working(dice, box, Tasks(functions=1, search=1, code=12, misfit=0, talk=2))


def long(dice: Dice) -> Conversation:
    """A conversation of as many tokens as the network is to read."""
    box = toolbox(dice) if dice.chance(0.7) else Toolbox()
    kinds = Tasks(functions=3, search=3, code=3, misfit=1, talk=4)
    return working(dice, box, kinds, exchanges=dice.between(10, 36))


def long_search(dice: Dice) -> Conversation:
    """Passages as long as those of real files."""
    box = Toolbox(other_functions(dice), builtin.file_search(dice), None)
    kinds = Tasks(functions=0, search=1, code=0, misfit=0, talk=0)
    return working(dice, box, kinds, exchanges=dice.between(1, 3), wordy=True)


def technical_short(dice: Dice) -> Conversation:
    """A few sentences of manuals, exact and hard to copy, and questions about them."""
    return about_manuals(dice, dice.between(1, 4), wordy=False)


def technical_long(dice: Dice) -> Conversation:
    """As much of manuals as a search gives back."""
    return about_manuals(dice, dice.between(1, 2), wordy=True)


def about_manuals(dice: Dice, exchanges: int, wordy: bool) -> Conversation:
    """By a search, or in what the user shows."""
    if dice.chance(0.25):
        box, exchange = Toolbox(), technical.shown_exchange
        voiced = helpful_assistant(dice) if dice.chance(0.5) else Voice()
    else:
        box = Toolbox(other_functions(dice), builtin.file_search(dice), None)
        exchange, voiced = technical.search_exchange, tool_voice(dice, box)
    scene = opened(dice, box, voiced)
    scene.wordy = wordy
    for _ in range(exchanges):
        if technical.has_room(scene):
            exchange(scene)
    return finished(scene, box)


@dataclass(frozen=True, slots=True)
class Tasks:
    """How often each kind of exchange comes up where its tools are listed."""

    functions: int
    search: int
    code: int
    misfit: int
    talk: int

    def exchanges(self, box: Toolbox) -> list[talk.Kind]:
        kinds: list[talk.Kind] = [talk.exchange] * self.talk
        if box.functions:
            kinds += [lambda scene: tool_exchange(scene, box)] * self.functions
        if box.functions and not box.finds_anything:
            kinds += [lambda scene: misfit(scene, box)] * self.misfit
        kinds += [search_exchange] * (self.search if box.search else 0)
        return kinds + [code_exchange] * (self.code if box.code else 0)


def working(
    dice: Dice,
    box: Toolbox,
    tasks: Tasks,
    exchanges: int = 0,
    wordy: bool = False,
    brief: bool = False,
) -> Conversation:
    """A conversation with tools at hand."""
    scene = opened(dice, box, tool_voice(dice, box))
    scene.wordy, scene.brief = wordy, brief
    kinds = tasks.exchanges(box)
    for _ in range(exchanges or dice.between(1, 5)):
        dice.pick(kinds)(scene)
    return finished(scene, box)


def other_functions(dice: Dice) -> tuple[Any, ...]:
    return functions(dice, dice.between(1, 3)) if dice.chance(0.3) else ()


def other_search(dice: Dice) -> dict[str, Any] | None:
    return builtin.file_search(dice) if dice.chance(0.15) else None


def other_code(dice: Dice) -> dict[str, Any] | None:
    return builtin.code_interpreter(dice) if dice.chance(0.15) else None


def tool_voice(dice: Dice, box: Toolbox) -> Voice:
    """Mostly what assistants with such tools are told."""
    if dice.chance(0.2):
        return voice(dice)
    if dice.chance(0.3):
        return helpful_assistant(dice)
    if dice.chance(0.2):
        return Voice()
    sections = ["search instructions"] * bool(box.search) + ["code instructions"] * bool(box.code)
    return Voice(dice.pick(rules(dice.pick(sections or ["tool instructions"]))))


def opened(dice: Dice, box: Toolbox, voiced: Voice) -> Scene:
    return Scene(dice, voiced, able=box.able)


def finished(scene: Scene, box: Toolbox) -> Conversation:
    opening = system_message(scene.voice.instructions)
    return Conversation(opening + scene.messages, box.tools() or None)


def system_message(instructions: str) -> list[Message]:
    return [{"role": "system", "content": instructions}] if instructions else []


# The curriculum: documents that are short and dense in copying, then some of every kind. Those from
# a number on that is never reached are for training on: what is hardest, in little text.
FULL, REFINING = 60_000, 100_000_000
HELD_EVERY = 7  # prime, so that each of several processes gets its share
BEGINNING: list[tuple[Make, int]] = [(copying, 50), (one_tool, 30), (short_chat, 20)]
ALL: list[tuple[Make, int]] = [
    (chat, 20),
    (copying, 5),
    (obeying, 30),
    (recalling, 6),
    (calling, 36),
    (choosing, 34),
    (searching, 20),
    (short_search, 24),
    (reading, 10),
    (coding, 24),
    (long, 2),
    (long_search, 3),
    (technical_short, 20),
    (technical_long, 4),
]
HARD: list[tuple[Make, int]] = [
    (deciding, 40),
    (computing, 24),
    (choosing, 6),
    (introducing, 5),
    (calling, 4),
    (coding, 4),
]


def sample(seed: int, number: int) -> str:
    """A document outside the curriculum: what the vocabulary is learned from."""
    return drawn(Dice(f"{seed}/{number}/train"), ALL).text()


def digest(seed: int, count: int) -> str:
    """SHA-256 over the first documents of a data set and some of every kind, each with a zero."""
    fingerprint = hashlib.sha256()
    for number in [*range(count), *range(FULL, FULL + count)]:
        fingerprint.update(conversation(seed, number).text().encode() + b"\0")
    return fingerprint.hexdigest()
