"""What a user's program returns from a call, and the sentence that tells it."""

from collections.abc import Callable
from typing import Any

from corpus import words
from corpus.dice import Dice, dumps
from corpus.functions import Function

Told = tuple[str, str]

NOTHING = ["", "[]", "null", "{}", "None", "No results."]
VALUES: dict[str, Callable[[Dice], Any]] = {
    "temperature": lambda dice: dice.between(-10, 95),
    "probability": lambda dice: dice.pick([dice.decimal(), f"{dice.between(0, 100)}%"]),
    "humidity": lambda dice: dice.between(10, 99),
    "price": Dice.decimal,
    "result": Dice.number,
    "total": Dice.number,
    "count": Dice.number,
    "rate": Dice.decimal,
    "age": lambda dice: dice.between(18, 90),
    "condition": lambda dice: dice.pick(words.CONDITIONS),
    "status": lambda dice: dice.pick(words.STATUSES),
    "email": Dice.email,
    "phone": Dice.phone,
    "url": Dice.url,
    "time": Dice.time,
    "departure": Dice.time,
}


def result(dice: Dice, function: Function) -> Told:
    kinds, weights = zip(*KINDS, strict=True)
    return dice.random.choices(kinds, weights)[0](dice, function)


def failure(dice: Dice, function: Function) -> Told:
    problem = dice.sentence().rstrip(".!")
    returned = dice.pick([dumps({"error": problem}), f"Error: {problem}"])
    return returned, f"The tool reported an error: {problem}."


def nothing(dice: Dice, function: Function) -> Told:
    return dice.pick(NOTHING), "The tool returned nothing."


def prose(dice: Dice, function: Function) -> Told:
    text = " ".join(dice.sentence() for _ in range(dice.pick([1, 1, 2])))
    return text, f"Here is the answer: {text}"


def bare(dice: Dice, function: Function) -> Told:
    value = value_of(dice, function.fields[0])
    return shown(value), f"The {subject(function)} is {shown(value)}."


def subject(function: Function) -> str:
    """What a bare value is called: a getter's name without its verb, or just the result."""
    verb, _, rest = function.name.partition("_")
    return rest.replace("_", " ") if verb == "get" and rest else "result"


def items(dice: Dice, function: Function) -> Told:
    values = [dice.pick([dice.word, dice.name, dice.code])() for _ in range(dice.between(2, 4))]
    return dumps(values), f"The results are {listed(values)}."


def records(dice: Dice, function: Function) -> Told:
    """A few objects of one kind, told as a numbered list."""
    names = [dice.pick(["id", "name", "title"]), dice.pick([*function.fields, dice.word()])]
    rows = [{name: value_of(dice, name) for name in names} for _ in range(dice.between(2, 3))]
    lines = (
        ", ".join(f"{key.replace('_', ' ')}: {shown(value)}" for key, value in row.items())
        for row in rows
    )
    numbered = "\n".join(f"{place}. {line}" for place, line in enumerate(lines, 1))
    return dumps(rows), f"The results are:\n{numbered}"


def record(dice: Dice, function: Function) -> Told:
    fields = dice.some(function.fields, dice.between(1, 3))
    if dice.chance(0.35):
        fields.append(dice.pick([dice.word(), dice.invented(), f"{dice.word()}_{dice.word()}"]))
    values = {name: value_of(dice, name) for name in fields}
    if dice.chance(0.1):
        values[dice.word()] = dice.chance(0.5)
    if dice.chance(0.1):
        return dumps({dice.word(): values}), facts(values)
    return dumps(values), facts(values)


def facts(values: dict[str, Any]) -> str:
    text = listed([f"the {key.replace('_', ' ')} is {shown(v)}" for key, v in values.items()])
    return f"{text[0].upper()}{text[1:]}."


KINDS: list[tuple[Callable[[Dice, Function], Told], int]] = [
    (failure, 6),
    (nothing, 4),
    (prose, 13),
    (bare, 20),
    (items, 6),
    (records, 5),
    (record, 46),
]


def value_of(dice: Dice, field: str) -> Any:
    return VALUES.get(field, Dice.anything)(dice)


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def listed(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"
