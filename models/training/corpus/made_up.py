"""Functions that nobody has seen, put together from a deed, a thing and parameters.

The name, the description and the request each take a word of their own for the deed and for the
thing, or all the same one, which may be invented: so a function is found by what its list says.
"""

from dataclasses import dataclass, replace

from corpus import script, words
from corpus.dice import Dice
from corpus.functions import Function, described, unique
from corpus.slots import (
    ANYTHING,
    EVERY_WAY,
    IDENTITY,
    NAMED,
    ROLES,
    SLOTS,
    Parameter,
    Slot,
    made_up_choice,
)


@dataclass(frozen=True, slots=True)
class Naming:
    """One thing or deed in the words of the name, of the description and of requests."""

    name: str
    description: str
    request: str
    group: str  # the first word of its group


def naming(dice: Dice, title: str, invented: float) -> Naming:
    """Words of one group, in any order; or one that nobody knows."""
    if dice.chance(invented):
        return new_naming(dice)
    return named(dice, dice.pick(words.groups(title, dice.held_out)))


def named(dice: Dice, words_for_it: list[str]) -> Naming:
    group = dice.shuffled(words_for_it)
    return Naming(group[0], group[1 % len(group)], dice.pick(group), words_for_it[0])


def new_naming(dice: Dice) -> Naming:
    """A word that no list has for a deed or a thing; requests may say a relative of it."""
    if dice.held_out or dice.chance(0.65):
        word = new_word(dice)
        return Naming(word, word, word, word)
    stem, suffixes = coined_stem(dice), dice.some(words.DEEDS["suffixes"], 2)
    word, relative = (stem + suffix for suffix in suffixes)
    return Naming(word, word, relative if dice.chance(0.25) else word, word)


def new_word(dice: Dice) -> str:
    return dice.invented() if dice.chance(0.7) else dice.word()


def coined_stem(dice: Dice) -> str:
    """A word is built as English words are, so that it has their tokens."""
    first = dice.pick(words.DEEDS["prefixes"]) if dice.chance(0.5) else ""
    return first + dice.pick(words.DEEDS["roots"])


def made_up(dice: Dice, deed: Naming | None = None, thing: Naming | None = None) -> Function:
    """A function for a deed, or one that looks something up."""
    if deed is None and dice.chance(0.3):
        return inquiry(dice, thing)
    deed = deed or naming(dice, "verbs", invented=0.12)
    thing = thing or naming(dice, "nouns", invented=0.4)
    about = [IDENTITY if dice.chance(0.8) else NAMED] if dice.chance(0.55) else []
    parameters = drawn(dice, about, at_least=0 if about or dice.chance(0.04) else 1)
    described_as = {
        "verb": deed.description,
        "Verb": deed.description.capitalize(),
        "Verbs": third_person(deed.description).capitalize(),
        "a": a_or_an(thing.description),
        "noun": thing.description,
        "nouns": plural(thing.description),
    }
    description = dice.pick(words.DEEDS["descriptions"]).format(**described_as)
    return Function(
        deed_name(dice, deed.name, thing.name),
        described(dice, description),
        parameters,
        lambda later: deed_wording(later, deed.request, thing.request, parameters),
        ("status", thing.name.replace(" ", "_")),
        meaning=(deed.group, thing.group),
        near=lambda later: nearly(later, deed, thing),
    )


def nearly(dice: Dice, deed: Naming, thing: Naming) -> Function:
    """Another deed done to the same thing, or the same deed to another thing."""
    if dice.chance(0.45):
        return made_up(dice, other_deed(dice, deed), thing)
    while (other := naming(dice, "nouns", invented=0.4)).group == thing.group:
        pass
    return made_up(dice, deed, other)


def other_deed(dice: Dice, deed: Naming) -> Naming:
    """The contrary, where there is one, or one that can be mistaken for no other."""
    pairs = [pair.split("/") for pair in words.DEEDS["contrary verbs"]]
    contrary = [word for pair in pairs if deed.group in pair for word in pair if word != deed.group]
    far = [word for word in words.DEEDS["unlike verbs"] if word != deed.group]
    wanted = dice.pick(contrary) if contrary and dice.chance(0.6) else dice.pick(far)
    groups = words.groups("verbs", held_out=False)
    return named(dice, next(group for group in groups if group[0] == wanted))


