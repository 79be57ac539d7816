"""The vocabulary of words.txt as lists.

The lists that end in HELD_OUT are used for evaluation only.
"""

from pathlib import Path


def sections() -> dict[str, list[str]]:
    text = Path(__file__).with_name("words.txt").read_text(encoding="utf-8")
    blocks = (block.partition("]\n") for block in text.split("\n[")[1:])
    return {name: body.strip().replace("\n", "|").split("|") for name, _, body in blocks}


_lists = sections()

NAMES = _lists["names"]
NAMES_HELD_OUT = _lists["names held out"]
CITIES = _lists["cities"]
CITIES_HELD_OUT = _lists["cities held out"]
WORDS = _lists["words"]
VERBS = _lists["verbs"]
TOPICS = _lists["topics"]
TOPICS_HELD_OUT = _lists["topics held out"]
LANGUAGES = _lists["languages"]
JOBS = _lists["jobs"]
ROLES = _lists["roles"]
MONTHS = _lists["months"]
WEEKDAYS = _lists["weekdays"]
CAPITALS = [tuple(pair.split("/")) for pair in _lists["capitals"]]
OPPOSITES = [pair.split("/") for pair in _lists["opposites"]]
THINGS = _lists["things"]
NUMERALS = _lists["numerals"]
