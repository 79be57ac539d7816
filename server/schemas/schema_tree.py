"""JSON Schemas as trees of schemas that refer to each other: walked without recursion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

Schema = Mapping[str, Any]
Path = tuple[str, ...]

# Where other schemas stand in a schema: by name, in a list, alone.
NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")
LISTED: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
ALONE: Final = ("items", "additionalProperties")
SAME: Final = frozenset(("$ref", "anyOf", "oneOf", "allOf"))  # where they speak of the same value
DEFINITIONS: Final = ("$defs", "definitions")

ANNOTATIONS: Final = ("$schema", "$comment", "title", "description")
REFERENCES: Final = ("$ref", *DEFINITIONS)
BESIDE_ROOT_REFERENCE: Final = frozenset(("type", *REFERENCES, *ANNOTATIONS))

_INDEX: Final = re.compile("0|[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Node:
    """A schema, and where it stands in another. `level` counts the objects that it lies in."""

    schema: Any
    parent: Node | None = None
    steps: Path = ()
    level: int = 0

    @property
    def path(self) -> Path:
        """Put together only when it is told: schemas may be deep."""
        steps: list[str] = []
        node: Node | None = self
        while node is not None:
            steps += reversed(node.steps)
            node = node.parent
        return tuple(reversed(steps))


def walk(schema: Any) -> Iterator[Node]:
    """The schema itself and all within it, from the outside, in their order."""
    trail = [iter([Node(schema)])]
    while trail:
        node = next(trail[-1], None)
        if node is None:
            trail.pop()
        else:
            yield node
            trail.append(_within(node))


def _within(node: Node) -> Iterator[Node]:
    if not isinstance(node.schema, dict):
        return
    for key, value in node.schema.items():
        level = node.level + (key == "properties")
        if key in NAMED and isinstance(value, dict):
            for name, part in value.items():
                yield Node(part, node, (key, name), level)
        elif (key in LISTED or key == "items") and isinstance(value, list):
            for place, part in enumerate(value):
                yield Node(part, node, (key, str(place)), level)
        elif key in ALONE and isinstance(value, dict):
            yield Node(value, node, (key,), level)


def resolve(root: Schema, reference: Any) -> Any:
    """What a reference within the schema points at; None if there is nothing."""
    if not isinstance(reference, str) or not re.fullmatch("#(/.*)?", reference, re.DOTALL):
        return None
    found: Any = root
    for part in unquote(reference).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and _INDEX.fullmatch(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def referred(root: Schema) -> Schema:
    """The root as what it refers to, where it says no more; references lead where they did."""
    target = resolve(root, root.get("$ref"))
    if not isinstance(target, dict) or root.keys() - BESIDE_ROOT_REFERENCE:
        return root
    kind = root.get("type", target.get("type"))
    if target.get("type", kind) != kind:
        return root
    types = {} if kind is None else {"type": kind}
    own = {key: value for key, value in target.items() if key not in DEFINITIONS}
    return referred({**types, **own, **{key: root[key] for key in DEFINITIONS if key in root}})


def circular(root: Schema) -> list[Node]:
    """The schemas whose reference leads back to themselves, with no text in between.

    Of each ring one, though rings that have a part in common may count as one.
    """
    found: list[Node] = []
    seen: set[int] = set()
    for start in walk(root):
        if isinstance(start.schema, dict) and id(start.schema) not in seen:
            _follow(root, start, seen, found)
    return found


def _follow(root: Schema, start: Node, seen: set[int], found: list[Node]) -> None:
    """Depth first, along what says something of the same value."""
    trail = [(start, _alike(root, start))]
    on_trail = {id(start.schema)}
    seen.add(id(start.schema))
    while trail:
        node, ways = trail[-1]
        following = next(ways, None)
        if following is None:
            trail.pop()
            on_trail.discard(id(node.schema))
        elif id(following.schema) in on_trail:
            found.append(_referring(following))
        elif id(following.schema) not in seen:
            seen.add(id(following.schema))
            on_trail.add(id(following.schema))
            trail.append((following, _alike(root, following)))


def _referring(node: Node) -> Node:
    """The last one on the way to it that refers to another: what is named has a step."""
    while node.steps and node.parent is not None:
        node = node.parent
    return node.parent or node


def of_same_value(root: Schema) -> Iterator[Schema]:
    """The schemas that say something of the value itself, each once: the root, what it refers to
    and what it is composed of.
    """
    waiting = [Node(root)]
    seen = {id(root)}
    while waiting:
        node = waiting.pop()
        yield node.schema
        for other in _alike(root, node):
            if id(other.schema) not in seen:
                seen.add(id(other.schema))
                waiting.append(other)


def _alike(root: Schema, node: Node) -> Iterator[Node]:
    target = resolve(root, node.schema.get("$ref"))
    if isinstance(target, dict):
        yield Node(target, node)
    for key in ("anyOf", "oneOf", "allOf"):
        members = node.schema.get(key)
        for place, member in enumerate(members if isinstance(members, list) else ()):
            if isinstance(member, dict):
                yield Node(member, node, (key, str(place)))


def tangled(root: Schema) -> list[tuple[Node, str]]:
    """The schemas that say more beside what leads back to them, and in which word: innermost first.

    To put the two together takes the same again, within. A root that is but a reference is what it
    refers to. There must be no `circular` ones.
    """
    nodes = [node for node in walk(root) if isinstance(node.schema, dict)]
    if all(
        _stands_alone(node.schema, word) for node in nodes for word in SAME & node.schema.keys()
    ):
        return []
    rings = _rings(root)
    found: list[tuple[Node, str]] = []
    returning: set[int] = set()
    for node in reversed(nodes):
        ways = {
            other.steps[0] if other.steps else "$ref"
            for other in _alike(root, node)
            if id(other.schema) in returning
            or (not other.steps and rings.get(id(other.schema)) == rings.get(id(node.schema)))
        }
        if ways:
            returning.add(id(node.schema))
        if not (node.parent is None and root is not referred(root)):
            found += [(node, word) for word in sorted(ways) if not _stands_alone(node.schema, word)]
    return found


def _stands_alone(schema: Schema, word: str) -> bool:
    beside = schema.keys() - {word, *DEFINITIONS, *ANNOTATIONS}
    members = schema[word] if word == "allOf" else ()
    return not beside and not (isinstance(members, list) and len(members) > 1)


def _rings(root: Schema) -> dict[int, int]:
    """For each schema that one comes to, a number: those that lead to each other have the same."""
    found: dict[int, int] = {}
    order = {id(root): 0}
    trail = [(id(root), _further(root, Node(root)))]
    waiting = [id(root)]  # for the number of their ring
    firsts = [id(root)]  # of what may be rings
    while trail:
        place, ways = trail[-1]
        following = next(ways, None)
        if following is None:
            trail.pop()
            if firsts[-1] == place:
                firsts.pop()
                while place not in found:
                    found[waiting.pop()] = order[place]
        elif (other := id(following.schema)) not in order:
            order[other] = len(order)
            trail.append((other, _further(root, following)))
            waiting.append(other)
            firsts.append(other)
        elif other not in found:
            while order[firsts[-1]] > order[other]:
                firsts.pop()
    return found


def deepest(root: Schema) -> int:
    """How many schemas one is in at most, along references, too; a ring is gone round once."""
    heights: dict[int, int] = {}  # of those that are done
    trail = [(id(root), _further(root, Node(root)))]
    below = [0]  # for each on the trail, the highest that is done in it
    seen = {id(root)}
    while True:
        place, ways = trail[-1]
        following = next(ways, None)
        if following is None:
            heights[place] = below.pop() + 1
            trail.pop()
            if not trail:
                return heights[place]
            below[-1] = max(below[-1], heights[place])
        elif id(following.schema) not in seen:
            seen.add(id(following.schema))
            trail.append((id(following.schema), _further(root, following)))
            below.append(0)
        else:
            below[-1] = max(below[-1], heights.get(id(following.schema), 0))


def _further(root: Schema, node: Node) -> Iterator[Node]:
    yield from (part for part in _within(node) if part.steps[0] not in DEFINITIONS)
    if isinstance(node.schema, dict):
        target = resolve(root, node.schema.get("$ref"))
        if isinstance(target, dict):
            yield Node(target, node)