def inquiry(dice: Dice, thing: Naming | None = None) -> Function:
    """A function that tells an attribute of a thing."""
    attribute = naming(dice, "attributes", invented=0.35)
    thing = thing or naming(dice, "nouns", invented=0.4)
    about = IDENTITY if dice.chance(0.5) else NAMED
    parameters = drawn(dice, [about], at_least=0, at_most=1)
    described_as = {
        "noun": attribute.description,
        "Noun": attribute.description.capitalize(),
        "a": a_or_an(thing.description),
        "thing": thing.description,
        "nouns of things": plural(thing.description),
    }
    description = dice.pick(words.DEEDS["attribute descriptions"]).format(**described_as)
    return Function(
        inquiry_name(dice, attribute.name, thing.name),
        described(dice, description),
        parameters,
        lambda later: inquiry_wording(later, attribute.request, thing.request, parameters),
        (attribute.name.replace(" ", "_"),),
    )


def drawn(dice: Dice, about: list[Slot], at_least: int, at_most: int = 3) -> tuple[Parameter, ...]:
    """Parameters, the first of them what the function is about, if it is about one thing."""
    more = min(at_most, max(at_least, dice.pick([0, 0, 1, 1, 2, 3])))
    slots = [*about, *dice.some(ROLES, more)]
    if dice.chance(0.15):
        slots.append(made_up_choice(dice))
    parameters = [
        Parameter(parameter_name(dice, slot), f"p{place}", slot) for place, slot in enumerate(slots)
    ]
    for place, parameter in enumerate(parameters[1:], 1):
        if dice.chance(0.2):
            parameters[place] = Parameter(parameter.name, parameter.key, parameter.slot, False)
    if dice.chance(0.2):
        name = f"{dice.word()}_{dice.invented()}" if dice.chance(0.3) else dice.invented()
        parameters.append(Parameter(name, "any", ANYTHING))
    return unique(dice.shuffled(parameters) if dice.chance(0.25) else parameters)


def parameter_name(dice: Dice, slot: Slot) -> str:
    name = dice.pick(slot.names)
    return f"{dice.word()}_{name}" if dice.chance(0.15) else name


def deed_name(dice: Dice, verb: str, noun: str) -> str:
    verb, noun = verb.replace(" ", "_"), noun.replace(" ", "_")
    camel = verb + "".join(part.capitalize() for part in noun.split("_"))
    forms = [f"{verb}_{noun}"] * 5 + [camel, f"{noun}_{verb}", f"{verb}_{noun}_{dice.word()}"]
    return dice.pick([*forms, f"{dice.invented()}_{verb}_{noun}", f"{verb}-{noun}"])


def inquiry_name(dice: Dice, attribute: str, thing: str) -> str:
    attribute, thing = attribute.replace(" ", "_"), thing.replace(" ", "_")
    forms = [f"get_{attribute}", f"get_{attribute}", f"get_{thing}_{attribute}", attribute]
    return dice.pick(
        [*forms, f"{thing}_{attribute}", f"lookup_{attribute}", f"{attribute}_of_{thing}"]
    )


def deed_wording(dice: Dice, verb: str, noun: str, parameters: tuple[Parameter, ...]) -> str:
    """A request in natural words, or with the parameters as a list."""
    said = mentioned(dice, parameters)
    thing = f"{determiner(dice, noun)} {noun}"
    if said and dice.chance(0.22):
        core = f"{verb} {dice.pick([thing, noun])}"
        return f"{core[:1].upper()}{core[1:]}" + dice.pick([": ", ", ", " - "]) + listed(dice, said)
    front, rest = (said[:1], said[1:]) if said and said[0].slot in (IDENTITY, NAMED) else ([], said)
    clauses = [clause(dice, parameter) for parameter in front]
    clauses += clauses_of(dice, rest)
    return opened(dice, " ".join([verb, thing, *clauses])).replace(" :", ":")


