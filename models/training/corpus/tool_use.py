"""Exchanges with function tools: the requests, the calls, and the sentences made of the results."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from corpus import builtin, words
from corpus.dice import Dice
from corpus.functions import (
    Arguments,
    Family,
    Function,
    everyday,
    families,
    family_named,
    spoken,
)
from corpus.made_up import errand, listed, made_up, siblings
from corpus.results import bare, result
from corpus.scene import Scene
from corpus.script import blocks, ways
from corpus.slots import UNIT_CAPITAL, Parameter

BY_WORDS = [
    *["{}: {}", "{}, {}", "{}. {}", "{} with {}", "{} - {}", "(Please /Can you /I need to ){}: {}"],
    *["I want this: {}. {}", "(use/run/call/try) {} with {}", "{1} ({0})", "{1}. {0}, please"],
]
# Before a request; they ask for nothing.
LEADS = [
    *[
        "Hi!",
        "Hello!",
        "Good morning.",
        "Quick question:",
        "Sorry to bother you.",
        "I am in a hurry.",
    ],
    *[
        "One thing:",
        "I have a request:",
        "It is urgent!",
        "I hope that you can help me.",
        "Well then.",
    ],
    *[
        "My phone is dead, so I ask you.",
        "There is something else.",
        "I know that it is late, but:",
    ],
    *["Thank you for that.", "Good.", "Fine, next thing.", "You can do me a favor.", "Listen:"],
]

Call = tuple[Function, Arguments]
MOST_TOOLS = 5
NO_TOOL = "I am a tiny demonstration model and have no tool for that. A larger model can help you."
# Between two requests in one message; the last one is held out.
JOINTS = [
    *[" Also: ", " And then: ", " And: ", " Also, ", " Then ", " After that, ", " And "],
    *[" Next: ", "\n", " and ", ", and ", ", then ", ", and then ", " and also ", "; ", ". "],
    *[" Plus: ", "\n\n", " Once that is done: ", " One more thing: ", ", and afterwards "],
    *[" Oh, and ", " (And then/And please/And also/Then please) ", ", (plus/but also/and next) "],
    *[" (My second wish/Number two/Second): ", " When you are done: ", " In addition, "],
]


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools that a conversation lists: a program's functions, and what the server brings."""

    functions: tuple[Function, ...] = ()
    search: dict[str, Any] | None = None
    code: dict[str, Any] | None = None

    @property
    def able(self) -> frozenset[str]:
        """What it can do of that which is declined without tools."""
        parts = {
            "functions": self.functions,
            "search": self.search,
            "code": self.code,
        }
        able = {name for name, there in parts.items() if there}
        return frozenset({*able, "search"} if self.knows_more else able)

    @property
    def knows_more(self) -> bool:
        """Whether a function may answer what is asked about the world."""
        return any(f.family in ("search_web", "get_definition", "get_news") for f in self.functions)

    @property
    def finds_anything(self) -> bool:
        """Whether no question is out of its reach."""
        return bool(self.search) or any(f.family == "search_web" for f in self.functions)

    def tools(self) -> list[dict[str, Any]]:
        """Where the built-in ones stand among the functions follows from the names."""
        built_in = [tool for tool in (self.search, self.code) if tool]
        tools = [function.tool() for function in self.functions]
        place = sum(len(function.name) for function in self.functions) % (len(tools) + 1)
        return [*tools[:place], *built_in, *tools[place:]]


def toolbox(dice: Dice, most: int = MOST_TOOLS) -> Toolbox:
    """One to five tools; functions that are easily mistaken for each other among them."""
    if dice.chance(0.04):
        return Toolbox(weather_pair(dice))
    count = dice.between(1 if dice.chance(0.5) else min(3, most), most)
    search = builtin.file_search(dice) if dice.chance(0.12) else None
    code = builtin.code_interpreter(dice) if dice.chance(0.12) else None
    count = max(1, count - bool(search) - bool(code))
    return Toolbox(functions(dice, count), search, code)


def functions(dice: Dice, count: int) -> tuple[Function, ...]:
    roll = dice.random.random() if count > 1 else 1.0
    drawn = siblings(dice, dice.between(2, count)) if roll < 0.2 else []
    if 0.2 <= roll < 0.32:
        drawn = relatives(dice, dice.between(2, count))
    while len(drawn) < count:
        drawn.append(any_function(dice))
    return distinct(dice.shuffled(drawn))


def everyday_ones(dice: Dice, count: int) -> tuple[Function, ...]:
    return distinct([disguised(dice, everyday(dice)) for _ in range(count)])


