"""A chat completion's request to what a model is asked: one turn for each choice.

The client keeps the conversation. It is taken whole or refused: nothing of it is left away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from server import errors, schemas
from server.chat.values import ChatMessage, ToolCall
from server.engine.protocol import TRANSIENT
from server.runs.context import asked_format, tool_specs
from server.runs.models import Model
from server.runs.turns import Budget, SamplingOptions, TurnRequest

PARTS_JOINT = "\n"
INSTRUCTIONS_JOINT = "\n\n"


def require_sense(body: schemas.CreateChatCompletion) -> None:
    """Raises InvalidRequest for parts of a request that do not go together."""
    for message, param in _conflicts(body):
        raise errors.InvalidRequest(message, param)
    choice = _choice(body)
    offered = [tool.function.name for tool in body.tools or ()]
    if isinstance(choice, dict) and choice["function"]["name"] not in offered:
        raise errors.no_such_tool(choice["function"]["name"])


def _conflicts(body: schemas.CreateChatCompletion) -> Iterator[tuple[str, str]]:
    """What is wrong, and with which parameter, in the hosted API's words."""
    if body.stream_options is not None and not body.stream:
        yield _only_with("The 'stream_options' parameter", "'stream' is enabled", "stream_options")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        both = "Setting 'max_tokens' and 'max_completion_tokens' at the same time"
        yield f"{both} is not supported.", "max_tokens"
    if body.logprobs:
        yield "'logprobs' is not supported by this server.", "logprobs"
    if body.top_logprobs is not None:
        yield _only_with("The 'top_logprobs' parameter", "'logprobs' is enabled", "top_logprobs")
    if body.tools is None and _choice(body) not in ("auto", "none"):
        yield _only_with("'tool_choice'", "'tools' are specified", "tool_choice")
    if body.tools is None and body.parallel_tool_calls is not None:
        yield _only_with("'parallel_tool_calls'", "'tools' are specified", "parallel_tool_calls")


def _only_with(what: str, condition: str, param: str) -> tuple[str, str]:
    return f"{what} is only allowed when {condition}.", param


def turn_requests(
    body: schemas.CreateChatCompletion,
    messages: Sequence[ChatMessage],
    project: str,
    model: Model,
    completion_cap: int,
) -> list[TurnRequest]:
    """What a loaded model is asked for each choice. With a seed the choices have one each."""
    instructions, rest = _parted(messages)
    choice = _choice(body)
    limit = body.max_completion_tokens or body.max_tokens or completion_cap
    budget = Budget(None, limit, model.chat.context, whole=True)
    return [
        TurnRequest(
            instructions,
            [tuple(rest)] if rest else [],
            budget,
            tools=tool_specs([tool.stored() for tool in body.tools or ()], choice),
            must_call=choice not in ("auto", "none"),
            parallel_tool_calls=body.parallel_tool_calls is not False,
            response_format=_format(body),
            reasoning_effort=body.reasoning_effort,
            temperature=body.temperature,
            top_p=body.top_p,
            options=_options(body, number),
            common_instructions=instructions or "",
            cache_scope=project,
            cache_owner=_conversation(instructions, rest),
        )
        for number in range(body.n or 1)
    ]


def conversation_of(body: schemas.CreateChatCompletion) -> list[ChatMessage]:
    """The messages as a model is told them. Raises InvalidRequest where one has no sense."""
    messages: list[ChatMessage] = []
    unanswered: dict[str, str] = {}  # the names of called functions, by the ids of their calls
    asked_at = 0
    for place, message in enumerate(body.messages):
        if isinstance(message, schemas.ToolMessage):
            messages.append(_output(message, place, unanswered))
            continue
        _require_answered(unanswered, asked_at)
        messages.append(_told(message, place, body.model))
        unanswered = {call.id: call.name for call in messages[-1].tool_calls}
        asked_at = place
    _require_answered(unanswered, asked_at)
    return messages


def _require_answered(calls: dict[str, str], place: int) -> None:
    if calls:
        raise errors.InvalidRequest(
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            f"{', '.join(calls)}",
            f"messages.[{place}].role",
        )


def _output(message: schemas.ToolMessage, place: int, calls: dict[str, str]) -> ChatMessage:
    name = calls.pop(message.tool_call_id, None)
    if name is None:
        raise errors.InvalidRequest(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
            "message with 'tool_calls'.",
            f"messages.[{place}].role",
        )
    return ChatMessage("tool", _text(message.content), tool_call_id=message.tool_call_id, name=name)


def _told(
    message: schemas.SystemMessage | schemas.UserMessage | schemas.AssistantMessage,
    place: int,
    model: str,
) -> ChatMessage:
    if isinstance(message, schemas.AssistantMessage):
        return _answered(message, place)
    if isinstance(message, schemas.SystemMessage):
        return ChatMessage("system", _text(message.content))
    _require_no_image(message, place, model)
    return ChatMessage("user", _text(message.content))


def _require_no_image(message: schemas.UserMessage, place: int, model: str) -> None:
    parts = () if isinstance(message.content, str) else message.content
    for number, part in enumerate(parts):
        if isinstance(part, schemas.ChatImagePart):
            raise errors.InvalidRequest(
                f"The model '{model}' cannot see images.", f"messages[{place}].content[{number}]"
            )


def _answered(message: schemas.AssistantMessage, place: int) -> ChatMessage:
    said = message.refusal if message.content is None else _text(message.content)
    if said is None and message.tool_calls is None:
        param = f"messages[{place}].content"
        raise errors.InvalidRequest(
            f"Invalid value for '{param}': expected a string, got null.", param
        )
    calls = tuple(
        ToolCall(call.id, call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
    )
    return ChatMessage("assistant", said or "", calls)


def _text(content: str | Sequence[Any]) -> str:
    return content if isinstance(content, str) else PARTS_JOINT.join(map(_said, content))


def _said(part: Any) -> str:
    text: str = part.text if isinstance(part, schemas.ChatTextPart) else part.refusal
    return text


def _parted(messages: Sequence[ChatMessage]) -> tuple[str | None, Sequence[ChatMessage]]:
    """The instructions that a conversation begins with, in one, and the rest."""
    leading = 0
    while leading < len(messages) and messages[leading].role == "system":
        leading += 1
    told = [message.content for message in messages[:leading]]
    return INSTRUCTIONS_JOINT.join(told) or None, messages[leading:]


def _conversation(instructions: str | None, messages: Sequence[ChatMessage]) -> str:
    """Whose what was computed is: that of all requests which begin alike."""
    beginning = (instructions, messages[0].content if messages else "")
    return TRANSIENT + hashlib.sha256(repr(beginning).encode()).hexdigest()[:32]


def _choice(body: schemas.CreateChatCompletion) -> Any:
    chosen = body.tool_choice or "auto"
    return chosen if isinstance(chosen, str) else chosen.stored()


def _format(body: schemas.CreateChatCompletion) -> dict[str, Any] | None:
    given = body.response_format
    return asked_format(given.model_dump(exclude_unset=True)) if given is not None else None


def _options(body: schemas.CreateChatCompletion, number: int) -> SamplingOptions:
    more = body.x_sampling
    return SamplingOptions(
        top_k=more.top_k if more else None,
        min_p=more.min_p if more else None,
        seed=None if body.seed is None else _nth_seed(body.seed, number),
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=more.repetition_penalty if more else None,
        stop=body.stops,
        logit_bias=body.logit_bias or {},
    )


def _nth_seed(seed: int, number: int) -> int:
    """Choices with one seed would all be the same; after the largest comes the smallest."""
    return (seed + number + 2**63) % 2**64 - 2**63
