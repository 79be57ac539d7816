"""System instructions: persona, manner of speaking, what is known of the user, and chatter."""

from collections.abc import Callable

from corpus import words
from corpus.dice import Dice
from corpus.scene import Style, Voice, plain
from corpus.script import rules


def voice(dice: Dice) -> Voice:
    """Instructions of some kind, half of the time with a persona."""
    if dice.chance(0.12):
        return Voice()
    if dice.chance(0.2):
        return helpful_assistant(dice)
    return composed(dice)


def helpful_assistant(dice: Dice) -> Voice:
    return Voice("You are a helpful assistant.", role="a helpful assistant")


def composed(dice: Dice) -> Voice:
    sentences, name, role = persona(dice)
    style: Style = plain
    user_name = None
    if dice.chance(0.38):
        rule, style = dice.pick(MANNERS)(dice)
        sentences.append(rule)
    elif dice.chance(0.18):
        user_name = dice.name()
        rule, style = known_user(dice, user_name)
        sentences.append(rule)
    sentences += [chatter(dice) for _ in range(dice.pick([0, 0, 0, 1, 1, 2, 4]))]
    if dice.chance(0.3):
        sentences = dice.shuffled(sentences)
    text = dice.pick([" ", " ", " ", "\n"]).join(sentences)
    return Voice(text or dice.sentence(), name, role, user_name, style)


def instructed(dice: Dice) -> Voice:
    """Little else than one instruction, on how to speak, who to be, or whom to speak to."""
    sentences, name, role = persona(dice) if dice.chance(0.45) else ([], None, None)
    if not sentences and dice.chance(0.8):
        sentences, role = ["You are a helpful assistant."], "a helpful assistant"
    style: Style = plain
    user_name = None
    roll = dice.random.random()
    if roll < 0.7:
        rule, style = dice.pick(MANNERS)(dice)
        sentences.append(rule)
    elif roll < 0.85:
        user_name = dice.name()
        rule, style = known_user(dice, user_name)
        sentences.append(rule)
    return Voice(" ".join(sentences), name, role, user_name, style)


def chatter(dice: Dice) -> str:
    return dice.pick(rules("chatter")) if dice.chance(0.75) else dice.sentence().rstrip("!.") + "."


def persona(dice: Dice) -> tuple[list[str], str | None, str | None]:
    """Sentences, the name and the role that they give."""
    if dice.chance(0.2):
        return [], None, None
    role = a_role(dice)
    if dice.chance(0.4):
        return [dice.pick(["You are {}.", "You are {}.", "Act as {}."]).format(role)], None, role
    name = dice.name()
    pattern = dice.phrasing(rules("persona"))
    org = dice.title() + dice.pick(["", " Bank", " Shop", " Labs"])
    text = pattern.format(name=name, role=role, org=org)
    if "{org}" in pattern:
        role = f"{role} for {org}"
    return [text], name, role if "{role}" in pattern else None


def a_role(dice: Dice) -> str:
    role = dice.pick(words.ROLES)
    if dice.chance(0.25):
        role = f"{dice.word()} {dice.pick(['bot', 'assistant', 'expert', 'agent', 'helper'])}"
    if dice.chance(0.1):
        return f"the {role}"
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def known_user(dice: Dice, name: str) -> tuple[str, Style]:
    if dice.chance(0.5):
        rule = dice.phrasing(rules("address as"))
        return rule.format(name), lambda user, answer, word: addressed(name, answer)
    rule = dice.phrasing(rules("user is called"))
    return rule.format(name), plain


def addressed(name: str, answer: str) -> str:
    if answer.startswith("Hello!"):
        return f"Hello, {name}!" + answer[len("Hello!") :]
    return f"{name}, {answer}" if answer.startswith("I ") else answer


def upper(dice: Dice) -> tuple[str, Style]:
    rule = dice.phrasing(rules("upper"))
    return rule, lambda user, answer, word: answer.upper()


def lower(dice: Dice) -> tuple[str, Style]:
    rule = dice.phrasing(rules("lower"))
    return rule, lambda user, answer, word: answer.lower()


def mark(dice: Dice) -> str:
    """What an answer is told to begin or end with."""
    makers: list[Callable[[], str]] = [
        lambda: dice.pick(rules("sign-offs")),
        lambda: dice.word().upper() + "!",
        lambda: dice.phrase(1, 3),
        dice.title,
        lambda: dice.phrase(2, 4).capitalize() + ".",
    ]
    return dice.pick(makers)()


def ending(dice: Dice) -> tuple[str, Style]:
    text = mark(dice)
    rule = dice.phrasing(rules("ending"))
    return rule.format(text), lambda user, answer, word: f"{answer} {text}"


def beginning(dice: Dice) -> tuple[str, Style]:
    text = mark(dice)
    rule = dice.phrasing(rules("beginning"))
    return rule.format(text), lambda user, answer, word: f"{text} {answer}"


def constant(dice: Dice) -> tuple[str, Style]:
    text = mark(dice)
    rule = dice.phrasing(rules("constant"))
    return rule.format(text), lambda user, answer, word: text


def one_word(dice: Dice) -> tuple[str, Style]:
    rule = dice.phrasing(rules("one word"))
    return rule, lambda user, answer, word: word


def echo(dice: Dice) -> tuple[str, Style]:
    rule = dice.phrasing(rules("echo"))
    return rule, lambda user, answer, word: user


def pirate(dice: Dice) -> tuple[str, Style]:
    rule = dice.phrasing(rules("pirate"))
    return rule, lambda user, answer, word: f"Arrr! {answer}"


MANNERS = [
    *[upper, upper, lower, lower],
    *[ending, ending, beginning, beginning],
    *[constant, one_word, one_word, echo, pirate],
]
