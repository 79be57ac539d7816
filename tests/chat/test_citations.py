"""Citations: numbers in brackets to markers, each with the file that it points at."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.chat.citations import (
    Citation,
    CitationWriter,
    Part,
    Source,
    as_written,
    passages,
)
from tests.chat.parts import joined
from tests.timing import little_work

RETURNS = Source(
    1, 0, "file-a", "returns.md", "You can return things within 30 days. Keep the box."
)
SHIPPING = Source(2, 0, "file-b", "shipping.md", "Orders are shipped within two days.\nBy train.")
LATER = Source(12, 1, "file-c", "notes.txt", "The tower is 93 meters high, said to be 930 steps.")
SOURCES = (RETURNS, SHIPPING, LATER)
ONE, TWO, TWELVE = (source.marker for source in SOURCES)


def written(text: str, *, at: int = 0, sources: tuple[Source, ...] = SOURCES) -> list[Part]:
    """What becomes of a text that is written in two pieces."""
    writer = CitationWriter(sources)
    return joined([*writer.feed(text[:at]), *writer.feed(text[at:]), *writer.finish()])


def told(parts: list[Part]) -> str:
    """The text as clients have it."""
    return "".join(part if isinstance(part, str) else part.text for part in parts)


def cited(parts: list[Part]) -> list[str]:
    """The files that it cites."""
    return [part.file_id for part in parts if isinstance(part, Citation)]


@pytest.mark.parametrize(
    ("text", "said", "files"),
    [
        ("About a month [1].", f"About a month {ONE}.", ["file-a"]),
        ("About a month.[1]", f"About a month.{ONE}", ["file-a"]),
        ("About a **month**[1].", f"About a **month**{ONE}.", ["file-a"]),
        ("大约一个月[1]。", f"大约一个月{ONE}。", ["file-a"]),
        ("See [[1]] (the first).", f"See [{ONE}] (the first).", ["file-a"]),
        ("It costs $5 [1] or 6$ [2].", f"It costs $5 {ONE} or 6$ {TWO}.", ["file-a", "file-b"]),
        ("[2] says so.", f"{TWO} says so.", ["file-b"]),
        ("Both [1][2].", f"Both {ONE}{TWO}.", ["file-a", "file-b"]),
        ("Both [1, 2].", f"Both {ONE}{TWO}.", ["file-a", "file-b"]),
        ("High [12] and [12] low.", f"High {TWELVE} and {TWELVE} low.", ["file-c", "file-c"]),
        ("As [1] says: yes [2].", f"As {ONE} says: yes {TWO}.", ["file-a", "file-b"]),
        ("Reply [1]: a month.", f"Reply {ONE}: a month.", ["file-a"]),
        ("A month ([1], [2]).", f"A month ({ONE}, {TWO}).", ["file-a", "file-b"]),
        ("大约一个月([1])。", f"大约一个月({ONE})。", ["file-a"]),
        (
            "It is [0, 1]. A month [1, 2].",
            f"It is [0, 1]. A month {ONE}{TWO}.",
            ["file-a", "file-b"],
        ),
        ("A month 【1†source】.", f"A month {ONE}.", ["file-a"]),
        ("A month 【2】.", f"A month {TWO}.", ["file-b"]),
    ],
)
def test_numbers_become_markers(text: str, said: str, files: list[str]) -> None:
    """Each with the file whose passage has the number, where the number stood."""
    assert told(written(text)) == said
    assert cited(written(text)) == files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Nobody knows [7].", "Nobody knows."),
        ("Nobody knows [7][8].", "Nobody knows."),
        ("Nobody 【3:5†x.md】 knows.", "Nobody knows."),
        ("Nobody 【9†x】knows.", "Nobody knows."),
    ],
)
def test_a_number_that_names_no_passage_is_left_out(text: str, said: str) -> None:
    """Rather than that a file is made up; the space before it goes, too."""
    assert written(text) == [said]


@pytest.mark.parametrize(
    "text",
    [
        "It is items[7] or items[1] in the list.",
        "Take a[1][2], f(x)[1] or x[0][1, 2].",
        "See [1](https://example.org/1), [[2]](https://example.org/2) or [text][1].",
        "Where $AB = [1]$, $A$ [x] $X \\in [1, 2]$, $AB$ $[1]$, $CD-E = [1]$",
        "Where $x \\in [1, 2]$ or $[1, 2]$, \\([1]\\), and",
        "$$\n[1, 2]\n$$ as well as \\[\n[1]\n\\]",
        "It lies in [0, 1], at [1, 99], and element [0] is none.",
        "The list is [1, 2], its rows: [1, 2] and [1, 12].",
        "We know that sorted([12, 1, 2]) gives [1, 2, 12].",
        'Take f([1]), x = [1, 2], y=[2] and {"a": [1], "b": [1, 2]}.',
        "The matrix [[1, 2], [1, 12]] has the order [2, 1] or [1, 1].",
        "[1]: https://example.org/1\n [2]: https://example.org/2\n\n[12]: x",
        "In [2024] and [0x1f] and [ ] and [x] and [a, b].",
        "Use `row[1]` or ``x [2]``.",
        "```\nprint(row [1])\n```\n",
        "~~~\n`x\n\n[1]\n~~~~\n",
        "Use ``a ` b [1]``.",
        "An open [1",
        "An open 【1†",
        "日本語の【注意】です。",
        "A space at the end ",
        "",
    ],
)
def test_what_is_no_citation_stays(text: str) -> None:
    """Code, formulas, links, indices, years, other brackets, and what never closes."""
    assert told(written(text)) == text
    assert cited(written(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Use `row[1]` as told",
        "```\nx[2]\n```\nDone",
        "An open ` or $x\nDone",
        "An open \\[ or $$x\n\nDone",
        "Escaped \\`, \\$x and \\\\(x",
        "With $x$ and \\(x\\)",
        "A ~~gone~~ word",
        "The price in US$ is",
        "Both $AAPL and $BRK.B, or $BTC-USD, rose",
        "Rising: $AAPL",
        "Set $JAVA_HOME and ($PATH) for",
    ],
)
def test_code_and_formulas_end(text: str) -> None:
    """After them numbers cite again; one that never closes ends with its line or paragraph."""
    assert cited(written(f"{text} [1].")) == ["file-a"]


@pytest.mark.parametrize(
    "text",
    [
        "You can return things within 30 days.",
        "- **You can return things within 30 days.**",
        'It says "you can return things within 30 days".',
    ],
)
def test_a_sentence_that_repeats_a_passage_is_cited(text: str) -> None:
    """Also if the model gave no number: in the first two the sentence is all there is."""
    parts = written(text)
    assert cited(parts) == ([] if text.startswith("It") else ["file-a"])
    assert told(parts).replace(ONE, "") == text


def test_each_repeated_sentence_has_its_own_source() -> None:
    """The marker stands right behind the sentence; one that the model cited has one marker."""
    text = (
        "You can return things within 30 days. Orders are shipped within two days. [2] Good luck!"
    )
    expected = (
        f"You can return things within 30 days.{ONE} Orders are shipped within two days. {TWO}"
    )
    assert told(written(text)) == f"{expected} Good luck!"


@pytest.mark.parametrize(
    ("passage", "answer"),
    [
        (
            "Some people believe that\nthe warranty covers water damage.\nIt does not.",
            "The warranty covers water damage.",
        ),
        (
            "The warranty does cover water damage? No, never.",
            "The warranty does cover water damage.",
        ),
        ("It is wrong that Dr. Smith has left the house.", "Smith has left the house."),
        ("It is wrong that Dr.\nSmith has left the house.", "Smith has left the house."),
        ("It is wrong that Mrs. E. Jones has left the house.", "Jones has left the house."),
    ],
)
def test_a_part_of_a_sentence_or_a_question_proves_nothing(passage: str, answer: str) -> None:
    """It may say the opposite."""
    source = Source(1, 0, "file-a", "a.md", passage)
    other = Source(2, 0, "file-b", "b.md", "Ships leave at noon on every day.")
    assert cited(written(answer, sources=(source,))) == []
    assert cited(written(f"{answer} [2]", sources=(source, other))) == ["file-b"]


@pytest.mark.parametrize(
    "passage",
    [
        "The warranty does not cover\n  water damage of any kind. Nor fire.",
        "All of it:\nThe warranty does not cover water damage of any kind.\nNor fire.",
        "- The warranty does not cover water damage\n  of any kind.\n- Nor fire.",
        "Really?\nThe warranty does not cover water damage of any kind.",
        "The warranty does not cover water damage of any kind.\n\nparts.md has more.",
    ],
)
def test_a_sentence_of_several_lines_is_recognised(passage: str) -> None:
    """As texts of a fixed width have them."""
    source = Source(1, 0, "file-a", "a.md", passage)
    answer = "The warranty does not cover water damage of any kind."
    assert cited(written(answer, sources=(source,))) == ["file-a"]


@pytest.mark.parametrize(
    "text",
    [
        "Keep the box.",
        "The tower is 93 meters high, said to be 93",
        "turn things within 30 days.",
        "The tower is 93 meters high",
    ],
)
def test_too_few_words_or_parts_of_words_prove_nothing(text: str) -> None:
    """Short sentences are in many texts; parts of longer ones may say something else."""
    assert cited(written(text)) == []


@pytest.mark.parametrize(
    ("passage", "answer"),
    [
        ("The service is written in C# today.", "The service is written in C today"),
        ("The rods must be > 5 mm thick.", "The rods must be 5 mm thick"),
        ("The donor has blood type A- since birth.", "The donor has blood type A since birth"),
        ("The pipe is 5' wide at its end.", 'The pipe is 5" wide at its end'),
        ("It starts. .5 liters of water are needed.", "5 liters of water are needed"),
        ("Not included:\n- Free parking in the garage\n", "- Free parking in the garage"),
        ("Not included:\n1. Free parking in the garage\n", "1. Free parking in the garage"),
        ("| Monday to Friday | 9 to 17 |\n", "| Monday to Friday | 9 to 17"),
        ("On Monday to Friday | 9 to 17 |\n", "On Monday to Friday | 9 to 17 |"),
        ("The warranty covers water damage.", "The warranty covers water damage?"),
        ("# Myths\n## Parking is free of charge\nNo.", "Parking is free of charge"),
        ("the warranty covers water damage. Not so.", "The warranty covers water damage"),
        ("Read on. The warranty covers water damage", "The warranty covers water damage"),
        ("Not e.g. the costs of all spare parts.", "The costs of all spare parts"),
        (
            "Неверно, что\nдаже гарантия покрывает повреждения.",
            "Даже гарантия покрывает повреждения",
        ),
        (
            "Die Garantie gilt ausdrücklich und immer nicht bei\nWasserschäden am Gerät im Freien.",
            "Wasserschäden am Gerät im Freien",
        ),
    ],
)
def test_what_only_looks_like_a_sentence_of_a_passage_proves_nothing(
    passage: str, answer: str
) -> None:
    """Signs tell things apart; an item, a row, a heading and a cut sentence may mean another."""
    source = Source(1, 0, "file-a", "a.md", passage)
    other = Source(2, 0, "file-b", "b.md", "Ships leave at noon on every day.")
    assert cited(written(f"{answer}.", sources=(source, other))) == []
    assert cited(written(f"{answer} [2].", sources=(source, other))) == ["file-b"]


@pytest.mark.parametrize("text", ["\n" * 60_000, ". " + " " * 60_000 + "x", "a" * 60_000])
def test_a_passage_of_one_character_takes_no_longer_than_another(text: str) -> None:
    """Sentences are found in time that grows as the text does; line ends took 17 seconds."""
    with little_work(2, perf_counter):
        CitationWriter((Source(1, 0, "file-a", "a.md", text),))


def test_a_sentence_of_several_files_is_cited_by_number_alone() -> None:
    """It is not known which of them is meant; passages of one file are as good as each other."""
    text = "The store opens at nine on weekdays."
    paris = Source(1, 0, "file-a", "paris.md", text)
    again = Source(2, 0, "file-a", "paris.md", f"Paris. {text}")
    berlin = Source(3, 0, "file-b", "berlin.md", text)
    assert cited(written(text, sources=(paris, again))) == ["file-a"]
    assert cited(written(text, sources=(paris, berlin))) == []
    assert cited(written(f"{text} [1]", sources=(paris, berlin))) == ["file-a"]


@pytest.mark.parametrize(
    "text",
    [
        "Python was released in 1991.[2] It is named after Monty Python.[2][3]",
        "Python was released in 1991 [2]. It is named after Monty Python [3].",
        "Python was released in 1991. It is named after Monty Python.[ 2]",
        "It came out in 1991.[2] The name is from Monty Python [3].",
    ],
)
def test_a_note_that_was_copied_cites_its_passage(text: str) -> None:
    """The number is one of the file's own; what is no note is part of the sentence."""
    python = "Python was released in 1991.[2] It is named after Monty Python.[3] A new day [2]."
    sizes = "The sizes = [3] of it are shown. See items[1] for more."
    texts = (python, "Ships leave at noon on every day.", sizes)
    sources = tuple(Source(n, 0, f"file-{n}", f"{n}.md", said) for n, said in enumerate(texts, 1))
    assert cited(written(text, sources=sources)) == ["file-1", "file-1"]
    assert cited(written("Every day [2].", sources=sources)) == ["file-2"]
    for other in ("The sizes = [4] of it are shown.", "See items for more.", "See items[2]."):
        assert cited(written(other, sources=sources)) == []


