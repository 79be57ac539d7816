"""Folders that are not where their names say, in what code says and in what it is told."""

from __future__ import annotations

import pytest

from server.sandbox.places import DATA, TMP, Naming, placed, places_in

PLACES = places_in("/tmp/assistants-session-abc")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (f"{DATA}", PLACES[DATA]),
        (f"file://{DATA}/a.csv, {TMP}/b", f"file://{PLACES[DATA]}/a.csv, {PLACES[TMP]}/b"),
        ("/mnt/database /tmpfs a/tmp ./tmp", "/mnt/database /tmpfs a/tmp ./tmp"),
        ("//tmp/x", "//tmp/x"),
    ],
)
def test_names_mean_places(text: str, meant: str) -> None:
    """Where they are names of those folders, and nothing that only begins or ends like them."""
    assert placed(text, PLACES) == meant
    assert placed(text, {DATA: DATA, TMP: TMP}) == text


def test_places_are_named_however_they_come() -> None:
    """A text that is cut anywhere is named as it would be whole."""
    text = f"at {PLACES[DATA]}/x, {PLACES[TMP]}, /tmp/assistants-session-ab or {PLACES[DATA]}"
    named = "at /mnt/data/x, /tmp, /tmp/assistants-session-ab or /mnt/data"
    for first in range(len(text)):
        for second in range(first, len(text)):
            naming = Naming(PLACES)
            cut = (text[:first], text[first:second], text[second:])
            assert "".join(map(naming.feed, cut)) + naming.rest() == named


def test_what_is_no_beginning_of_a_place_is_told_at_once() -> None:
    """The rest waits for more."""
    naming = Naming(PLACES)
    assert naming.feed("half a line, /tmp/assist") == "half a line, "
    assert naming.feed("ance\n") == "/tmp/assistance\n"
    assert Naming({DATA: DATA}).feed("/mnt/da") == "/mnt/da"
