"""Schemas that nothing can fulfil, since each value of them would have another one in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from server.schemas.satisfiable import listed
from server.schemas.schema_tree import Node, Schema, resolve, walk

Place = tuple[int, str | None]  # a schema, or what it says of one type


def endless(root: Schema) -> Node | None:
    """A reference on which a value has no end; None if there are values that have one.

    Parts must be schemas where they should be. It takes a step for each of them.
    """
    nodes = [node for node in walk(root) if isinstance(node.schema, dict)]
    open_needs: dict[Place, int] = {}
    needed_by: defaultdict[Place, list[tuple[Place, int]]] = defaultdict(list)
    for node in nodes:
        for owner, needs in _needs(root, node.schema):
            open_needs[owner] = len(needs)
            for number, choices in enumerate(needs):
                for choice in choices:
                    needed_by[choice].append((owner, number))
    ended = [place for place, count in open_needs.items() if count == 0]
    met: set[tuple[Place, int]] = set()
    for place in ended:  # which grows on the way
        for need in needed_by[place]:
            if need not in met:
                met.add(need)
                open_needs[need[0]] -= 1
                if not open_needs[need[0]]:
                    ended.append(need[0])
    if not open_needs[_whole(root)]:
        return None
    return next(node for node in nodes if "$ref" in node.schema and open_needs[_whole(node.schema)])


def _whole(schema: Schema) -> Place:
    return id(schema), None


def _needs(root: Schema, schema: Schema) -> Iterator[tuple[Place, list[list[Place]]]]:
    """What a value needs, and what it needs if it is of one of its types.

    Of each list one place must have an end.
    """
    if "enum" in schema or "const" in schema:
        yield _whole(schema), []
        return
    needs = []
    if "$ref" in schema:
        needs.append([_whole(resolve(root, schema["$ref"]))])
    if "anyOf" in schema:
        needs.append(list(map(_whole, schema["anyOf"])))
    if "type" in schema:
        kinds = listed(schema["type"])
        needs.append([(id(schema), kind) for kind in kinds])
        for kind in kinds:
            yield (id(schema), kind), [[_whole(part)] for part in _parts(schema, kind)]
    yield _whole(schema), needs


def _parts(schema: Schema, kind: str) -> Iterator[Schema]:
    """What each value of this type has in it."""
    if kind == "object":
        properties = schema.get("properties", {})
        yield from (properties[name] for name in schema.get("required", ()))
    if kind == "array" and schema.get("minItems", 0) > 0:
        yield schema["items"]