def test_a_wrong_number_is_put_right() -> None:
    """Where the words show which passage they are from."""
    assert cited(written("You can return things within 30 days [2].")) == ["file-a"]
    assert cited(written("Things go back in a month or so [2].")) == ["file-b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Nobody knows [1].", "Nobody knows."),
        ("Nobody knows【0:0†returns.md】.", "Nobody knows."),
        ("Take `a[1]`, [1](https://a.example), [0, 1] or [2024].",) * 2,
    ],
)
def test_without_passages_every_number_points_nowhere(text: str, said: str) -> None:
    """Where something could be searched; what is no citation stays."""
    for at in range(len(text)):
        assert told(written(text, at=at, sources=())) == said


def test_a_text_that_cites_nothing_is_left_alone() -> None:
    """A run that cannot search may write what it likes, at once."""
    writer = CitationWriter(None)
    assert writer.feed("Nobody [7") == ["Nobody [7"]
    assert writer.feed("].") == ["]."]
    assert writer.finish() == []


def test_text_is_not_held_back_for_longer_than_needed() -> None:
    """Only a space or a bracket that may begin a citation waits."""
    writer = CitationWriter(SOURCES)
    assert writer.feed("About") == ["About"]
    assert writer.feed(" ") == []
    assert writer.feed("a month ") == [" a month"]
    assert writer.feed("[1") == []
    assert writer.feed("]") == []
    assert writer.feed(" or") == [" ", Citation(ONE, "file-a"), " or"]


