"""Exchanges whose answer is a JSON object of what the user wrote."""

import re
from collections.abc import Callable
from typing import Any

from corpus import words
from corpus.dice import Dice, dumps
from corpus.results import listed
from corpus.scene import Scene
from corpus.script import ways

SLOT = re.compile(r"{(\w+)}")
MAKERS: dict[str, Callable[[Dice], Any]] = {
    "name": Dice.name,
    "age": lambda dice: dice.between(8, 99),
    "city": Dice.city,
    "country": lambda dice: dice.pick(words.COUNTRIES),
    "company": lambda dice: f"{dice.title()} {dice.pick(['Ltd', 'Inc', 'Group', 'Foods'])}",
    "job": lambda dice: dice.pick(words.JOBS),
    "email": Dice.email,
    "phone": Dice.phone,
    "date": Dice.day,
    "time": Dice.time,
    "price": Dice.decimal,
    "quantity": lambda dice: dice.between(2, 500),
    "guests": lambda dice: dice.between(2, 90),
    "color": Dice.word,
    "product": Dice.word,
    "order": Dice.code,
    "room": lambda dice: dice.between(1, 400),
    "title": Dice.title,
    "year": lambda dice: dice.between(1900, 2030),
    "language": lambda dice: dice.pick(words.LANGUAGES),
    "website": Dice.url,
    "recipient": Dice.name,
    "status": lambda dice: dice.pick(words.STATUSES),
    "team": Dice.word,
    "rating": lambda dice: dice.between(1, 10),
    "weight": Dice.decimal,
}
# Other names for some of them.
OTHER_KEYS = {
    "name": ["customer", "person", "first_name", "full_name", "who"],
    "city": ["place", "location", "town"],
    "date": ["day", "when"],
    "price": ["cost", "amount", "total"],
    "quantity": ["count", "number", "pieces"],
    "product": ["item", "article", "thing"],
    "order": ["order_id", "order_number", "reference"],
    "phone": ["phone_number", "telephone"],
    "email": ["mail", "email_address"],
    "job": ["occupation", "profession"],
    "recipient": ["to", "receiver"],
}
# Texts that name their values without the keys; the last one is held out.
TEXTS = [
    "{name} is {age} years old and lives in {city}.",
    "{name} lives in {city} and is {age}.",
    "{name} from {city} (ordered/wants/needs/bought) {quantity} {product}s.",
    "My name is {name} and my email is {email}.",
    "I am {name}, {age} years old, from {city}.",
    "{product}, {quantity} pieces, {price} euros each.",
    "The {product} costs {price} and comes in {color}.",
    "Call {name} at {phone}.",
    "{name} will come on {date} at {time}.",
    "Meet {name} in {city} on {date}.",
    "Order {order} was placed by {name} on {date}.",
    "The book {title} by {name} came out in {year}.",
    "In {year} {name} moved to {city}.",
    "You can reach {name} under {phone} or {email}.",
    "{name} bought a {color} {product} for {price}.",
    "{title} is a film of {year} by {name}.",
    "Please send {quantity} {color} {product}s to {city}.",
    "{name} works as a {job} (at/for) {company}.",
    "{company} hired {name} as a {job} in {year}.",
    "{name}, a {job} from {country}, speaks {language}.",
    "(Yesterday/Last week) {name} (sold/sent/gave) {quantity} {product}s to {recipient}.",
    "{recipient} (got/received) a {color} {product} from {name}.",
    "The (sender/author) is {name} and the (receiver/reader) is {recipient}.",
    "A table for {guests} on {date} at {time}, (please, /)under the name {name}.",
    "{name} (booked/reserved) room {room} for {guests} (people/guests) from {date} on.",
    "The (invoice/bill) of {date} over {price} (goes/was sent) to {recipient}.",
    "{company} has its office in {city}, {country}.",
    "Since {year} {company} (makes/sells/exports) {product}s.",
    "(Order/Package) {order} is {status}.",
    "The status of (order/package) {order} from {date} is {status}.",
    "We paid {company} {price} for {quantity} {product}s.",
    "{price} euros for a {color} {product} is too much, (says/said) {name}.",
    "{name} gave {title} a rating of {rating}.",
    "{title}, seen by {name} on {date}, gets {rating} (points/stars).",
    "The {team} team is led by {name} and sits in room {room}.",
    "{name} joined the {team} team in {year} as a {job}.",
    "Visit {website} or (call/phone) {phone}.",
    "{company} ({website}) answers (questions/mail) at {email}.",
    "The {product} weighs {weight} kg, costs {price} and is {color}.",
    "There are {quantity} {color} {product}s in {city}.",
    "(Born/Raised) in {city} in {year}, {name} became a {job}.",
    "At {time} {name} (left/reached) {city}.",
    "In {city}, {name} met {recipient}.",
    "At {time}, {name} will call {recipient}.",
    "For {price}, {company} (delivers/sells) {quantity} {product}s.",
    "With {age} years, {name} is the oldest {job} (here/in town).",
    "As a {job}, {name} earns {price} (an hour/a day).",
    "(Hi/Hello), this is {name} from {company}, my number is {phone}.",
    "(Hi/Dear) {recipient}, the {product} (arrived/broke) on {date}. {name}",
    "My {product} (order {order}) is {status}, my mail is {email}.",
    "I need {quantity} {product}s by {date}, my address is {email}.",
    "(Until/Before) {date}, {company} (wants/has to pay) {price}.",
    "From {date} on, {name} lives in {country}.",
    "Next to room {room} sits {name}, the {job}.",
    "{date}: {name} calls {company} at {time}.",
    "{name} | {email} | {phone}",
    "{name}; {age}; {city}; {job}",
    "{date} {time} {city}: {title}",
    "{quantity} x {product}, {color}, {price}",
    "{product} ({order}): {quantity} in stock, {price} each",
    "{company}, {city}, {phone}",
    "On {date}, {name} paid {price} for order {order}.",
]
# Texts put together: what comes first, what happens, and what comes last.
BEFORE = ["On {date}, ", "On {date} ", "In {city}, ", "At {time}, ", "In {year}, ", "By {date}, "]
BEFORE += ["As of {date}, ", "At {company}, ", "From {city}: ", "At {time} on {date}, ", ""]
EVENTS = [
    "{name} (met/called/visited/thanked/saw) {recipient}",
    "{name} (bought/sold/lost/found/ordered/returned) a {product}",
    "{name} (bought/sold/lost/found/ordered) {quantity} {product}s",
    "{company} (opened/closed/moved) an office",
    "{recipient} was (hired/called/invited) by {name}",
    "a {color} {product} was (found/stolen/sold)",
    "the {product} was {status}",
    "{name} started to work as a {job}",
    "{name} (watched/read/reviewed) {title}",
    "we (received/spent/earned/saved) {price}",
    "{company} asked for {price}",
    "{guests} guests (came/arrived/left)",
    "(I/we) (met/called/saw) {name}",
    "{name} turned {age}",
    "the {job} {name} (left/came/got ill)",
    "{team} won against {title}",
]
AFTER = [
    " in {city}",
    " on {date}",
    " at {time}",
    " for {price}",
    " in {country}",
    " in room {room}",
]
AFTER += [
    " together with {recipient}",
    " (see {website})",
    " (mail: {email})",
    ", phone {phone}",
    "",
]
CHATTER = ["Thanks a lot!", "See you soon.", "That is all.", "Good morning!", "What a day!"]


