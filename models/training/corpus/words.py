"""The vocabulary of words.txt and deeds.txt as lists.

The lists that end in HELD_OUT are used for evaluation only.
"""

from pathlib import Path


def sections(name: str) -> dict[str, list[str]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    blocks = (block.partition("]\n") for block in text.split("\n[")[1:])
    return {title: body.strip().replace("\n", "|").split("|") for title, _, body in blocks}


_lists = sections("words.txt")
DEEDS = sections("deeds.txt")

NAMES = _lists["names"]
NAMES_HELD_OUT = _lists["names held out"]
CITIES = _lists["cities"]
CITIES_HELD_OUT = _lists["cities held out"]
COUNTRIES = _lists["countries"]
COUNTRIES_HELD_OUT = _lists["countries held out"]
WORDS = _lists["words"]
VERBS = _lists["verbs"]
TOPICS = _lists["topics"]
TOPICS_HELD_OUT = _lists["topics held out"]
LANGUAGES = _lists["languages"]
JOBS = _lists["jobs"]
ROLES = _lists["roles"]
ROOMS = _lists["rooms"]
STATUSES = _lists["statuses"]
CONDITIONS = _lists["conditions"]
ONSETS = _lists["onsets"]  # of the syllables of invented words
ONSETS_HELD_OUT = _lists["onsets held out"]
VOWELS = _lists["vowels"]
CODAS = _lists["codas"]
NOT_SEARCHED_FOR = frozenset(_lists["not searched for"])  # what a query leaves out of a question
MONTHS = _lists["months"]
WEEKDAYS = _lists["weekdays"]
CAPITALS = [tuple(pair.split("/")) for pair in _lists["capitals"]]
OPPOSITES = [pair.split("/") for pair in _lists["opposites"]]
LEADS = _lists["leads"]
TAILS = _lists["tails"]
REMARKS = _lists["remarks"]
UNNAMED = {kind: _lists[kind] for kind in ("product", "company", "software", "place", "policy")}
GREETINGS = dict(line.split(": ") for line in _lists["greetings"])
THINGS = _lists["things"]
NUMERALS = _lists["numerals"]
IMPERATIVES = frozenset(_lists["imperatives"])
LISTS = sections("file_words.txt")  # of what files speak of


def groups(title: str, held_out: bool) -> list[list[str]]:
    """Groups of words for the same thing, of deeds.txt."""
    return [group.split("/") for group in DEEDS[f"{title} held out" if held_out else title]]
