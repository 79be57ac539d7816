"""Assistants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from server.schemas.common import (
    Describes,
    Given,
    JsonObject,
    Metadata,
    ReasoningEffort,
    Shown,
    Temperature,
    TopP,
)
from server.schemas.response_format import ResponseFormat, stored_format
from server.schemas.tools import (
    ENFORCEABLE_TOGETHER,
    NewToolResources,
    Tool,
    ToolResources,
    merge_resources,
)

Name = Annotated[str, Field(max_length=256)]
Description = Annotated[str, Field(max_length=512)]
Instructions = Annotated[str, Field(max_length=256_000)]
AssistantTools = Annotated[list[Tool], Field(max_length=128, fail_fast=True), ENFORCEABLE_TOGETHER]


class AssistantRow(Protocol):
    """What a modification needs to know of the assistant as it is."""

    @property
    def tools(self) -> list[Any]: ...
    @property
    def tool_resources(self) -> Mapping[str, Any]: ...


class AssistantFields(Given):
    """What a client decides on."""

    model: str = ""
    name: Name | None = None
    description: Description | None = None
    instructions: Instructions | None = None
    reasoning_effort: ReasoningEffort | None = None
    tools: AssistantTools = []
    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    response_format: ResponseFormat | None = None

    def stored(self) -> JsonObject:
        """Their columns, with the default where nothing or null was given."""
        tools = [tool.stored() for tool in self.tools]
        resources = self.tool_resources.stored() if self.tool_resources else {}
        return {
            "name": self.name,
            "description": self.description,
            "model": self.model,
            "instructions": self.instructions,
            "tools": tools,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "reasoning_effort": self.reasoning_effort,
            "tool_resources": merge_resources(tools, resources),
            "metadata": self.metadata or {},
            "response_format": stored_format(self.response_format),
        }


class CreateAssistant(AssistantFields):
    """The body of `POST /assistants`."""

    model: str
    tool_resources: NewToolResources | None = None


class ModifyAssistant(AssistantFields):
    """The body of `POST /assistants/{assistant_id}`: a key that is absent changes nothing."""

    # A client that is generated from the document would send what it says is the default.
    model: Annotated[str, Field(json_schema_extra=lambda schema: schema.pop("default", None))] = ""

    def changes(self, current: AssistantRow) -> JsonObject:
        """The columns to set. Null gives back the default; resources are replaced tool by tool."""
        stored = self.stored()
        changed = {name: stored[name] for name in self.model_fields_set}
        if self.model_fields_set & {"tools", "tool_resources"}:
            tools = changed.get("tools", current.tools)
            kept = {} if self._drops_resources() else current.tool_resources
            given = self.tool_resources.stored() if self.tool_resources else {}
            changed["tool_resources"] = merge_resources(tools, kept, given)
        return changed

    def _drops_resources(self) -> bool:
        return self.given("tool_resources") and self.tool_resources is None


class Assistant(Shown):
    """An assistant."""

    id: str
    object: Literal["assistant"] = "assistant"
    created_at: int
    name: str | None
    description: str | None
    model: str
    instructions: str | None
    tools: Annotated[list[Any], Describes(list[Tool])]
    top_p: float | None
    temperature: float | None
    reasoning_effort: str | None
    tool_resources: Annotated[JsonObject, Describes(ToolResources)]
    metadata: Annotated[dict[str, str], Describes(Metadata)]
    response_format: Annotated[Any, Describes(ResponseFormat)]


class AssistantDeleted(Shown):
    """The answer to deleting an assistant."""

    id: str
    object: Literal["assistant.deleted"] = "assistant.deleted"
    deleted: bool = True
