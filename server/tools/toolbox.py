"""The server's own tools, by the types that tools and calls have on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from server.schemas import JsonObject
from server.tools import file_search
from server.tools.tool import Kind

KINDS: Final[Mapping[str, Kind]] = {"file_search": file_search}

OwnTools = Mapping[str, JsonObject]  # what is configured, by the names that the model knows


def name_of(kind: str, tools: Sequence[JsonObject]) -> str:
    """What a model with these tools calls one of the server's; also one that is not among them."""
    functions = {tool["function"]["name"] for tool in tools if tool["type"] == "function"}
    return next(name for name in KINDS[kind].names() if name not in functions)


def own_tools(tools: Sequence[JsonObject]) -> OwnTools:
    """Those of a run's tools that the server itself runs; of several of a kind the first."""
    return {
        name_of(kind, tools): tool
        for kind in KINDS
        for tool in reversed(tools)
        if tool["type"] == kind
    }
