"""The server's own tools, by the types that tools and calls have on the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

from server.chat.values import ToolCall
from server.db.stores import Record
from server.schemas import JsonObject
from server.tools import code_interpreter, file_search
from server.tools.code_interpreter import CodeInterpreter
from server.tools.file_search import FileSearch
from server.tools.tool import Answer, Answering, Kind, Scene

KINDS: Final[Mapping[str, Kind]] = {
    "file_search": file_search,
    "code_interpreter": code_interpreter,
}

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


class Toolbox:
    """The tools at work."""

    def __init__(self, search: FileSearch, code: CodeInterpreter) -> None:
        self._tools: Mapping[str, Answering] = {"file_search": search, "code_interpreter": code}
        self._code = code

    def problem(self, tools: Sequence[JsonObject]) -> str | None:
        """Why a run with these tools cannot be; None: it can."""
        needed = any(tool["type"] == "code_interpreter" for tool in tools)
        return self._code.problem if needed else None

    def answer(
        self, kind: str, calls: Sequence[ToolCall], tool: JsonObject, scene: Scene
    ) -> AsyncGenerator[Answer, None]:
        """Have a tool answer its calls of one turn, as `Answering` has it."""
        return self._tools[kind].answer(calls, tool, scene)

    async def keep(self, run: Record, name: str) -> str | None:
        """The id of a new file that is what code has left under a name; None if it is not there."""
        return await self._code.keep(run, name)

    def drop(self, run: Record, file_id: str) -> None:
        """Delete such a file: nobody was told of it."""
        self._code.drop(run, file_id)

    def forget(self, project: str, thread_id: str) -> None:
        """A thread was deleted: nothing of it may stay."""
        self._code.forget(project, thread_id)
