"""Function tools as a user's program lists them, and the requests that call for them.

Everyday ones come from functions.txt and functions_more.txt; made_up.py makes the others up.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from corpus import words
from corpus.dice import Dice
from corpus.slots import FORMAT, LIMIT, SLOTS, UNIT, UNIT_CAPITAL, Parameter

Arguments = dict[str, Any]
TRAINED = ("functions.txt", "functions_more.txt")
HELD_OUT = ("functions_held_out.txt",)
KEY = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Function:
    """A tool as the user's program lists it. `wording` is a request with keys for its values."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    wording: Callable[[Dice], str]
    fields: tuple[str, ...] = ()  # of what it returns
    family: str = ""  # empty for a made-up one
    meaning: tuple[str, str] | None = None  # the deed and the thing of a made-up one
    near: Callable[[Dice], "Function"] | None = None  # another one, of the same deed or thing

    def tool(self) -> dict[str, Any]:
        schema = {
            "type": "object",
            "properties": {p.name: p.slot.schema for p in self.parameters},
            "required": [p.name for p in self.parameters if p.required],
        }
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}

    def ask(self, dice: Dice) -> tuple[str, Arguments]:
        """A request and the arguments that it gives, in the order of the parameters."""
        return self.filled(dice, self.wording(dice))

    def filled(self, dice: Dice, pattern: str) -> tuple[str, Arguments]:
        said = set(KEY.findall(pattern))
        arguments = {}
        for parameter in self.parameters:
            if parameter.key in said:
                arguments[parameter.name] = value = parameter.slot.value(dice)
                pattern = pattern.replace(f"{{{parameter.key}}}", spoken(value))
            elif parameter.required:
                arguments[parameter.name] = parameter.silent_value
        return pattern, arguments


def spoken(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)


@dataclass(frozen=True, slots=True)
class Family:
    """An everyday function under all its names."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    keys: tuple[str, ...]
    fields: tuple[str, ...]
    requests: tuple[str, ...]

    def function(self, dice: Dice, **other_names: str) -> Function:
        """Under a name and with a description drawn from it; `other_names` are of parameters."""
        chosen = {key: other_names.get(key) or dice.pick(SLOTS[key].names) for key in self.keys}
        parameters = [Parameter(chosen[key], key, SLOTS[key]) for key in self.keys]
        return Function(
            dice.pick(self.names),
            described(dice, dice.pick(self.descriptions)),
            unique(parameters),
            lambda later: later.phrasing(self.requests),
            self.fields,
            self.names[0],
        )


@cache
def families(held_out: bool = False) -> tuple[Family, ...]:
    names = HELD_OUT if held_out else TRAINED
    texts = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
    return tuple(_family(p) for text in texts for p in text.split("\n\n") if p.startswith("> "))


def _family(part: str) -> Family:
    names, descriptions, keys, fields, *requests = part.strip().splitlines()
    heads = (tuple(line[2:].split("|")) for line in (names, descriptions, keys, fields))
    return Family(*heads, tuple(requests))


def everyday(dice: Dice, held_out_family: bool = False) -> Function:
    """One of the files, sometimes with one parameter more."""
    function = dice.pick(families(held_out_family)).function(dice)
    return extended(dice, function) if dice.chance(0.25) else function


def family_named(name: str) -> Family:
    return next(family for family in families() if family.names[0] == name)


def unique(parameters: list[Parameter]) -> tuple[Parameter, ...]:
    """Two slots may have drawn the same name; the later one is numbered."""
    seen: set[str] = set()
    fresh = []
    for parameter in parameters:
        name = parameter.name if parameter.name not in seen else f"{parameter.name}_2"
        seen.add(name)
        fresh.append(replace(parameter, name=name))
    return tuple(fresh)


def extended(dice: Dice, function: Function) -> Function:
    """With a further parameter at the end: said in some requests, silent in others."""
    weather = {"temperature", "probability"} & set(function.fields)
    slot = dice.pick([UNIT, UNIT_CAPITAL] if weather else [FORMAT, LIMIT])
    required = "enum" in slot.schema and dice.chance(0.6)
    extra = Parameter(dice.pick(slot.names), "extra", slot, required)
    if any(extra.name == p.name for p in function.parameters):
        return function
    wording = function.wording
    if dice.chance(0.5):
        said = dice.pick(slot.ways).replace("{}", "{extra}")
        said = said if said.startswith(",") else f" {said.strip()}"
        function = replace(function, wording=lambda d: before_the_end(wording(d), said))
    return replace(function, parameters=(*function.parameters, extra))


def before_the_end(pattern: str, said: str) -> str:
    end = pattern[-1] if pattern[-1] in "?." else ""
    return pattern.removesuffix(end) + said + end


def described(dice: Dice, description: str) -> str:
    """The description as programs write them: with a full stop, more words, or not at all."""
    if dice.chance(0.08):
        return ""
    if dice.chance(0.2):
        return f"{description}. {dice.pick(words.DEEDS['afterthoughts'])}"
    return description + dice.pick(["", "", "."])
