"""How deep a JSON value is nested, and how much is in it, found without recursion."""

from __future__ import annotations

from typing import Any


def deeper_than(depth: int, value: Any) -> bool:
    """Goes down level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(depth):
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [part for parts in inner for part in parts if isinstance(part, (dict, list))]
    return bool(level)


def more_than(most: int, value: Any) -> bool:
    """Whether it has more than so many values in it, its own parts and theirs; no more are seen."""
    counted, nodes = 0, [value]
    while nodes:
        node = nodes.pop()
        inner = node.values() if isinstance(node, dict) else node
        counted += len(inner)
        if counted > most:
            return True
        nodes += [part for part in inner if isinstance(part, (dict, list))]
    return False