def inquiry_wording(
    dice: Dice, attribute: str, thing: str, parameters: tuple[Parameter, ...]
) -> str:
    said = mentioned(dice, parameters)
    front, rest = said[:1], said[1:]
    of = dice.pick([f"of the {thing} ", f"of {thing} ", "of ", "for ", f"for the {thing} "])
    about = "".join(of + f"{{{parameter.key}}}" for parameter in front)
    core = " ".join([attribute, about, *clauses_of(dice, rest)])
    return dice.phrasing(words.DEEDS["inquiries"]).replace("{}", core)


def mentioned(dice: Dice, parameters: tuple[Parameter, ...]) -> list[Parameter]:
    """All that must be said, and some of what may be."""
    may_be_silent = (p.required or dice.chance(0.5) for p in parameters)
    return [p for p, is_said in zip(parameters, may_be_silent, strict=True) if is_said]


def clauses_of(dice: Dice, said: list[Parameter]) -> list[str]:
    """In any order; but of values whose end nothing shows, one is last and others are quoted."""
    loose = [parameter for parameter in said if parameter.slot.is_loose]
    firm = [parameter for parameter in said if not parameter.slot.is_loose]
    clauses = dice.shuffled(
        [clause(dice, parameter) for parameter in firm]
        + [clause(dice, parameter, quoted=True) for parameter in loose[1:]]
    )
    return clauses + [clause(dice, parameter, at_end=True) for parameter in loose[:1]]


def clause(dice: Dice, parameter: Parameter, quoted: bool = False, at_end: bool = False) -> str:
    """The words around a value that tell what it is."""
    ways = parameter.slot.ways or EVERY_WAY
    if dice.chance(0.25):
        ways = EVERY_WAY
    if not at_end:
        ways = [way for way in ways if not way.startswith(":")]
    if at_end:
        ways = [way for way in ways if way.endswith("{}")]
    way = dice.pick(ways).replace("{label}", parameter.label)
    value = f"{{{parameter.key}}}"
    is_text = parameter.slot.schema == {"type": "string"}
    if quoted or (is_text and way != "{}" and dice.chance(0.1)):
        value = f'"{value}"'
    return way.replace("{}", value)


def listed(dice: Dice, said: list[Parameter]) -> str:
    pairs = [(parameter.label, f"{{{parameter.key}}}") for parameter in said]
    form = dice.pick(["{}: {}", "{}: {}", "{} {}", "{} = {}", "{} is {}"])
    return dice.pick([", ", ", ", " and ", "; ", "\n"]).join(form.format(*pair) for pair in pairs)


def opened(dice: Dice, core: str) -> str:
    pattern = dice.phrasing(words.DEEDS["openers"])
    text = pattern.replace("{}", core)
    return text[:1].upper() + text[1:] if dice.chance(0.8) else text


def determiner(dice: Dice, noun: str) -> str:
    return dice.pick(["the", "the", "the", a_or_an(noun), "my", "this", "our"])


