"""Exchanges with function tools: the call, what comes back, and the sentence made of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from corpus.dice import Dice, dumps
from corpus.functions import (
    FAMILIES,
    UNIT_CAPITAL,
    Arguments,
    Function,
    Parameter,
    from_family,
    generic,
)
from corpus.scene import Scene

Call = tuple[Function, Arguments]

CONDITIONS = ["sunny", "cloudy", "rainy", "snowy", "foggy", "clear", "windy"]
STATUSES = [
    "ok",
    "sent",
    "shipped",
    "done",
    "created",
    "pending",
    "delivered",
    "saved",
    "open",
    "closed",
]
VALUES: dict[str, Callable[[Dice], Any]] = {
    "temperature": lambda dice: dice.between(-10, 95),
    "probability": lambda dice: dice.pick([dice.decimal(), f"{dice.between(0, 100)}%"]),
    "humidity": lambda dice: dice.between(10, 99),
    "price": Dice.decimal,
    "result": Dice.number,
    "total": Dice.number,
    "rate": Dice.decimal,
    "age": lambda dice: dice.between(18, 90),
    "condition": lambda dice: dice.pick(CONDITIONS),
    "status": lambda dice: dice.pick(STATUSES),
    "email": Dice.email,
    "url": Dice.url,
    "time": Dice.time,
    "departure": Dice.time,
}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The functions that a conversation lists."""

    functions: tuple[Function, ...]

    @property
    def everyday(self) -> bool:
        return any(function.family for function in self.functions)

    def tools(self) -> list[dict[str, Any]]:
        return [function.tool() for function in self.functions]


def toolbox(dice: Dice) -> Toolbox:
    if dice.chance(0.05):
        return Toolbox(weather_pair(dice))
    count = dice.pick([1, 1, 2, 2, 3, 3, 4])
    found: dict[str, Function] = {}
    for _ in range(count):
        function = from_family(dice) if dice.chance(0.45) else generic(dice)
        if not any(function.family and function.family == f.family for f in found.values()):
            found.setdefault(function.name, function)
    return Toolbox(tuple(found.values()))


def single_tool(dice: Dice) -> Toolbox:
    return Toolbox((generic(dice) if dice.chance(0.7) else from_family(dice),))


def weather_pair(dice: Dice) -> tuple[Function, ...]:
    """Two tools about one place, that a single question can need both of."""
    place = dice.pick(["location", "location", "city"])
    temperature, rain = (one_of_family(dice, family, place) for family in FAMILIES[1:3])
    if dice.chance(0.6):
        unit = Parameter("unit", UNIT_CAPITAL)
        temperature = replace(temperature, parameters=(*temperature.parameters, unit))
    return temperature, rain


def one_of_family(dice: Dice, family: Any, place: str) -> Function:
    names, descriptions, slots, asks, fields = family
    name = names.split("|")[0] if dice.chance(0.6) else dice.pick(names.split("|"))
    return Function(
        name,
        dice.pick(descriptions.split("|")),
        (Parameter(place, slots[0]),),
        tuple(asks.split("|")),
        tuple(fields.split("|")),
        names,
    )


BOTH_ASKS = [
    "What's the weather in {} today and the likelihood it'll rain?",
    "What's the weather in {} today and how likely is rain?",
    "How warm is it in {} and will it rain?",
    "Temperature and chance of rain in {}?",
    "What is the temperature in {} and the chance of rain?",
    "Tell me the temperature and the rain probability in {}.",
    "(What is/What's/Tell me) the (temperature/current temperature) in {} and (will it rain/is rain"
    " likely/the chance of rain)?",
    "How (warm/hot/cold) is it in {}( today/ now/), and (will it rain/is rain likely)?",
    "How (warm/hot/cold) is it in {}( today/ now/) and is there a chance of rain?",
    "(Will it rain/Is it going to rain) in {}( today/), and how (warm/hot/cold) is it?",
    "(Weather/Temperature) and (rain/rain probability/chance of rain) (in/for) {}( please/)",
    "I (need/want) the temperature and the (chance of rain/rain probability) (in/for) {}.",
    "(How is/What is) the weather in {}( today/), and (will it rain/do I need an umbrella)?",
    "How hot is it in {} today, and is it going to rain?",
]


def is_weather_pair(functions: tuple[Function, ...]) -> bool:
    fields = [function.fields for function in functions]
    return fields == [("temperature",), ("probability",)]


