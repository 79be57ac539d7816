"""How deep a value is."""

from __future__ import annotations

from server.nesting import deeper_than


def test_depth_is_counted_in_containers() -> None:
    """A flat object has one level."""
    assert not deeper_than(1, {"a": 1})
    assert deeper_than(1, {"a": []})
    assert not deeper_than(3, {"a": [{"b": 1}]})
    assert deeper_than(2, {"a": [{"b": 1}]})