def a_or_an(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def third_person(verb: str) -> str:
    head, _, tail = verb.partition(" ")
    if head.endswith(("s", "sh", "ch", "x", "z", "o")):
        head += "es"
    elif head.endswith("y") and head[-2:-1] not in "aeiou":
        head = f"{head[:-1]}ies"
    else:
        head += "s"
    return f"{head} {tail}" if tail else head


def plural(noun: str) -> str:
    return noun if noun.endswith("s") else third_person(noun) if " " not in noun else f"{noun}s"


def siblings(dice: Dice, count: int) -> list[Function]:
    """Functions that are told apart by their deed alone, or by their thing alone."""
    if dice.chance(0.5):
        thing = naming(dice, "nouns", invented=0.4)
        return [made_up(dice, naming(dice, "verbs", 0.12), thing) for _ in range(count)]
    deed = naming(dice, "verbs", invented=0.12)
    return [made_up(dice, deed, naming(dice, "nouns", 0.4)) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Phrase:
    """How a description and requests speak of what an errand takes."""

    key: str
    descriptions: tuple[str, ...]
    clauses: tuple[str, ...]


def _phrase(line: str) -> Phrase:
    key, descriptions, clauses = line.split(" = ")
    return Phrase(key, tuple(descriptions.split("|")), tuple(clauses.split("|")))


PHRASES = [_phrase(line) for line in script.sections("deeds")["errand phrases"]]


def errand(dice: Dice) -> Function:
    """A function asked for as people do: by a thing that its list speaks of, in any sentence."""
    thing = matter(dice)
    verb = dice.pick(words.DEEDS["errand verbs"])
    said_verb = verb if dice.chance(0.7) else dice.pick(words.DEEDS["errand verbs"])
    number = Parameter(
        f"{dice.pick([thing.name.split()[-1], thing.name])}_{dice.pick(IDS)}", "id", IDENTITY
    )
    about = [replace(number, name=number.name.replace(" ", "_"))] if dice.chance(0.3) else []
    phrases = dice.some(PHRASES, dice.pick([0, 1, 1] if about else [1, 1, 1, 2, 2, 3]))
    others = [Parameter(dice.pick(SLOTS[p.key].names), p.key, SLOTS[p.key]) for p in phrases]
    told = " ".join(dice.pick(phrase.descriptions) for phrase in phrases)
    description = dice.pick(words.DEEDS["errand descriptions"]).format(
        Verb=verb.capitalize(),
        verb=verb,
        Verbs=third_person(verb).capitalize(),
        a=a_or_an(thing.description),
        noun=thing.description,
        nouns=plural(thing.description),
        Noun=thing.description.capitalize(),
        Nouns=plural(thing.description).capitalize(),
        phrases=told,
    )
    return Function(
        errand_name(dice, verb, thing.name),
        described(dice, description.strip()),
        unique([*about, *others]),
        lambda later: errand_wording(later, said_verb, thing.request, bool(about), phrases),
        ("status", thing.name.replace(" ", "_")),
    )


IDS = ["id", "number", "code", "no", "key", "name"]


def matter(dice: Dice) -> Naming:
    """What an errand is about: a word, or two of which a name or a request may leave one out."""
    first = naming(dice, "nouns", invented=0.75)
    if dice.chance(0.5):
        return first
    other = new_word(dice)
    both = f"{other} {first.description}"
    name = dice.pick([f"{other} {first.name}", f"{other} {first.name}", first.name])
    request = dice.pick([f"{other} {first.request}", f"{other} {first.request}", first.request])
    return Naming(name, both, request, both)


def errand_name(dice: Dice, verb: str, thing: str) -> str:
    verb, thing = verb.replace(" ", "_"), thing.replace(" ", "_")
    other = dice.pick(words.DEEDS["errand verbs"]).replace(" ", "_")
    return dice.pick([f"{verb}_{thing}"] * 4 + [thing, f"{other}_{thing}", f"{thing}_{verb}"])


def errand_wording(
    dice: Dice, verb: str, thing: str, is_numbered: bool, phrases: list[Phrase]
) -> str:
    clauses = dice.shuffled([(phrase, dice.pick(phrase.clauses)) for phrase in phrases])
    clauses.sort(key=lambda pair: SLOTS[pair[0].key].is_loose)
    said = " ".join(way.replace("{}", f"{{{phrase.key}}}") for phrase, way in clauses)
    frame = dice.phrasing(words.DEEDS["errands"])
    while frame.startswith("{clauses}") and (is_numbered or not clauses):
        frame = dice.phrasing(words.DEEDS["errands"])
    named = thing
    if is_numbered:
        named = dice.pick(words.DEEDS["errand about"]).replace("{}", thing)
    text = (
        frame.replace("{clauses}", said)
        .replace("{nouns}", named if is_numbered else plural(thing))
        .replace("{noun}", named)
        .replace("{Verb}", verb.capitalize())
        .replace("{verb}", verb)
        .replace("{a}", "the" if named.startswith("the ") else a_or_an(thing))
        .replace("{A}", a_or_an(thing).capitalize())
    )
    while "{word}" in text:
        text = text.replace("{word}", dice.word(), 1)
    text = " ".join(text.replace("the the ", "the ").split())
    for end in "?.,:":
        text = text.replace(f" {end}", end)
    return text[:1].upper() + text[1:] if dice.chance(0.7) else text
