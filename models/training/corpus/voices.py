"""System instructions: persona, manner of speaking, what is known of the user, and chatter."""

from collections.abc import Callable
from dataclasses import dataclass

from corpus import words
from corpus.dice import Dice, dumps
from corpus.scene import Style, Voice, plain
from corpus.script import blocks, rules

Manner = Callable[[Dice], tuple[str, Style]]  # an instruction, and what it does to answers


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
        rules, style = manner(dice)
        sentences += rules
    elif dice.chance(0.18):
        user_name = dice.name()
        rule, style = known_user(dice, user_name)
        sentences.append(rule)
    sentences += [chatter(dice) for _ in range(dice.pick([0, 0, 0, 1, 1, 2, 4]))]
    if dice.chance(0.3):
        sentences = dice.shuffled(sentences)
    text = joined(dice, sentences)
    return Voice(text or dice.sentence(), name, role, user_name, style)


def joined(dice: Dice, sentences: list[str]) -> str:
    """The instructions as one text or, now and then, as a list."""
    if any("\n" in sentence for sentence in sentences):
        return "\n".join(sentences)
    if len(sentences) > 1 and dice.chance(0.08):
        return itemized(dice, sentences)
    return dice.pick([" ", " ", " ", "\n"]).join(sentences)


def itemized(dice: Dice, sentences: list[str]) -> str:
    if dice.chance(0.5):
        return "\n".join(f"- {sentence}" for sentence in sentences)
    return "\n".join(f"{number}. {text}" for number, text in enumerate(sentences, 1))


def instructed(dice: Dice) -> Voice:
    """Little else than one instruction or a few, on how to speak, who to be, or to whom."""
    sentences, name, role = persona(dice) if dice.chance(0.45) else ([], None, None)
    if not sentences and dice.chance(0.8):
        sentences, role = ["You are a helpful assistant."], "a helpful assistant"
    style: Style = plain
    user_name = None
    roll = dice.random.random()
    if roll < 0.1:
        user_name = dice.name()
        rule, calling = known_user(dice, user_name)
        sentences.append(rule)
        style = calling
    if roll < 0.05 or 0.1 <= roll < 0.82:
        rules, way = manner(dice)
        sentences += rules
        style = way if user_name is None else after(calling, way)
    if dice.chance(0.2):
        sentences = dice.shuffled(sentences)
    text = joined(dice, sentences)
    greets = style("", next(iter(GREETINGS)), "") in words.GREETINGS.values()
    return Voice(text, name, role, user_name, style, greets)


def manner(dice: Dice) -> tuple[list[str], Style]:
    """One instruction on how to speak, or several that hold together."""
    if dice.chance(0.5):
        rule, style = dice.pick(MANNERS)(dice)
        return [rule], style
    return several(dice, together(dice))


def after(first: Style, second: Style) -> Style:
    """The second applied to what the first has made."""
    return lambda user, answer, word: second(user, first(user, answer, word), word)


def together(dice: Dice) -> list[Manner]:
    """Two instructions or more that can be followed at once, in the order in which that is done."""
    case = dice.pick([upper, upper, lower])
    first = dice.pick([*[None] * 6, greeting_in, pirate, echo, one_word])
    if first is one_word:
        return [one_word, case]
    others = dice.pick([[both_marks], *[[beginning, ending]] * 3])
    if first:
        others = dice.pick([[beginning], [ending], [case], [case], others])
        return [first, *others, *([case] if case not in others and dice.chance(0.3) else [])]
    return dice.pick([others, others, [*others, case], [*others, case], [*others[-1:], case]])


def several(dice: Dice, kinds: list[Manner]) -> tuple[list[str], Style]:
    """Each applied to what those before it have made."""
    drawn = [(kind, *kind(dice)) for kind in kinds]
    style: Style = plain
    for _, _, each in drawn:
        style = after(style, each)
    told = [Rule(rule, kind not in (beginning, ending)) for kind, rule, _ in drawn]
    return worded(dice, dice.shuffled(told)), style


@dataclass(frozen=True, slots=True)
class Rule:
    """An instruction, and whether it speaks of no text that might go on behind its end."""

    text: str
    is_plain: bool

    @property
    def is_closed(self) -> bool:
        quoted = self.text.count('"') > 1 or self.text.count("'") > 1
        return self.text.endswith(".") and (self.is_plain or quoted)

    def lowered(self) -> str:
        """To be said within a sentence."""
        keeps = self.text.startswith(("I ", '"', "'")) or self.text[:2].isupper()
        return self.text if keeps else self.text[:1].lower() + self.text[1:]


def worded(dice: Dice, told: list[Rule]) -> list[str]:
    """Several instructions one by one, within one sentence, or as a list."""
    roll = dice.random.random()
    plainly = [rule.text for rule in told]
    if len(told) < 2 or roll < 0.5:
        return plainly
    if roll < 0.62:
        ahead = dice.expanded(dice.pick(rules("rules ahead")))
        listed = dice.chance(0.6)
        return [f"{ahead}\n{itemized(dice, plainly)}"] if listed else [ahead, *plainly]
    first, second, *others = told
    more = [rule.text for rule in others]
    if roll < 0.85 and first.is_closed:
        joint = dice.pick(RULE_JOINTS)
        return [f"{first.text.removesuffix('.')}{joint}{second.lowered()}", *more]
    further = dice.expanded(dice.pick(rules("second rule"))).replace("{}", second.lowered())
    return [first.text, further, *more]


RULE_JOINTS = [
    *[" and ", " and ", ", and ", " and also ", ", and also ", "; ", "; also ", ", and please "],
    *[" but also ", ", then ", " and besides ", "; and ", " and at the same time ", " - and "],
]


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
    elif dice.chance(0.12):
        role = "helpful assistant"
    if dice.chance(0.12):
        role = f"{dice.pick(['polite', 'cheerful', 'kind', 'calm', 'careful', 'expert'])} {role}"
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


def greeting_in(dice: Dice) -> tuple[str, Style]:
    language = dice.pick(list(words.GREETINGS))
    rule = dice.phrasing(rules("greeting in")).replace("{}", language)
    return rule, lambda user, answer, word: greeted(words.GREETINGS[language], answer)


def greeted(greeting: str, answer: str) -> str:
    """Greetings alone are known in other languages."""
    return greeting if answer in GREETINGS else answer


def as_json(dice: Dice) -> tuple[str, Style]:
    key, rule = "answer", dice.phrasing(rules("as json"))
    if "{}" in rule:
        known = ["answer", "reply", "text", "message", "response", "output", "result", "content"]
        key = dice.pick(known) if dice.chance(0.5) else dice.word()
    return rule.replace("{}", key), lambda user, answer, word: dumps({key: answer})


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


def both_marks(dice: Dice) -> tuple[str, Style]:
    first, last = mark(dice), mark(dice)
    rule = dice.phrasing(rules("both marks")).replace("{a}", first).replace("{b}", last)
    return rule, lambda user, answer, word: f"{first} {answer} {last}"


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


GREETINGS = {block.answer for block in blocks("smalltalk")[:4]}
MANNERS: list[Manner] = [
    *[upper, upper, lower, lower],
    *[ending, ending, beginning, beginning],
    *[as_json, as_json, greeting_in, greeting_in],
    *[constant, one_word, echo, pirate],
]
