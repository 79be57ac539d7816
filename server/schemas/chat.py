"""Chat completions: a conversation that the client keeps itself, and what a model says to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from server.schemas.common import (
    LARGEST_INTEGER,
    Given,
    JsonObject,
    Metadata,
    ReasoningEffort,
    Shown,
    Temperature,
    TopP,
    one_of,
)
from server.schemas.response_format import JsonObjectFormat, JsonSchemaFormat, TextFormat
from server.schemas.sampling import (
    ChatSamplingOptions,
    LogitBias,
    Penalty,
    Seed,
    Stop,
)
from server.schemas.tools import ENFORCEABLE_TOGETHER, FunctionChoice, FunctionTool

MOST_CHOICES = 8
MOST_FUNCTIONS = 128
HELPERS_KEYS = frozenset({"index", "parsed", "parsed_arguments"})
NAMED_UNKNOWN = 8  # of a flood of unknown keys, those that the error names


class ChatTextPart(Given):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ChatRefusalPart(Given):
    """What the model said instead of an answer."""

    type: Literal["refusal"]
    refusal: str


class ChatImagePart(Given):
    """An image. Where it is does not matter: no model here sees."""

    type: Literal["image_url"]
    image_url: JsonObject


Part = TypeVar("Part")
Content = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[Part], Field(min_length=1, fail_fast=True), Tag("<array>")],
    one_of(expected="one of a string or array of objects"),
]
UserPart = Annotated[
    Annotated[ChatImagePart, Tag("<image_url>")] | Annotated[ChatTextPart, Tag("<text>")],
    one_of("image_url", "text"),
]
AssistantPart = Annotated[
    Annotated[ChatRefusalPart, Tag("<refusal>")] | Annotated[ChatTextPart, Tag("<text>")],
    one_of("refusal", "text"),
]
Texts = Content[ChatTextPart]
UserContent = Content[UserPart]
AssistantContent = Content[AssistantPart]


class Returned(Given):
    """Part of an answer that comes back. The SDKs' helpers leave keys of their own in it."""

    @model_validator(mode="before")
    @classmethod
    def _without_helpers_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: part for key, part in value.items() if key not in HELPERS_KEYS}


class MadeFunction(Returned):
    """A function and what it was called with: JSON as the model wrote it, which may be invalid."""

    name: str
    arguments: str


class MadeCall(Returned):
    """A call that the model made earlier in the conversation."""

    id: str
    type: Literal["function"]
    function: MadeFunction


class SystemMessage(Given):
    """Instructions. `developer` is another word for `system`; nobody is told the name."""

    role: Literal["developer", "system"]
    content: Texts
    name: str | None = None


class UserMessage(Given):
    """What a person says."""

    role: Literal["user"]
    content: UserContent
    name: str | None = None


class AssistantMessage(Returned):
    """What the model said. What an answer has comes back within the next request."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: Annotated[list[MadeCall], Field(min_length=1, fail_fast=True)] | None = None
    annotations: list[JsonObject] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Given):
    """What a call gave."""

    role: Literal["tool"]
    content: Texts
    tool_call_id: str


def _speaker(value: Any) -> str | None:
    """The tag of the message that a value claims to be, by its role."""
    role = value.get("role") if isinstance(value, dict) else None
    return "<system>" if role == "developer" else f"<{role}>"


ChatMessage = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    one_of("system", "assistant", "user", "tool", "developer", key="role", member=_speaker),
]
ChatTools = Annotated[
    list[FunctionTool],
    Field(min_length=1, max_length=MOST_FUNCTIONS, fail_fast=True),
    ENFORCEABLE_TOGETHER,
]
ChatToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<string>")]
    | Annotated[FunctionChoice, Tag("<function>")],
    one_of("function", expected="one of one of 'none', 'auto', or 'required' or object"),
]
ChatResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    one_of("json_object", "json_schema", "text"),
]
ChatFinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
CompletionLimit = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]


class StreamOptions(Given):
    """What a stream has besides its deltas. It is never obfuscated, whatever is asked."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class CreateChatCompletion(Given):
    """The body of `POST /chat/completions`.

    `store`, `metadata` and who the user is are for the hosted service, and change nothing.
    """

    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)]
    model: str
    store: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    max_tokens: CompletionLimit | None = None
    max_completion_tokens: CompletionLimit | None = None
    tools: ChatTools | None = None
    tool_choice: ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ChatResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    stop: Stop | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    x_sampling: ChatSamplingOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _recognized(cls, value: Any) -> Any:
        unknown = [key for key in value if key not in cls.model_fields]
        if unknown:
            several = "s" if len(unknown) > 1 else ""
            names = ", ".join(unknown[:NAMED_UNKNOWN])
            raise PydanticCustomError(
                "unrecognized",
                "Unrecognized request argument{several} supplied: {names}",
                {"several": several, "names": names},
            )
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatFunctionCall(Shown):
    """A function and what to call it with: JSON as the model wrote it."""

    name: str
    arguments: str


class ChatToolCall(Shown):
    """A call that the client is to make."""

    id: str
    type: Literal["function"] = "function"
    function: ChatFunctionCall


class ChatAnswer(Shown):
    """What the model said. Calls are a key only where there are any."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    tool_calls: Annotated[
        list[ChatToolCall] | None, Field(exclude_if=lambda calls: calls is None)
    ] = None
    refusal: str | None = None
    annotations: list[JsonObject] = []


class ChatChoice(Shown):
    """One answer of those that were asked for."""

    index: int
    message: ChatAnswer
    logprobs: None = None
    finish_reason: ChatFinishReason


class ChatPromptDetails(Shown):
    """Of the prompt tokens, those that needed no computing."""

    cached_tokens: int
    audio_tokens: int = 0


class ChatCompletionDetails(Shown):
    """Of the completion tokens, those that the client does not see."""

    reasoning_tokens: int
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class ChatUsage(Shown):
    """Tokens: of the prompt once, however many choices there are, and of all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: ChatPromptDetails
    completion_tokens_details: ChatCompletionDetails


class ChatCompletion(Shown):
    """The answer to `POST /chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage
    service_tier: Literal["default"] = "default"
    system_fingerprint: str
