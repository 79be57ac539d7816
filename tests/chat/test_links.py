"""Links to files that code has written, in the text of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.citations import Citation, CitationWriter, Part, Source
from server.chat.links import Link, Links
from tests.chat.parts import joined
from tests.timing import little_work

NAMES = ("plot.png", "plot.png.gz", "my file.csv", "a", "sandbox", "größe (1).csv", "x [1].txt")
ODD = ("100% of it.csv", "a%20b", "a b", "it's, so + on.txt", "日本 1.csv", "é", "\u202f", "🙂")
SOURCE = Source(1, 0, "file-a", "a.md", "Orders are shipped within two days.")


def written(
    text: str, *ends: int, sources: tuple[Source, ...] | None = None, names: Sequence[str] = NAMES
) -> list[Part]:
    """What becomes of a text that comes in pieces which end at these places."""
    writer = CitationWriter(sources, Links(names))
    places = [0, *sorted(ends), len(text)]
    parts = [p for a, b in pairwise(places) for p in writer.feed(text[a:b])]
    return joined([*parts, *writer.finish()])


def link(name: str, spelled: str = "") -> Link:
    """To this file, however its name is spelled."""
    return Link(f"sandbox:/mnt/data/{spelled or name}", name)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[Plot](sandbox:/mnt/data/plot.png)", ["[Plot](", link("plot.png"), ")"]),
        ("See sandbox:/mnt/data/plot.png.", ["See ", link("plot.png"), "."]),
        ("sandbox:/mnt/data/plot.png", [link("plot.png")]),
        ("`sandbox:/mnt/data/plot.png.gz`", ["`", link("plot.png.gz"), "`"]),
        ("(sandbox:/mnt/data/my file.csv)", ["(", link("my file.csv"), ")"]),
        ("(sandbox:/mnt/data/my%20file.csv)", ["(", link("my file.csv", "my%20file.csv"), ")"]),
        ("sandbox:/mnt/data/größe (1).csv!", [link("größe (1).csv"), "!"]),
        ("sandbox:/mnt/data/sandbox", [link("sandbox")]),
        ("sandbox:/mnt/data/plot.png、", [link("plot.png"), "、"]),
        (
            "sandbox:/mnt/data/a sandbox:/mnt/data/a",
            [link("a"), " ", link("a")],
        ),
    ],
)
def test_mentions_are_links(text: str, parts: list[Part]) -> None:
    """However they are set off, and wherever the text is cut; the text stays as it is."""
    for place in range(len(text) + 1):
        assert written(text, place) == parts
    assert written(text, *range(len(text))) == parts


@pytest.mark.parametrize(
    "text",
    [
        "sandbox:/mnt/data/plot.pngx",
        "sandbox:/mnt/data/plot.png.bz2",
        "sandbox:/mnt/data/plot.png/x",
        "sandbox:/mnt/data/other.csv",
        "sandbox:/mnt/data/",
        "sandbox:/mnt/plot.png",
        "/mnt/data/plot.png",
        "Sandbox:/mnt/data/plot.png",
        "sandsandbox:/mnt/dat",
        "[1] and 【1†x】",
        "s",
    ],
)
def test_what_is_not_there_is_text(text: str) -> None:
    """Other names, and what only begins like a link; brackets where there are no passages."""
    for place in range(len(text) + 1):
        assert written(text, place) == [text]


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("größe%20(1).csv", "größe (1).csv"),
        ("gr%C3%B6%C3%9Fe%20%281%29.csv", "größe (1).csv"),
        ("gr%c3%b6ße (1).csv", "größe (1).csv"),
        ("x%20[1].txt", "x [1].txt"),
        ("100%%20of%20it.csv", "100% of it.csv"),
        ("100%25%20of it.csv", "100% of it.csv"),
        ("it's,%20so%20+%20on.txt", "it's, so + on.txt"),
        ("%E6%97%A5本%201.csv", "日本 1.csv"),
        ("a%20b", "a%20b"),
        ("a%2520b", "a%20b"),
        ("a b", "a b"),
        ("%E2%80%af", "\u202f"),
        ("%f0%9f%99%82", "🙂"),
    ],
)
def test_names_are_spelled_in_many_ways(spelled: str, name: str) -> None:
    """Any of their characters may be as in a URL; the link is what was written, wherever cut."""
    text = f"[It](sandbox:/mnt/data/{spelled})."
    wanted = ["[It](", link(name, spelled), ")."]
    for place in range(len(text) + 1):
        assert written(text, place, names=(*NAMES, *ODD)) == wanted
    assert written(text, *range(len(text)), names=(*NAMES, *ODD)) == wanted


@pytest.mark.parametrize("spelled", ["%C3", "%C3%28", "%ED%A0%80", "%C3%A9%20", "%2", "%", "é%"])
def test_what_spells_no_name_is_text(spelled: str) -> None:
    """Bytes that are no character, or not all of one; more than a name."""
    text = f"(sandbox:/mnt/data/{spelled})"
    for place in range(len(text) + 1):
        assert written(text, place, names=(*NAMES, *ODD)) == [text]


def test_nothing_else_is_held_back() -> None:
    """Text is told at once, unless it may become a link."""
    writer = CitationWriter(None, Links(NAMES))
    assert writer.feed("Yes, this is ") == ["Yes, this is "]
    assert writer.feed("sand") == []
    assert writer.feed(" in the sandbox") == ["sand in the "]
    assert writer.feed(":/mnt/data/plot.png") == []
    assert writer.feed(")") == [link("plot.png"), ")"]


def test_beside_citations() -> None:
    """Both are found in one text, and a link is not read for citations."""
    text = "In two days [1]: sandbox:/mnt/data/x [1].txt [1], [7]sandbox:/mnt/data/a"
    marker = Citation(SOURCE.marker, "file-a")
    wanted = ["In two days ", marker, ": ", link("x [1].txt"), " ", marker, ", ", link("a")]
    for place in range(len(text) + 1):
        parts = written(text, place, sources=(SOURCE,))
        assert [p for p in parts if p != " "] == [p for p in wanted if p != " "]


@given(
    st.lists(st.sampled_from(["sandbox:/mnt/data/", *NAMES, *ODD, *" .%sé", "[1]", "%C3", "%A9"])),
    st.lists(st.integers(0, 99), max_size=4),
)
def test_any_text(words: list[str], ends: list[int]) -> None:
    """It is the same text whatever is found in it, and the same is found wherever it is cut."""
    text = "".join(words)
    names = (*NAMES, *ODD)
    parts = written(text, *(min(end, len(text)) for end in ends), names=names)
    assert "".join(part if isinstance(part, str) else part.text for part in parts) == text
    assert parts == written(text, names=names)


def test_many_names_take_no_time() -> None:
    """Of the processor, to be known and then for each piece of a text."""
    names = [f"result_{number:06d}_{'x' * 40}.csv" for number in range(20_000)]
    text = f"The files of this session are summarised in sandbox:/mnt/data/{names[7]} and so on. "
    with little_work(1):
        writer = CitationWriter(None, Links(names))
        parts = [part for character in text * 3 for part in writer.feed(character)]
    assert sum(isinstance(part, Link) for part in parts) == 3
