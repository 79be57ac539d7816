"""What streams carry, for the published document alone: they are written straight to bytes.

A delta has what has changed, and no key for what has not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Required

from pydantic import BaseModel, Field, GetJsonSchemaHandler, RootModel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypedDict  # that of `typing` is too old before Python 3.12

from server.schemas.chat import ChatFinishReason, ChatUsage
from server.schemas.common import JsonObject, Shown
from server.schemas.errors import ErrorBody
from server.schemas.messages import ImageFile, ImageUrl, Message, NamedFile, Role
from server.schemas.runs import Run
from server.schemas.steps import MessageCreation, RunStep
from server.schemas.threads import Thread

Place = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class _AsText:
    """JSON on one line, as the data of an event is."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = {"type": "string", "contentMediaType": "application/json"}
        return {**described, "contentSchema": handler(schema)}


AS_TEXT = _AsText()


class QuotedFile(TypedDict, total=False):
    """A file that is cited."""

    file_id: Required[str]
    quote: str


class AnnotationDelta(TypedDict, total=False):
    """Part of a text, and what it refers to; its place is in code points of the whole text."""

    index: Required[int]
    type: Required[Literal["file_citation", "file_path"]]
    text: str
    start_index: Place
    end_index: Place
    file_citation: QuotedFile
    file_path: NamedFile


class WrittenText(TypedDict, total=False):
    """The next piece of a text, and what of it refers to something."""

    value: str
    annotations: list[AnnotationDelta]


class ContentDelta(TypedDict, total=False):
    """What comes to one part of a message; `index` tells which."""

    index: Required[int]
    type: Required[Literal["text", "image_file", "image_url", "refusal"]]
    text: WrittenText
    image_file: ImageFile
    image_url: ImageUrl
    refusal: str


class MessageChange(TypedDict, total=False):
    """What of a message has changed."""

    role: Role
    content: list[ContentDelta]


class MessageDelta(BaseModel):
    """A piece of a message that is being written."""

    id: str
    object: Literal["thread.message.delta"]
    delta: MessageChange


class OutputDelta(TypedDict, total=False):
    """One output of code; `index` tells which."""

    index: Required[int]
    type: Required[Literal["logs", "image"]]
    logs: str
    image: NamedFile


class CodeDelta(TypedDict, total=False):
    """More of the code, or of what came out of it."""

    input: str
    outputs: list[OutputDelta]


class FunctionDelta(TypedDict, total=False):
    """A function as its call begins, then more of what to call it with."""

    name: str
    arguments: str
    output: str | None


class CallDelta(TypedDict, total=False):
    """What comes to one call of a step; `index` tells which. Its id is told once."""

    index: Required[int]
    id: str
    type: Required[Literal["code_interpreter", "file_search", "function"]]
    code_interpreter: CodeDelta
    file_search: JsonObject
    function: FunctionDelta


class CallsDelta(TypedDict, total=False):
    """What comes to the calls of a step."""

    type: Required[Literal["tool_calls"]]
    tool_calls: list[CallDelta]


class StepChange(TypedDict, total=False):
    """What of a step has changed."""

    step_details: MessageCreation | CallsDelta


class RunStepDelta(BaseModel):
    """A piece of a step that is being written."""

    id: str
    object: Literal["thread.run.step.delta"]
    delta: StepChange


class ThreadEvent(BaseModel):
    """The thread of a run that came with one."""

    event: Literal["thread.created"]
    data: Annotated[Thread, AS_TEXT]


class RunEvent(BaseModel):
    """A run in a new state."""

    event: Literal[
        "thread.run.created",
        "thread.run.queued",
        "thread.run.in_progress",
        "thread.run.requires_action",
        "thread.run.completed",
        "thread.run.incomplete",
        "thread.run.failed",
        "thread.run.cancelling",
        "thread.run.cancelled",
        "thread.run.expired",
    ]
    data: Annotated[Run, AS_TEXT]


class StepEvent(BaseModel):
    """A step in a new state."""

    event: Literal[
        "thread.run.step.created",
        "thread.run.step.in_progress",
        "thread.run.step.completed",
        "thread.run.step.failed",
        "thread.run.step.cancelled",
        "thread.run.step.expired",
    ]
    data: Annotated[RunStep, AS_TEXT]


class StepDeltaEvent(BaseModel):
    """More of a step."""

    event: Literal["thread.run.step.delta"]
    data: Annotated[RunStepDelta, AS_TEXT]


class MessageEvent(BaseModel):
    """A message in a new state."""

    event: Literal[
        "thread.message.created",
        "thread.message.in_progress",
        "thread.message.completed",
        "thread.message.incomplete",
    ]
    data: Annotated[Message, AS_TEXT]


class MessageDeltaEvent(BaseModel):
    """More of a message."""

    event: Literal["thread.message.delta"]
    data: Annotated[MessageDelta, AS_TEXT]


class ErrorEvent(BaseModel):
    """Why a stream ends before its run does."""

    event: Literal["error"]
    data: Annotated[ErrorBody, AS_TEXT]


class DoneEvent(BaseModel):
    """The last one of every stream. Its data is no JSON."""

    event: Literal["done"]
    data: Literal["[DONE]"]


class AssistantStreamEvent(
    RootModel[
        Annotated[
            ThreadEvent
            | RunEvent
            | StepEvent
            | StepDeltaEvent
            | MessageEvent
            | MessageDeltaEvent
            | ErrorEvent
            | DoneEvent,
            Field(discriminator="event"),
        ]
    ]
):
    """One event of a run's stream."""


class ChunkFunction(TypedDict, total=False):
    """The function of a call as it begins, then more of what to call it with."""

    name: str
    arguments: str


class ChunkCall(TypedDict, total=False):
    """What comes to one call; `index` tells which. Its id and type are told once."""

    index: Required[int]
    id: str
    type: Literal["function"]
    function: ChunkFunction


class ChunkDelta(TypedDict, total=False):
    """More of an answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    tool_calls: list[ChunkCall]


class ChunkChoice(Shown):
    """What comes to one choice; `index` tells which."""

    index: int
    delta: ChunkDelta
    logprobs: None = None
    finish_reason: ChatFinishReason | None


class ChatCompletionChunk(TypedDict, total=False):
    """A piece of a chat completion. With usage it is null in all chunks but the last."""

    id: Required[str]
    object: Required[Literal["chat.completion.chunk"]]
    created: Required[int]
    model: Required[str]
    service_tier: Required[Literal["default"]]
    system_fingerprint: Required[str]
    choices: Required[list[ChunkChoice]]
    usage: ChatUsage | None


class ChatCompletionStreamEvent(BaseModel):
    """One event of a chat completion's stream, which has no name. An error ends it, too."""

    data: Annotated[ChatCompletionChunk | ErrorBody, AS_TEXT] | Literal["[DONE]"]
