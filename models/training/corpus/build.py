"""Puts whole documents together and fingerprints the data set."""

import hashlib
from dataclasses import dataclass
from typing import Any

from corpus import talk
from corpus.dice import Dice
from corpus.render import render
from corpus.scene import Message, Scene, Voice
from corpus.tool_use import Toolbox, single_tool, tool_exchange, toolbox
from corpus.voices import helpful_assistant, instructed, voice

# The curriculum, by the numbers of documents.
DRILLS = range(9_984, 16_128)  # little but copying: this is where the network learns to copy
SHORT = range(12_000)  # a few exchanges each; the full mix begins after drills
PRACTICE = 30_720  # from here on, more of what is learned last: instructions and recall
CALLS = 48_384  # from here on, calls of functions as well
LAST = 59_136  # from here on, less of the calls again


@dataclass(frozen=True, slots=True)
class Conversation:
    messages: list[Message]
    tools: list[dict[str, Any]] | None

    def text(self) -> str:
        return render(self.messages, self.tools)


def conversation(seed: int, number: int, held_out: bool = False) -> Conversation:
    """The document of that number. Held-out ones use values and phrasings kept from training."""
    dice = Dice(f"{seed}/{number}/{'held out' if held_out else 'train'}", held_out)
    if number in DRILLS:
        return drill(dice)
    if number >= CALLS and dice.chance(0.3 if number >= LAST else 0.4):
        return calls(dice)
    if number >= PRACTICE and dice.chance(0.55 if number >= LAST else 0.6):
        return practice(dice)
    return free(dice, number, with_tools=0.42 if number in SHORT else 0.32)


def free(dice: Dice, number: int, with_tools: float) -> Conversation:
    """Everything in turn, tools in that share of documents."""
    box = toolbox(dice) if dice.chance(with_tools) else Toolbox(())
    scene = Scene(dice, voice(dice), everyday_tools=box.everyday)
    for _ in range(exchanges(dice, number)):
        one_exchange(scene, box, number)
    return finished(scene, box)


def drill(dice: Dice) -> Conversation:
    """Dense in copying: repetition and recall, or calls of a single tool."""
    box = single_tool(dice) if dice.chance(0.4) else Toolbox(())
    scene = Scene(dice, helpful_assistant(dice) if dice.chance(0.5) else Voice())
    if box.functions:
        tool_exchange(scene, box)
        return finished(scene, box)
    for _ in range(dice.between(3, 6)):
        dice.pick(talk.COPYING)(scene)
    return finished(scene, box)


def practice(dice: Dice) -> Conversation:
    """Talk under instructions that are kept to throughout, or recall over some turns."""
    obeying = dice.chance(0.7)
    scene = Scene(dice, instructed(dice) if obeying else helpful_assistant(dice))
    for _ in range(dice.between(2, 4)):
        dice.pick(talk.OBEYING if obeying else talk.RECALL)(scene)
    return finished(scene, Toolbox(()))


def calls(dice: Dice) -> Conversation:
    """Requests for listed functions with hardly any talk between them."""
    box = toolbox(dice)
    voiced = voice(dice) if dice.chance(0.3) else helpful_assistant(dice)
    scene = Scene(dice, voiced, everyday_tools=box.everyday)
    for _ in range(dice.between(1, 3)):
        if dice.chance(0.85):
            tool_exchange(scene, box)
        else:
            talk.exchange(scene)
    return finished(scene, box)


def finished(scene: Scene, box: Toolbox) -> Conversation:
    opening = system_message(scene.voice.instructions)
    return Conversation(opening + scene.messages, box.tools() or None)


def exchanges(dice: Dice, number: int) -> int:
    if number in SHORT:
        return dice.between(1, 3)
    return dice.between(10, 30) if dice.chance(0.025) else dice.pick([1, 1, 2, 2, 3, 3, 4, 5, 7])


def one_exchange(scene: Scene, box: Toolbox, number: int) -> None:
    if box.functions and scene.dice.chance(0.7):
        tool_exchange(scene, box)
    elif number in SHORT and scene.dice.chance(0.3):
        scene.dice.pick(talk.DRILLS)(scene)
    else:
        talk.exchange(scene)


def system_message(instructions: str) -> list[Message]:
    return [{"role": "system", "content": instructions}] if instructions else []


def document(seed: int, number: int) -> str:
    return conversation(seed, number).text()


def sample(seed: int, number: int) -> str:
    """A document outside the curriculum: what the vocabulary is learned from."""
    return free(Dice(f"{seed}/{number}/train"), number, with_tools=0.42).text()


def digest(seed: int, count: int) -> str:
    """SHA-256 over the first documents of a data set, one zero byte after each."""
    fingerprint = hashlib.sha256()
    for number in range(count):
        fingerprint.update(document(seed, number).encode() + b"\0")
    return fingerprint.hexdigest()