def any_function(dice: Dice) -> Function:
    """Half of them of everyday life; of the others, some are asked for in any words."""
    roll = dice.random.random()
    if roll < 0.48:
        function = everyday(dice)
        return disguised(dice, by_its_words(function) if dice.chance(0.1) else function)
    return errand(dice) if roll < 0.7 else made_up(dice)


def by_its_words(function: Function) -> Function:
    """Asked for in the words of a name or a description of it, with its parameters listed."""
    family = family_named(function.family)
    names = [name.replace("_", " ") for name in family.names]
    heads = [*names, *family.descriptions, *(text.lower() for text in family.descriptions)]
    needed = [parameter for parameter in function.parameters if parameter.required]
    return replace(
        function,
        wording=lambda dice: dice.expanded(dice.pick(BY_WORDS)).format(
            dice.pick(heads), listed(dice, needed)
        ),
    )


def disguised(dice: Dice, function: Function) -> Function:
    """Now and then under a name that says nothing of it, or that is written in another way."""
    roll = dice.random.random()
    if roll < 0.08 and function.description:
        other = dice.invented()
        name = dice.pick(
            [other, f"{other}_{dice.invented()}", f"{dice.word()}_{other}", f"run_{other}"]
        )
        return replace(function, name=name)
    if roll < 0.16:
        first, *others = function.name.split("_")
        return replace(function, name=first + "".join(part.capitalize() for part in others))
    if roll < 0.2:
        return replace(
            function,
            name=dice.pick(["{}_tool", "my_{}", "do_{}", "{}_v2", "api_{}"]).format(function.name),
        )
    return function


def relatives(dice: Dice, count: int) -> list[Function]:
    """Everyday functions whose descriptions share a word."""
    word = dice.pick(sorted(kin()))
    return [family.function(dice) for family in dice.some(kin()[word], count)]


@cache
def kin() -> dict[str, list[Family]]:
    """The everyday functions by the words that the names of several of them have."""
    found: dict[str, list[Family]] = {}
    for family in families():
        for word in sorted(words_of_weight(" ".join(family.names))):
            found.setdefault(word, []).append(family)
    return {word: several for word, several in found.items() if 2 <= len(several) <= 40}


def distinct(functions: list[Function]) -> tuple[Function, ...]:
    """Without those of the name or the family of an earlier one."""
    found: dict[str, Function] = {}
    for function in functions:
        if not any(function.family and function.family == f.family for f in found.values()):
            found.setdefault(function.name, function)
    return tuple(found.values())


def single_tool(dice: Dice) -> Toolbox:
    return Toolbox((any_function(dice),))


def weather_pair(dice: Dice) -> tuple[Function, ...]:
    """Two tools about one place, that a single question can need both of."""
    place = dice.pick(["location", "location", "city"])
    temperature, rain = (
        family_named(name).function(dice, city=place)
        for name in ("get_current_temperature", "get_rain_probability")
    )
    if dice.chance(0.6):
        unit = Parameter("unit", "unit", UNIT_CAPITAL)
        temperature = Function(
            temperature.name,
            temperature.description,
            (*temperature.parameters, unit),
            temperature.wording,
            temperature.fields,
            temperature.family,
        )
    return temperature, rain


def is_weather_pair(functions: tuple[Function, ...]) -> bool:
    return [function.fields for function in functions] == [("temperature",), ("probability",)]


def request(dice: Dice, box: Toolbox) -> tuple[str, list[Call]]:
    """What the user asks for, and the calls that answer it."""
    if is_weather_pair(box.functions) and dice.chance(0.6):
        return both(dice, box.functions)
    function = dice.pick(box.functions)
    text, arguments = function.ask(dice)
    roll = dice.random.random()
    if roll < 0.03:
        text = f"{dice.statement()} {text}"
    elif roll < 0.07:
        text = f"{dice.pick(LEADS)} {text}"
    elif roll < 0.16 and len(arguments) == 1 and ends_with_value(text, arguments):
        return same_again(dice, function, text, arguments)
    elif roll < 0.34 and len(box.functions) > 1:
        return one_after_other(dice, box, function, text, arguments)
    return typed(dice, text, arguments), [(function, arguments)]


def typed(dice: Dice, text: str, arguments: Arguments) -> str:
    """As people type it, but for the values."""
    said = [spoken(value) for value in arguments.values() if spoken(value) in text]
    surface = dice.surface(text)
    return surface if all(value in surface for value in said) else text


def both(dice: Dice, functions: tuple[Function, ...]) -> tuple[str, list[Call]]:
    """One question about a city that needs two functions."""
    city = dice.city()
    calls = []
    for function in functions:
        _, arguments = function.filled(dice, "{city}")
        arguments[function.parameters[0].name] = city
        calls.append((function, arguments))
    return dice.phrasing(ways("weather and rain")).format(city), calls