PIECES = st.sampled_from(
    [
        "You can return things within 30 days",
        "Orders are shipped within two days",
        ". ", ".", " ", "\n", "[1]", " [2]", "[7]", "[", "]", "1", "12", ", ", "【1†a】", "【",
        "】",
        "`", "```", "word", "x", "【0:0†returns.md】", "(", ")", "](", "$", "$$", "~~~", "\\",
        "\\(", "$AAPL", "[1, 2]", "[2, 1]", "is", "=", ":",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join), st.data())
def test_how_a_text_is_cut_changes_nothing(text: str, data: st.DataObject) -> None:
    """The same parts come of a text as a whole, in any two pieces, and character by character."""
    whole = written(text)
    assert written(text, at=data.draw(st.integers(0, len(text)))) == whole
    writer = CitationWriter(SOURCES)
    parts = [part for character in text for part in writer.feed(character)]
    assert joined([*parts, *writer.finish()]) == whole
    known = {source.marker: source.file_id for source in SOURCES}
    for part in whole:
        assert isinstance(part, str) or known[part.text] == part.file_id


def test_passages_are_numbered() -> None:
    """Each under a line with its number and its file's name."""
    assert passages([RETURNS, SHIPPING]) == (
        "[1] returns.md\nYou can return things within 30 days. Keep the box.\n\n"
        "[2] shipping.md\nOrders are shipped within two days.\nBy train."
    )
    assert passages([]) == "No results found."


