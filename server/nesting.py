"""How deep a JSON value is nested, and how much is in it, found without recursion."""

from __future__ import annotations

from typing import Any, Final

BESIDE_TEXT: Final = 8  # characters of a value beside its text


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


def characters_in(value: Any) -> int:
    """About how many characters of JSON it is: its texts' own, and some for every value."""
    counted, nodes = 0, [value]
    while nodes:
        node = nodes.pop()
        counted += BESIDE_TEXT
        if isinstance(node, str):
            counted += len(node)
        elif isinstance(node, dict):
            counted += sum(map(len, node))
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return counted