def request(dice: Dice, box: Toolbox) -> tuple[str, list[Call]]:
    """What the user asks for, and the calls that answer it."""
    if is_weather_pair(box.functions) and dice.chance(0.6):
        return both(dice, box.functions)
    function = dice.pick(box.functions)
    text, arguments = function.ask(dice)
    if dice.chance(0.05):
        text = f"{dice.sentence()} {text}"
    if dice.chance(0.07) and len(arguments) == 1:
        return same_again(dice, function, text, arguments)
    if dice.chance(0.08) and len(box.functions) > 1:
        return one_after_other(dice, box, function, text, arguments)
    return dice.surface(text) if "{" not in text else text, [(function, arguments)]


def both(dice: Dice, functions: tuple[Function, ...]) -> tuple[str, list[Call]]:
    city = dice.city()
    calls = []
    for function in functions:
        _, arguments = replace(function, asks=("{0}",)).ask(dice)
        arguments[function.parameters[0].name] = city
        calls.append((function, arguments))
    return dice.phrasing(BOTH_ASKS).format(city), calls


def same_again(
    dice: Dice, function: Function, text: str, arguments: Arguments
) -> tuple[str, list[Call]]:
    """The same function for two values."""
    (name,) = arguments
    parameter = next(p for p in function.parameters if p.name == name)
    other = parameter.slot.value(dice)
    end = text[-1] if text[-1] in "?." else ""
    text = f"{text.rstrip('?.')} and {other}{end}"
    return text, [(function, arguments), (function, {name: other})]


def one_after_other(
    dice: Dice, box: Toolbox, function: Function, text: str, arguments: Arguments
) -> tuple[str, list[Call]]:
    """Two functions in one message."""
    second = dice.pick([other for other in box.functions if other is not function])
    more, others = second.ask(dice)
    joint = dice.pick([" Also: ", " And then: ", "\n", " And: "])
    end = "" if text[-1] in "?." else "."
    return text + end + joint + more, [(function, arguments), (second, others)]


def result(dice: Dice, function: Function) -> tuple[str, str]:
    """What the user's program returns, and the sentence that tells it."""
    roll = dice.random.random()
    if roll < 0.06:
        problem = dice.sentence().rstrip(".!")
        return dumps({"error": problem}), f"The tool reported an error: {problem}."
    if roll < 0.2:
        text = " ".join(dice.sentence() for _ in range(dice.pick([1, 1, 2])))
        return text, f"Here is the answer: {text}"
    if roll < 0.4:
        value = bare_value(dice, function)
        return str(value), f"The {subject(function)} is {value}."
    if roll < 0.45:
        items = [dice.pick([dice.word, dice.name, dice.code])() for _ in range(dice.between(2, 4))]
        return dumps(items), f"The results are {listed(items)}."
    return record(dice, function)


def bare_value(dice: Dice, function: Function) -> Any:
    maker = VALUES.get(function.fields[0], Dice.anything)
    return maker(dice)


def subject(function: Function) -> str:
    """What a bare value is called: a getter's name without its verb, or just the result."""
    verb, _, rest = function.name.partition("_")
    return rest.replace("_", " ") if verb == "get" and rest else "result"


def record(dice: Dice, function: Function) -> tuple[str, str]:
    fields = dice.some(function.fields, dice.between(1, 3))
    if dice.chance(0.25):
        fields.append(dice.pick([dice.word(), dice.invented(), f"{dice.word()}_{dice.word()}"]))
    values = {name: VALUES.get(name, Dice.anything)(dice) for name in fields}
    if dice.chance(0.1):
        values[dice.word()] = dice.chance(0.5)
    facts = [f"the {name.replace('_', ' ')} is {shown(value)}" for name, value in values.items()]
    text = listed(facts)
    return dumps(values), f"{text[0].upper()}{text[1:]}."


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def tool_exchange(scene: Scene, box: Toolbox) -> None:
    """Request, calls, results, and the sentence at the end."""
    dice = scene.dice
    text, calls = request(dice, box)
    scene.user(text)
    scene.call([(function.name, arguments) for function, arguments in calls])
    told = []
    for function, _ in calls:
        returned, sentence = result(dice, function)
        scene.result(returned)
        told.append(sentence)
    scene.reply(" ".join(told), "Done.")
