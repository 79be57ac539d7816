"""How deep a value is, and how much is in it."""

from __future__ import annotations

from server.nesting import characters_in, deeper_than, more_than


def test_depth_is_counted_in_containers() -> None:
    """A flat object has one level."""
    assert not deeper_than(1, {"a": 1})
    assert deeper_than(1, {"a": []})
    assert not deeper_than(3, {"a": [{"b": 1}]})
    assert deeper_than(2, {"a": [{"b": 1}]})


def test_values_are_counted_at_every_level() -> None:
    """Those of an object are counted without their keys; the value itself is not."""
    assert not more_than(0, {})
    assert more_than(0, {"a": 1})
    assert not more_than(6, {"a": [{"b": 1}, []], "c": "[,"})
    assert more_than(4, {"a": [{"b": 1}, []], "c": "[,"})
    assert more_than(3, [[]] * 4)


def test_characters_are_those_of_texts_and_keys_and_some_beside() -> None:
    """So that neither long texts nor many values pass for little."""
    assert characters_in("x" * 100) == 108
    assert characters_in({"key": "x" * 100, "other": [1, None]}) == 100 + 8 + 5 * 8
    assert characters_in([[]] * 1000) == 1001 * 8
