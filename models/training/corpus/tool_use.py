"""Exchanges with function tools: the requests, the calls, and the sentences made of the results."""

from collections import Counter
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
    *["Hey there!", "Good evening!", "Hi, me again.", "Excuse me.", "One moment.", "Let me think."],
    *["I have a question:", "A small thing:", "Something else:", "OK, next.", "Right.", "Great!"],
    *["I am new here.", "I am on the road.", "I am busy, so:", "My boss is waiting.", "Help!"],
    *["I hope you are well.", "Sorry, one more:", "It is me.", "As always:", "Let us go on."],
    *["I was told that you can do this:", "I tried it myself and failed.", "Thanks so far."],
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
    *[" (My second wish/Number two/Second): ", " When you are done: "],
    *[" and ", ", and ", " and then ", " and also ", ". ", "\n", " Also, ", " Then "],
    *[", (and after that/after that/then also/and please also/and besides/as well as that) "],
    *[" and (please/afterwards/after that/besides/next/finally/at the same time/secondly) "],
    *["; (also/then/and/and then/after that/next/please also/and also) ", " - and ", " & "],
    *[" (Afterwards/Next/Besides/Secondly/Second/Then/Finally/Lastly/Moreover/Further), "],
    *[" (Besides that/On top of that/Apart from that/At the same time/While you do that), "],
    *[" (When you have done that/When that is done/Once you have that/If that works), "],
    *[" (As soon as you are done/When you are finished/After this/Following that), "],
    *[" (And/And secondly/And next/And finally/And at the same time/And after that), "],
    *[" (And one more/One more/Another one/Another thing/A second thing/And another thing): "],
    *[" (Something else/And something else/The next one/And the next one/The other thing): "],
    *[" (Then/Afterwards/Later/Besides/Moreover/Finally/The same goes for this): "],
    *[" (I also have this/And I have another one/I have one more/There is more/Not only that): "],
    *[" (I need this, too/This, too/And this/And now this/Do this, too/And do this): "],
    *[" (By the way/While we are at it/While you are at it/Before I forget), "],
    *["\n(And/Also/Then/Next/Second/After that): ", "\n\n(And/Also/Then/Next): ", "\n- "],
    *[" + ", " / ", " | ", "...and ", "! And ", " In addition, "],
]
# Around two requests in one message.
FRAMES = [
    "(First/First of all/To begin with/First please), {0}(, then/, and then/; then/. Then/) {1}",
    "(First/First of all/Firstly/To start with): {0} (Then/Second/Secondly/After that/Next): {1}",
    "First {0}(, then/ and then/, and after that/, after that/, and afterwards/, next/; then) {1}",
    "(Now/Today/This time/Please) first {0}(, then/ and then/, after that) {1}",
    "1. {0}\n2. {1}",
    "1) {0}\n2) {1}",
    "1. {0} 2. {1}",
    "- {0}\n- {1}",
    "* {0}\n* {1}",
    "a) {0}\nb) {1}",
    "(Task/Question/Request/Step/Number/Point) 1: {0}\n(Task/Question/Step/Number/Point) 2: {1}",
    "(One/The first/Number one): {0} (Two/The second/The other/Number two): {1}",
    "(Two things/Two requests/Two wishes/Two tasks/I need two things/I have two requests): {0} {1}",
    "(Please do both/Do both of these/I need both/Do two things for me/Both, please): {0} {1}",
    "(Two things/I want two things/Here are two tasks/My list/To do): {0}(;/, and/ and) {1}",
    "(Two things/I want two things/Here are two tasks/My list/To do):\n- {0}\n- {1}",
    "(Two things/I want two things/Here are two tasks/My list/To do):\n1. {0}\n2. {1}",
    "(Two things/I want two things/Here are two tasks/My list/To do):\n{0}\n{1}",
    "(Can/Could) you do two things for me? {0} {1}",
    "(I have two questions/There are two things/Two more things/It is two things today). {0} {1}",
    "{0} {1} (Both, please/I need both/Do both/That is all/Those are the two/Thanks for both).",
    "{0}\n{1}\n(Thanks/Thank you/Both, please/That is all)!",
    "(Hi/Hello/Hey)! {0}(, and/ and/; and/ And/ Also,) {1}",
    "(Do/See to) this: {0}(, and/ and/; and) this: {1}",
    "Not only this: {0} But this, too: {1}",
    "(On the one hand/For one thing), {0} (On the other hand/For another), {1}",
    "{0} (That is one/That was the first/This first). {1}",
    "{0} (And that is not all/But there is more/I am not done yet). {1}",
]
# What two requests may begin with; the second one can be said without it.
HEADS = [
    *["What is the ", "What's the ", "Tell me the ", "Show me the ", "Give me the ", "Tell me "],
    *["Show me ", "Give me ", "Can you ", "Could you please ", "Could you ", "Would you "],
    *["Will you ", "Please ", "I need to ", "I need ", "I want to ", "I want ", "I'd like to "],
    *["I would like to ", "I would like ", "I'd like ", "We need to ", "We have to ", "Let's "],
    *["I have to ", "Find ", "Get ", "Look up ", "Book ", "Send ", "Add ", "Set ", "Make "],
    *["Check ", "Create ", "Find out ", "Do you know ", "I need the ", "Is there "],
]
# The same function for another value, in the same sentence or in one of its own.
AGAIN = [
    *[" and ", " and ", " and also ", " and then ", ", and also ", " as well as ", " plus "],
    *[", and then ", " & ", ", plus ", " and afterwards ", ", then ", " and after that "],
]
ONCE_MORE = [
    "(And/And then/And also/Also/Then/And please also/Now also/Plus) {}",
    "(And what about/What about/And how about/How about) {}?",
    "(The same for/And the same for/The same with/Same for/And do the same for) {}",
    "(And /){}(, too/ as well/ after that/ afterwards/ next)",
    "(And/And then/Also/Then) (for/with) {}",
    "(The second one is/The other one is/And another one/One more): {}",
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
    if dice.chance(0.05):
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
    return {word: several for word, several in found.items() if 2 <= len(several) <= 60}


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
    elif roll < 0.42 and len(box.functions) > 1:
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
    if not dice.held_out and dice.chance(0.3):
        more = dice.expanded(dice.pick(ONCE_MORE)).replace("{}", spoken(other))
        ends = more if more.endswith("?") else more + (end or dice.pick(["", "."]))
        text = f"{text.rstrip('?.')}{end or '.'} {ends[:1].upper()}{ends[1:]}"
    else:
        joint = dice.pick(AGAIN[:4] if dice.held_out else AGAIN)
        text = f"{text.rstrip('?.')}{joint}{spoken(other)}{end}"
    return text, [(function, arguments), (function, {name: other})]


def one_after_other(
    dice: Dice, box: Toolbox, function: Function, text: str, arguments: Arguments
) -> tuple[str, list[Call]]:
    """Two functions in one message, or one of them twice."""
    shares = not dice.held_out and dice.chance(0.2)
    if shares and (found := sharing_a_head(dice, box, function, text)):
        said, second, others = found
        return said, [(function, arguments), (second, others)]
    second = dice.pick([other for other in box.functions if other is not function])
    if not dice.held_out and dice.chance(0.08):
        second = function
    more, others = second.ask(dice)
    frame = f"{{0}}{dice.phrasing(JOINTS)}{{1}}"
    if not dice.held_out and dice.chance(0.3):
        frame = dice.expanded(dice.pick(FRAMES))
    first, later = Said.of(text, arguments), Said.of(more, others)
    if not dice.held_out and not later.is_named and dice.chance(0.15):
        later = Said(without_courtesy(more))
    return woven(dice, frame, first, later), [(function, arguments), (second, others)]


def sharing_a_head(
    dice: Dice, box: Toolbox, function: Function, text: str
) -> tuple[str, Function, Arguments] | None:
    """Two requests that begin alike, the second without its beginning."""
    head = next((head for head in HEADS if text.startswith(head)), None)
    if head is None:
        return None
    for second in dice.shuffled([other for other in box.functions if other is not function]):
        for _ in range(4):
            more, others = second.ask(dice)
            if more.startswith(head) and not more.startswith((f"{head}mind", f"{head}do ")):
                joint = dice.pick([" and ", " and ", " and also ", ", and ", " and then ", ", "])
                end = dice.pick([more[-1], ""]) if more[-1] in "?." else ""
                rest = more[len(head) :].rstrip("?.")
                return f"{text.rstrip('?.')}{joint}{rest}{end}", second, others
    return None


def without_courtesy(text: str) -> str:
    """A request as an order: "Can you open it?" as "Open it"."""
    asks = ("Can you please ", "Could you please ", "Can you ", "Could you ", "Would you ")
    for head in (*asks, "Please ", "I want to ", "I need to ", "I would like to "):
        if text.startswith(head) and len(text) > len(head):
            rest = text.removeprefix(head)
            return rest[:1].upper() + (rest[1:].rstrip("?") if head in asks else rest[1:])
    return text


@dataclass(frozen=True, slots=True)
class Said:
    """A request, and whether it begins with a value, whose letters stay as they are."""

    text: str
    is_named: bool = False

    @classmethod
    def of(cls, text: str, arguments: Arguments) -> "Said":
        return cls(text, any(text.startswith(spoken(value)) for value in arguments.values()))

    def lowered(self) -> str:
        """To be said within a sentence."""
        return self.text if self.is_named else lowered(self.text)


def woven(dice: Dice, frame: str, first: Said, second: Said) -> str:
    """Two requests in the places of a frame, each with the letters and the stops that fit there."""
    text, more = first.text, second.text
    head, _, rest = frame.partition("{0}")
    between, _, tail = rest.partition("{1}")
    if head.endswith(", ") or head[-2:-1].isalpha():
        text = first.lowered()
    within = between.startswith((",", " and", " & ", ";", " - ", "...", "!", " +", " /", " |"))
    if within or between == ". ":
        text = text.rstrip("?.!")
    elif text[-1] not in "?.!" and (between.strip() or between == " "):
        text += "."
    in_a_sentence = between.startswith((",", " and", " & "))
    if not in_a_sentence and not dice.held_out and between.endswith(("and ", ", ", "then ")):
        in_a_sentence = dice.chance(0.6)
    if in_a_sentence:
        more = second.lowered()
    if tail.startswith(" ") and more[-1] not in "?.!":
        more += "."
    return head + text + between + more + tail


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
    dice = scene.dice
    text = out_of_place(dice, box)
    roll = dice.random.random()
    if not dice.held_out and roll < 0.1:  # as before what can be done
        text = f"{dice.pick(LEADS) if roll < 0.06 else dice.statement()} {text}"
    scene.exchange(dice.surface(text), NO_TOOL, "No.")


def out_of_place(dice: Dice, box: Toolbox) -> str:
    listed_ones = {function.family for function in box.functions}
    if listed_ones == {""} and dice.chance(0.4):
        wanted = ("I cannot do that", "I cannot look that up")
        return dice.pick([b for b in blocks("refusals") if b.answer in wanted]).prompt(dice)
    if not dice.held_out and dice.chance(0.3) and (near := near_miss(dice, box)):
        return near.ask(dice)[0]
    make = everyday if dice.held_out or dice.chance(0.75) else any_function
    while (other := make(dice)) and (other.family in listed_ones - {""} or akin(other, box)):
        pass
    return other.ask(dice)[0]


def near_miss(dice: Dice, box: Toolbox) -> Function | None:
    """A function that shares the deed or the thing alone with a listed one."""
    function = dice.pick(box.functions)
    if function.near:
        other = function.near(dice)
        return None if any(other.meaning == each.meaning for each in box.functions) else other
    if function.family and (others := doing_alike(function.family)):
        other = dice.pick(others).function(dice)
        return None if any(thing_words(other) & weighty(each) for each in box.functions) else other
    return None


@cache
def doing_alike(family: str) -> list[Family]:
    """Everyday functions that begin with the same deed."""
    own = deeds_of(family_named(family))
    return [other for other in families() if other.names[0] != family and deeds_of(other) & own]


def deeds_of(family: Family) -> set[str]:
    return firsts(family) & all_deeds()


def firsts(family: Family) -> set[str]:
    """What its names begin with, which mostly is what it does."""
    return {name.split("_")[0] for name in family.names if "_" in name} - {"get"}


@cache
def all_deeds() -> frozenset[str]:
    """What the names of several families begin with."""
    counts = Counter(first for family in families() for first in sorted(firsts(family)))
    return frozenset(first for first, count in counts.items() if count > 3)


def thing_words(function: Function) -> set[str]:
    """The words of weight of an everyday function, but for its deeds."""
    family = family_named(function.family)
    said = words_of_weight(" ".join([*family.names, *family.descriptions]))
    return said - {deed + end for deed in all_deeds() for end in ("", "s", "es")}


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