def follow_up(dice: Dice, last: Call) -> tuple[str, list[Call]]:
    """The same once more, with one value changed that is said alone."""
    function, arguments = last
    parameter = dice.pick([p for p in function.parameters if p.name in arguments])
    value = parameter.slot.value(dice)
    text = dice.phrasing(ways("the same for")).replace("{}", spoken(value))
    text = text.replace("{label}", parameter.label)
    if "{label}" not in text and len(arguments) > 1 and parameter.label not in text:
        text = f"{text.rstrip('?.')} as the {parameter.label}"
    return typed(dice, text, {parameter.name: value}), [
        (function, {**arguments, parameter.name: value})
    ]


def ends_with_value(text: str, arguments: Arguments) -> bool:
    """Whether it ends with its values; one that is a list could not be told from two."""
    ends = text.rstrip("?.")
    return all(
        isinstance(v, str | int | float) and ends.endswith(spoken(v)) for v in arguments.values()
    )


def same_again(
    dice: Dice, function: Function, text: str, arguments: Arguments
) -> tuple[str, list[Call]]:
    """The same function for two values."""
    (name,) = arguments
    parameter = next(p for p in function.parameters if p.name == name)
    other = parameter.slot.value(dice)
    end = text[-1] if text[-1] in "?." else ""
    joint = dice.pick([" and ", " and ", " and also ", " and then "])
    text = f"{text.rstrip('?.')}{joint}{spoken(other)}{end}"
    return text, [(function, arguments), (function, {name: other})]


def one_after_other(
    dice: Dice, box: Toolbox, function: Function, text: str, arguments: Arguments
) -> tuple[str, list[Call]]:
    """Two functions in one message."""
    second = dice.pick([other for other in box.functions if other is not function])
    more, others = second.ask(dice)
    joint = dice.phrasing(JOINTS)
    if joint.startswith((",", " and")):
        named = any(more.startswith(spoken(value)) for value in others.values())
        text, more = text.rstrip("?.!"), more if named else lowered(more)
    elif joint[0] in ";.":
        text = text.rstrip("?.!")
    elif text[-1] not in "?.!" and joint != "\n":
        text += "."
    return text + joint + more, [(function, arguments), (second, others)]


def lowered(text: str) -> str:
    """To be said within a sentence."""
    return text if text.startswith(("I ", "I'")) else text[:1].lower() + text[1:]


def tool_exchange(scene: Scene, box: Toolbox) -> None:
    """Request, calls, results, and the sentence at the end."""
    dice = scene.dice
    text, calls = request(dice, box)
    if scene.last_call and dice.chance(0.12):
        text, calls = follow_up(dice, scene.last_call)
    scene.last_call = calls[0] if len(calls) == 1 and calls[0][1] else None
    scene.user(text)
    scene.call([(function.name, arguments) for function, arguments in calls])
    told = []
    for function, _ in calls:
        is_short = scene.brief and dice.chance(0.8)
        returned, sentence = bare(dice, function) if is_short else result(dice, function)
        scene.result(returned)
        told.append(sentence)
    scene.reply(("\n" if any("\n" in text for text in told) else " ").join(told), "Done.")


def misfit(scene: Scene, box: Toolbox) -> None:
    """A request for what none of the listed functions does."""
    scene.exchange(scene.dice.surface(out_of_place(scene.dice, box)), NO_TOOL, "No.")


def out_of_place(dice: Dice, box: Toolbox) -> str:
    listed_ones = {function.family for function in box.functions}
    if listed_ones == {""} and dice.chance(0.4):
        wanted = ("I cannot do that", "I cannot look that up")
        return dice.pick([b for b in blocks("refusals") if b.answer in wanted]).prompt(dice)
    make = everyday if dice.held_out or dice.chance(0.75) else any_function
    while (other := make(dice)) and (other.family in listed_ones - {""} or akin(other, box)):
        pass
    return other.ask(dice)[0]


def akin(function: Function, box: Toolbox) -> bool:
    """Whether a listed function may do the same: their descriptions share a word of weight."""
    own = weighty(function)
    return any(own & weighty(other) for other in box.functions)


def weighty(function: Function) -> set[str]:
    return words_of_weight(f"{function.name} {function.description}")


def words_of_weight(text: str) -> set[str]:
    said = text.lower().replace("_", " ").replace(".", "")
    return {word for word in said.split() if len(word) > 3} - FRAME_WORDS


FRAME_WORDS = {
    word.strip("{}.").lower()
    for title in ("descriptions", "attribute descriptions", "afterthoughts")
    for pattern in words.DEEDS[title]
    for word in pattern.split()
}
