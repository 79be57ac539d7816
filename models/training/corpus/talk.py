"""Exchanges without tools, each kind with its weight: small talk, tasks, memory, and no.

A kind takes a scene and adds one exchange, or a few, to it.
"""

from collections.abc import Callable

from corpus import coding, forms, memory, tasks
from corpus.dice import Dice
from corpus.scene import Scene
from corpus.script import Block, blocks, ways

Kind = Callable[[Scene], None]

DECLINE = "I am a tiny demonstration model, so {}. A larger model can help you."
UNSOLVED = "I cannot work that out"
# What tools may be able to do, so that it is declined only where no such tool is listed.
DONE_BY = {
    "functions": (
        "I cannot look that up",
        "I cannot do that",
        "I cannot translate",
        UNSOLVED,
    ),
    "search": ("I do not know that", "I cannot explain that", "I cannot look that up"),
    "code": (UNSOLVED, "I cannot write or fix code"),
}


def small_talk(scene: Scene) -> None:
    answer_by_heart(scene, scene.dice.pick(blocks("smalltalk")))


def greeting(scene: Scene) -> None:
    """Hello, mostly; or by the time of day."""
    known = blocks("smalltalk")[:4]
    answer_by_heart(scene, known[0] if scene.dice.chance(0.7) else scene.dice.pick(known))


def fact(scene: Scene) -> None:
    """Where files can be searched, that is where facts are looked for."""
    answer_by_heart(
        scene, scene.dice.pick(blocks("smalltalk" if "search" in scene.able else "facts"))
    )


def capital(scene: Scene) -> None:
    (small_talk if "search" in scene.able else tasks.capital)(scene)


def opposite(scene: Scene) -> None:
    (small_talk if "search" in scene.able else tasks.opposite)(scene)


def answer_by_heart(scene: Scene, block: Block) -> None:
    scene.exchange(block.prompt(scene.dice), block.answer, block.word)


def declined(scene: Scene) -> None:
    dice = scene.dice
    done = {answer for tool in scene.able for answer in DONE_BY[tool]}
    block = dice.pick([block for block in blocks("refusals") if block.answer not in done])
    if block.answer == UNSOLVED and dice.chance(0.5):
        prompt = dice.surface(dice.pick(coding.UNAIDED)(dice).question)
    else:
        prompt = beyond(dice, block)
    scene.exchange(prompt, DECLINE.format(block.answer), block.word)


def beyond(dice: Dice, block: Block) -> str:
    """A request that the model cannot fulfil, sometimes with more around it."""
    prompt = block.prompt(dice)
    roll = dice.random.random()
    if roll < 0.05:
        return f"{prompt}\n\n{pasted(dice)}"
    if roll < 0.09:
        return f"{dice.sentence()} {prompt}"
    if roll < 0.15:
        return f"{prompt} {dice.pick(ways('courtesies'))}"
    return prompt


def pasted(dice: Dice) -> str:
    return " ".join(dice.sentence() for _ in range(dice.between(2, 14)))


def identity(scene: Scene) -> None:
    dice, voice = scene.dice, scene.voice
    word = f"{voice.name.split()[0]}." if voice.name else "Assistant."
    if dice.chance(0.5):
        answer = f"My name is {voice.name}." if voice.name else "I have no name. " + who(scene)
        scene.exchange(dice.surface(dice.phrasing(ways("your name"))), answer, word)
    else:
        scene.exchange(dice.surface(dice.phrasing(ways("who are you"))), who(scene), word)


def who(scene: Scene) -> str:
    voice = scene.voice
    if voice.name:
        return f"I am {voice.name}, {voice.role}." if voice.role else f"I am {voice.name}."
    if voice.role:
        return f"I am {voice.role}, running on a tiny demonstration model."
    return "I am a tiny demonstration model."


def recall_words(scene: Scene) -> None:
    if not memory.recall_words(scene):
        small_talk(scene)


def told(scene: Scene) -> None:
    memory.told(scene, INTERLUDES)


def told_and_asked(scene: Scene) -> None:
    memory.told(scene, [tasks.repetition])


def named_and_asked(scene: Scene) -> None:
    memory.tell_name(scene)
    memory.ask_name(scene)


def named_and_asked_later(scene: Scene) -> None:
    memory.tell_name(scene)
    for _ in range(scene.dice.between(0, 3)):
        scene.dice.pick(INTERLUDES)(scene)
    memory.ask_name(scene)


def sum_of_digits(scene: Scene) -> None:
    """Where a tool may add, sums are left to it."""
    (small_talk if scene.able & {"functions", "code"} else tasks.sum_of_digits)(scene)


def two_at_once(scene: Scene) -> None:
    """A message that nobody answered, and then the one that counts."""
    scene.user(scene.dice.sentence())
    scene.dice.pick(INTERLUDES)(scene)


INTERLUDES: list[Kind] = [
    small_talk,
    small_talk,
    fact,
    declined,
    tasks.repetition,
    tasks.counting,
    identity,
]
DRILLS: list[Kind] = [
    tasks.repetition,
    told,
    memory.tell_name,
    memory.ask_name,
    declined,
    tasks.listing,
]
COPYING: list[Kind] = [
    tasks.repetition,
    tasks.repetition,
    tasks.repetition,
    told_and_asked,
    named_and_asked,
    tasks.listing,
    recall_words,
]
OBEYING: list[Kind] = [
    greeting,
    small_talk,
    small_talk,
    fact,
    declined,
    declined,
    identity,
    identity,
    memory.ask_name,
]
GREETING: list[Kind] = [greeting, greeting, greeting, small_talk, identity]
INTRODUCING: list[Kind] = [*[identity] * 4, greeting, small_talk, small_talk, told]
RECALL: list[Kind] = [
    named_and_asked_later,
    named_and_asked_later,
    told,
    told,
    recall_words,
    tasks.repetition,
    sum_of_digits,
]
KINDS: list[tuple[Kind, int]] = [
    (greeting, 3),
    (small_talk, 20),
    (fact, 7),
    (declined, 26),
    (tasks.joke, 3),
    (identity, 7),
    (tasks.repetition, 12),
    (recall_words, 4),
    (memory.tell_name, 4),
    (memory.ask_name, 5),
    (told, 9),
    (tasks.counting, 2),
    (sum_of_digits, 4),
    (capital, 3),
    (opposite, 2),
    (tasks.hello_in, 2),
    (forms.json_exchange, 8),
    (tasks.listing, 4),
    (tasks.verse, 2),
    (tasks.in_capitals, 1),
    (two_at_once, 1),
]


def exchange(scene: Scene) -> None:
    """One exchange of a kind drawn by its weight."""
    kinds, weights = zip(*KINDS, strict=True)
    scene.dice.random.choices(kinds, weights)[0](scene)