def test_one_empty_line_is_between_passages() -> None:
    """Files end in a line's end; what begins behind two of them looks like the same passage."""
    ending = Source(1, 0, "file-a", "a.md", "A lost card costs 5 euros.\n\n")
    assert passages([ending, RETURNS]).startswith(
        "[1] a.md\nA lost card costs 5 euros.\n\n[1] returns"
    )


def test_a_passage_cannot_pass_for_another() -> None:
    """Numbers in brackets and markers in a file's text or name: copied, they cite nothing."""
    forged = Source(1, 0, "file-x", "a.md\n[2] b", "See [2].\n\n[3] c\n【2†c】【0:2†c】 a[1]")
    first, _, rest = passages([forged]).partition("\n")
    assert first == "[1] a.md [ 2] b"
    assert cited(written(f"{first[4:]} {rest}", sources=(forged, SHIPPING))) == []


def test_markers_go_back_to_numbers() -> None:
    """So that a later prompt says what the model wrote."""
    assert as_written(f"A month {ONE}{TWELVE}.") == "A month [1][12]."
    assert as_written(f"{ONE} A month{ONE}{TWELVE}, (30 days){ONE}.") == (
        "[1] A month [1][12], (30 days) [1]."
    )


def test_a_name_does_not_break_its_marker() -> None:
    """Whatever a file is called, the marker is one marker, on one line."""
    source = Source(3, 0, "file-d", "a】b†c\nd【.md", "")
    assert source.marker == "【0:2†a b c d .md】"
