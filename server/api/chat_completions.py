"""`/v1/chat/completions`: a conversation in one request, answered at once or as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from server import errors, schemas
from server.api.connection import ClientConnection, Connected
from server.api.deps import Caller, Server
from server.api.errors import error_body
from server.api.respond import wire
from server.api.route import WireRoute
from server.api.sse import chunk_stream
from server.config import StreamsSettings
from server.runs.chunks import DONE, Chunks, error_chunk
from server.runs.completion import Choice, Completion

router = APIRouter(prefix="/v1/chat/completions", route_class=WireRoute)


@router.post("", operation_id="createChatCompletion", response_model=schemas.ChatCompletion)
async def create(
    body: schemas.CreateChatCompletion, caller: Caller, server: Server, connection: Connected
) -> Response:
    completion = server.completions.create(caller.project, body, caller.allowance)
    head = {"id": completion.id, "created": server.clock.now(), "model": body.model}
    if not body.stream:
        return await _whole(completion, head, connection)
    with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    await _begun(completion, connection)
    return _stream(completion, head, server.streams, with_usage=with_usage)


async def _whole(
    completion: Completion, head: dict[str, Any], connection: ClientConnection
) -> Response:
    with closing(completion):
        await connection.unless_closed(_read(completion))
    choices = [_shown(choice) for choice in completion.choices]
    return wire(
        schemas.ChatCompletion(
            **head,
            choices=choices,
            usage=completion.usage,
            system_fingerprint=completion.fingerprint,
        )
    )


async def _read(completion: Completion) -> None:
    await completion.begun()
    async for _ in completion:
        pass


def _shown(choice: Choice) -> schemas.ChatChoice:
    text = "".join(choice.text)
    calls = [
        schemas.ChatToolCall(
            id=call.id,
            function=schemas.ChatFunctionCall(name=call.name, arguments=call.arguments),
        )
        for call in choice.calls
    ]
    message = schemas.ChatAnswer(content=text or (None if calls else ""), tool_calls=calls or None)
    return schemas.ChatChoice(
        index=choice.index, message=message, finish_reason=choice.finish_reason
    )


async def _begun(completion: Completion, connection: ClientConnection) -> None:
    """Until something is written, an error is an answer of its own."""
    try:
        await connection.unless_closed(completion.begun())
    except BaseException:  # whatever it is, also a cancellation
        completion.close()
        raise


def _stream(
    completion: Completion, head: dict[str, Any], settings: StreamsSettings, *, with_usage: bool
) -> Response:
    named = {
        "id": completion.id,
        "object": "chat.completion.chunk",
        **head,
        "service_tier": "default",
        "system_fingerprint": completion.fingerprint,
    }
    chunks = Chunks(named, with_usage=with_usage)
    return chunk_stream(_events(completion, chunks), settings, when_over=completion.close)


async def _events(completion: Completion, chunks: Chunks) -> AsyncGenerator[bytes, None]:
    try:
        async for written in completion:
            yield chunks.of(written)
    except errors.WireError as error:
        yield error_chunk(error_body(error))
    else:
        if chunks.with_usage:
            yield chunks.last(completion.usage)
    yield DONE