def json_exchange(scene: Scene) -> None:
    """The values of some pairs, or what a text says, under the keys that are asked for."""
    dice = scene.dice
    text, values = extracted(dice) if dice.chance(0.5) else paired(dice)
    scene.exchange(text, dumps(values), "Done.")


def paired(dice: Dice) -> tuple[str, dict[str, Any]]:
    keys = dice.some([*MAKERS, dice.word(), dice.invented(), f"{dice.word()}_{dice.word()}"], 4)
    values = {key: MAKERS.get(key, plain)(dice) for key in keys[: dice.pick([1, 2, 2, 3, 3, 4])]}
    form = dice.pick(["{}: {}", "{}: {}", "{} {}", "{} = {}", "{} is {}"])
    joint = dice.pick([", ", ", ", "\n", "; "])
    pairs = joint.join(form.format(key, value) for key, value in values.items())
    return dice.phrasing(ways("json of pairs")).replace("{}", pairs), values


def plain(dice: Dice) -> str | int:
    """Anything, with numbers as numbers."""
    value = dice.anything()
    return int(value) if value.isascii() and value.isdigit() and value[0] != "0" else value


def extracted(dice: Dice) -> tuple[str, dict[str, Any]]:
    pattern = text(dice)
    known = {key: maker(dice) for key, maker in MAKERS.items() if f"{{{key}}}" in pattern}
    keys = dice.some(list(known), dice.between(min(2, len(known)), len(known)))
    if dice.chance(0.5):
        keys.sort(key=list(known).index)
    others = {} if "recipient" in known else OTHER_KEYS  # of two people, who is meant
    asked = [called(dice, key, others) for key in keys]
    prompt = dice.phrasing(ways("json of text")).replace("{k}", named(dice, asked))
    values = {name: known[key] for name, key in zip(asked, keys, strict=True)}
    return prompt.replace("{}", pattern.format(**known)), values


def text(dice: Dice) -> str:
    """The pattern of a text."""
    if dice.held_out or dice.chance(0.5):
        return dice.phrasing(TEXTS)
    event = dice.expanded(dice.pick(EVENTS))
    before = dice.pick([part for part in BEFORE if not slots(part) & slots(event)])
    taken = slots(before + event)
    after = dice.pick([part for part in AFTER if not slots(part) & taken])
    sentence = f"{before}{event}{after}."
    if not before:
        sentence = sentence[0].upper() + sentence[1:]
    if dice.chance(0.15):
        sentence = dice.pick(
            [f"{sentence} {dice.pick(CHATTER)}", f"{dice.pick(CHATTER)} {sentence}"]
        )
    return sentence


def slots(pattern: str) -> set[str]:
    return set(SLOT.findall(pattern))


def called(dice: Dice, key: str, others: dict[str, list[str]]) -> str:
    """The key, or another name for it."""
    return dice.pick(others[key]) if key in others and dice.chance(0.12) else key


def named(dice: Dice, keys: list[str]) -> str:
    form = dice.between(0, 3)
    if form == 0:
        return ", ".join(keys)
    if form == 1:
        return listed([f'"{key}"' for key in keys])
    return listed(keys) if form == 2 else listed([f"the {key}" for key in keys])
