"""List parameters to the slice of a store."""

from __future__ import annotations

from server import schemas
from server.db.stores import Slice


def part_of(query: schemas.ListQuery) -> Slice:
    """The part of the list that the query asks for."""
    return Slice(query.limit, query.order, query.after, query.before)
