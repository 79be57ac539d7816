"""How deep a JSON value is nested, found without going down it by recursion."""

from __future__ import annotations

from typing import Any


def deeper_than(depth: int, value: Any) -> bool:
    """Goes down level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(depth):
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for parts in inner for part in parts if isinstance(part, (dict, list))]
    return bool(level)
