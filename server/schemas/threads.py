"""Threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from server.schemas.common import Describes, Given, JsonObject, Metadata, Shown
from server.schemas.messages import NewMessages
from server.schemas.tools import NewToolResources, ToolResources, merge_resources


class ThreadRow(Protocol):
    """What a modification needs to know of the thread as it is."""

    @property
    def tool_resources(self) -> Mapping[str, Any]: ...


class CreateThread(Given):
    """The body of `POST /threads`, and the thread of `POST /threads/runs`."""

    messages: NewMessages = []
    tool_resources: NewToolResources | None = None
    metadata: Metadata | None = None

    def stored(self) -> JsonObject:
        """The columns of the new thread that a client decides on; its messages have their own."""
        resources = self.tool_resources.stored() if self.tool_resources else {}
        return {"metadata": self.metadata or {}, "tool_resources": merge_resources((), resources)}


class ModifyThread(Given):
    """The body of `POST /threads/{thread_id}`: a key that is absent changes nothing."""

    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None

    def changes(self, current: ThreadRow) -> JsonObject:
        """The columns to set. Null empties; resources are replaced tool by tool."""
        changed: JsonObject = {}
        if self.given("tool_resources"):
            changed["tool_resources"] = (
                merge_resources((), current.tool_resources, self.tool_resources.stored())
                if self.tool_resources
                else {}
            )
        if self.given("metadata"):
            changed["metadata"] = self.metadata or {}
        return changed


class Thread(Shown):
    """A thread."""

    id: str
    object: Literal["thread"] = "thread"
    created_at: int
    metadata: Annotated[dict[str, str], Describes(Metadata)]
    tool_resources: Annotated[JsonObject, Describes(ToolResources)]


class ThreadDeleted(Shown):
    """The answer to deleting a thread."""

    id: str
    object: Literal["thread.deleted"] = "thread.deleted"
    deleted: bool = True
