"""Schemas that nothing can fulfil, since each value of them would have another one in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from server.schemas.satisfiable import listed
from server.schemas.schema_tree import Node, Schema, resolve, walk


def endless(root: Schema) -> Node | None:
    """A reference on which a value has no end; None if there are values that have one.

    Parts must be schemas where they should be. It takes a step for each of them.
    """
    nodes = [node for node in walk(root) if isinstance(node.schema, dict)]
    open_needs: dict[int, int] = {}
    needed_by: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for node in nodes:
        owner = id(node.schema)
        needs = list(_needs(root, node.schema))
        open_needs[owner] = len(needs)
        for number, choices in enumerate(needs):
            for choice in choices:
                needed_by[id(choice)].append((owner, number))
    ended = [place for place, count in open_needs.items() if count == 0]
    met: set[tuple[int, int]] = set()
    for place in ended:  # which grows on the way
        for need in needed_by[place]:
            if need not in met:
                met.add(need)
                open_needs[need[0]] -= 1
                if not open_needs[need[0]]:
                    ended.append(need[0])
    if not open_needs[id(root)]:
        return None
    return next(node for node in nodes if "$ref" in node.schema and open_needs[id(node.schema)])


def _needs(root: Schema, schema: Schema) -> Iterator[list[Schema]]:
    """What a value needs a value of: of each of these lists, of one of its schemas."""
    if "enum" in schema or "const" in schema:
        return
    if "$ref" in schema:
        yield [resolve(root, schema["$ref"])]
    if "anyOf" in schema:
        yield schema["anyOf"]
    types = listed(schema.get("type"))
    if types == ["object"]:
        properties = schema.get("properties", {})
        yield from ([properties[name]] for name in schema.get("required", ()))
    if types == ["array"] and schema.get("minItems", 0) > 0:
        yield [schema["items"]]
