"""`POST /v1/chat/completions`, on a model that says what it is told to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.engine.protocol import (
    TRANSIENT,
    EngineCrashed,
    EngineUnavailable,
    GrammarRefused,
    InvalidRequest,
    RateLimited,
    Sampling,
)
from server.engine.scripted import DEFAULT_ANSWER, SCRIPTED_MODEL, ScriptedEngine
from server.runs.local import UNENFORCEABLE
from tests.api.wire import CALL, CALLS, HELLO, Json, answer_of, error_of, letter_counter, refused
from tests.covering import covers
from tests.endpoint import counted, scripted_endpoint
from tests.support import DEADLINE, LiveServer, eventually, live_server

ROUTE = "POST /v1/chat/completions"
URL = "/v1/chat/completions"
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
TOOLS = [ADD, {"type": "function", "function": {"name": "f"}}]
ASKS = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
SCHEMA_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "n",
        "strict": True,
        "schema": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}


async def post(http: httpx.AsyncClient, *messages: Json, **fields: Any) -> httpx.Response:
    """Ask for a completion, of one message if none is given."""
    body = {"model": "gpt-4o", "messages": list(messages) or [HELLO], **fields}
    return await http.post(URL, json=body)


async def said(http: httpx.AsyncClient, *messages: Json, **fields: Any) -> Json:
    """The one choice of a completion."""
    (choice,) = answer_of(await post(http, *messages, **fields))["choices"]
    return dict(choice)


async def stream(http: httpx.AsyncClient, *messages: Json, **fields: Any) -> list[Json]:
    """The chunks of a stream, which ends as it must."""
    response = await post(http, *messages, stream=True, **fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return chunks_of(response.text)


def chunks_of(text: str) -> list[Json]:
    """What a stream says, strictly in the hosted API's form: nothing but `data:` lines."""
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(re.fullmatch("data: .*", event) for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def deltas(chunks: list[Json], index: int = 0) -> list[Json]:
    """What a stream adds to one choice."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return [choice["delta"] for choice in choices if choice["index"] == index]


async def live(engine: ScriptedEngine) -> int:
    """How many generations are running."""
    return engine.stats.live


DEFAULTS = (
    "store metadata user safety_identifier prompt_cache_key stream stream_options n max_tokens "
    "max_completion_tokens tools tool_choice parallel_tool_calls response_format reasoning_effort "
    "temperature top_p seed presence_penalty frequency_penalty logit_bias stop logprobs "
    "top_logprobs x_sampling"
)


@covers(ROUTE, "answer model messages", "taken")
@covers(ROUTE, DEFAULTS, "default")
@covers("UserMessage", "content", "taken")
@covers("UserMessage", "name", "default")
async def test_an_answer(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """Under the name that was asked for, with the tokens it took, in the order of the wire."""
    answer = answer_of(await post(http))
    assert (answer["object"], answer["model"]) == ("chat.completion", "gpt-4o")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": DEFAULT_ANSWER,
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    prompt, completion = len(engine.requests[0].prompt), len(DEFAULT_ANSWER) + 1
    assert answer["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    assert re.fullmatch("fp_[0-9a-f]{10}", answer["system_fingerprint"])
    (request,) = engine.requests
    assert engine.prompts == ["<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"]
    assert (request.sampling, request.grammar) == (Sampling(), "")
    assert (request.max_tokens, request.cache_scope) == (2048, "default")


async def test_conversations_are_kept_apart_and_on_no_disk(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    """One that goes on is the one that began so; another beginning is another one."""
    first = {"role": "user", "content": "Hello!"}
    more = [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And?"}]
    for messages in ([first], [first, *more], [{**first, "content": "Goodbye!"}]):
        await client.chat.completions.create(model="gpt-4o", messages=messages)  # type: ignore
    owners = [request.cache_owner for request in engine.requests]
    assert owners[0] == owners[1] != owners[2]
    assert all(owner.startswith(TRANSIENT) for owner in owners)


@covers("SystemMessage", "role content", "taken", "limit")
@covers("AssistantMessage", "content tool_calls", "taken")
@covers("AssistantMessage", "refusal name tool_calls annotations audio function_call", "default")
@covers("MadeCall", "id function", "taken")
@covers("MadeFunction", "name arguments", "taken")
@covers("ToolMessage", "content tool_call_id", "taken")
@covers("ChatTextPart", "text", "taken")
@covers("ChatRefusalPart", "refusal", "taken")
async def test_a_conversation_is_told_as_it_is(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    """All roles, texts and parts; instructions that it begins with are one."""
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    await said(
        http,
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": parts},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Then call."},
        {**CALLS, "content": None},
        {"role": "tool", "tool_call_id": "call_1", "content": parts},
        {"role": "system", "content": "Be briefer."},
    )
    turns = [
        "system\nBe brief.\n\nOne\ntwo",
        "user\nOne\ntwo",
        "assistant\nNo.",
        "user\nThen call.",
        'assistant\n\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
        "user\n<tool_response>\nOne\ntwo\n</tool_response>",
        "system\nBe briefer.",
    ]
    expected = "".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in turns)
    assert engine.prompts == [f"{expected}<|im_start|>assistant\n"]


@covers(ROUTE, "store metadata user safety_identifier prompt_cache_key logprobs", "taken")
@covers("SystemMessage", "name", "taken", "default")
@covers("UserMessage", "name", "taken")
@covers("AssistantMessage", "name refusal annotations audio function_call", "taken")
@covers("AssistantMessage", "content", "default")
async def test_what_changes_nothing(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """What is for the hosted service, participants' names, and what an answer brought with it."""
    system, answer = {"role": "system", "content": "S"}, {"role": "assistant", "content": "A"}
    await said(http, system, answer, HELLO)
    await said(
        http,
        {**system, "name": "ada"},
        {**answer, "refusal": None, "annotations": [], "audio": None, "function_call": None},
        {**HELLO, "name": "bob"},
        store=True,
        metadata={"a": "b"},
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        logprobs=False,
    )
    await said(http, system, {"role": "assistant", "refusal": "A", "name": "eve"}, HELLO)
    await said(http, system, {**answer, "parsed": {"a": 1}}, HELLO)
    assert len(set(engine.prompts)) == 1
    assert engine.requests[0] == engine.requests[1]


ALL = {
    "temperature": 0.5,
    "top_p": 0.25,
    "seed": 42,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"17": -100, "18": 1.5},
    "x_sampling": {"top_k": 7, "min_p": 0.1, "repetition_penalty": 1.1},
}


@covers(ROUTE, " ".join([*ALL, "stop", "reasoning_effort"]), "taken")
@covers("ChatSamplingOptions", "top_k min_p repetition_penalty", "taken", "default")
async def test_how_tokens_are_chosen(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """All of it reaches the model; without it the model's defaults hold."""
    for stop in ("END", ["\n\n", "END"]):
        engine.says("One END two\n\n")
        choice = await said(http, **ALL, stop=stop, reasoning_effort="low")
        assert (choice["message"]["content"], choice["finish_reason"]) == ("One ", "stop")
    await said(http, x_sampling={"top_k": 3})
    full, again, other = engine.requests
    expected = Sampling(
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        min_p=0.1,
        seed=42,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.1,
        logit_bias=((17, -100), (18, 1.5)),
    )
    assert [full.sampling, again.sampling] == [expected] * 2
    assert other.sampling == replace(Sampling(), top_k=3)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        pytest.param(name, good, bad, marks=covers(*where, "limit", "error"))
        for name, where, good, bad in [
            ("seed", (ROUTE, "seed"), [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63, 0.5]),
            (
                "stop",
                (ROUTE, "stop"),
                ["a", [], ["a"] * 16, "a" * 256],
                ["", ["a"] * 17, "a" * 257, [""], [1]],
            ),
            (
                "logit_bias",
                (ROUTE, "logit_bias"),
                [{}, {"0": 100, "1": -100}],
                [{"a": 1}, {"1": 101}, {str(n): 1 for n in range(1025)}],
            ),
            ("tools", (ROUTE, "tools"), [[ADD], [ADD] * 128], [[], [ADD] * 129]),
            (
                "x_sampling",
                ("ChatSamplingOptions", "top_k min_p repetition_penalty"),
                [
                    {"top_k": 0, "min_p": 0, "repetition_penalty": 0.01},
                    {"top_k": 2**31 - 1, "min_p": 1, "repetition_penalty": 10},
                ],
                [
                    *({"top_k": wrong} for wrong in (-1, 2**31)),
                    *({"min_p": wrong} for wrong in (-0.1, 1.1)),
                    *({"repetition_penalty": wrong} for wrong in (0, 10.1)),
                    {"seed": 1},
                ],
            ),
            ("messages", (ROUTE, "messages"), [[HELLO] * 3], [[], [{}], [7]]),
        ]
    ],
)
async def test_limits(http: httpx.AsyncClient, name: str, good: list[Any], bad: list[Any]) -> None:
    """What is just within is taken; what is beyond is refused by its name."""
    for value in good:  # so many functions would be too long a prompt
        answer_of(await post(http, **{"tool_choice": "none", name: value}))
    for value in bad:
        assert error_of(await post(http, **{name: value}))["param"].startswith(name)


@covers(ROUTE, "max_tokens max_completion_tokens", "taken")
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_that_is_cut_off(http: httpx.AsyncClient, name: str) -> None:
    """By either limit, but not by both."""
    choice = await said(http, **{name: 5})
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "length")
    refused(
        await post(http, max_tokens=5, max_completion_tokens=5),
        "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        "max_tokens",
        None,
    )


@covers(ROUTE, "tools", "taken")
async def test_calls(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """Each has an id of its own; text before them is kept, text between them is not."""
    engine.says(f"Let me see.\n{ASKS}\n{ASKS}\nDone.")
    choice = await said(http, tools=TOOLS)
    message = choice["message"]
    assert list(message) == ["role", "content", "tool_calls", "refusal", "annotations"]
    first, second = message["tool_calls"]
    assert first == {
        "id": first["id"],
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 1}'},
    }
    assert {**second, "id": first["id"]} == first
    assert all(re.fullmatch("call_[A-Za-z0-9]{24}", each["id"]) for each in (first, second))
    assert first["id"] != second["id"]
    assert (message["content"].rstrip(), choice["finish_reason"]) == ("Let me see.", "tool_calls")
    engine.calls("f", {})
    assert (await said(http, tools=TOOLS))["message"]["content"] is None


@covers(ROUTE, "parallel_tool_calls", "taken")
async def test_one_call_a_turn(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """A second one is not waited for."""
    engine.says(f"{ASKS}\n{ASKS}", pause_after=12)
    choice = await said(http, tools=TOOLS, parallel_tool_calls=False)
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"


@covers(ROUTE, "tool_choice", "taken")
async def test_tool_choices(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """None is told of no functions; a named one is told alone; a call that must come is forced."""
    for choice in (
        "auto",
        "none",
        "required",
        {"type": "function", "function": {"name": "add"}},
    ):
        await said(http, tools=TOOLS, tool_choice=choice)
    told = [("add" in prompt, '"f"' in prompt) for prompt in engine.prompts]
    assert told == [(True, True), (False, False), (True, True), (True, False)]
    free, none, forced, named = (request.grammar for request in engine.requests)
    assert none == ""
    assert len({free, forced, named}) == 3


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        pytest.param(fields, message, param, marks=covers(ROUTE, param, "error", "limit"))
        for fields, message, param in [
            (
                {"tool_choice": "required"},
                "'tool_choice' is only allowed when 'tools' are specified.",
                "tool_choice",
            ),
            (
                {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [ADD]},
                "Tool choice 'g' not found in 'tools' parameter.",
                "tool_choice",
            ),
            (
                {"parallel_tool_calls": True},
                "'parallel_tool_calls' is only allowed when 'tools' are specified.",
                "parallel_tool_calls",
            ),
            (
                {"stream_options": {"include_usage": True}},
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                "stream_options",
            ),
            ({"logprobs": True}, "'logprobs' is not supported by this server.", "logprobs"),
            (
                {"top_logprobs": 0},
                "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
                "top_logprobs",
            ),
        ]
    ],
)
async def test_what_does_not_go_together(
    http: httpx.AsyncClient, fields: Json, message: str, param: str
) -> None:
    """In the hosted API's words."""
    refused(await post(http, **fields), message, param, None)


@covers(ROUTE, "top_logprobs", "taken", "limit")
async def test_what_is_not_there(http: httpx.AsyncClient) -> None:
    """Null is as good as nothing; a number beyond the range is told before all else."""
    answer_of(await post(http, top_logprobs=None))
    assert error_of(await post(http, top_logprobs=21))["code"] == "integer_above_max_value"
    assert error_of(await post(http, top_logprobs=20))["param"] == "top_logprobs"


async def test_unknown_arguments(http: httpx.AsyncClient) -> None:
    """In the words that this endpoint has for its own keys, and in the usual ones below them."""
    refused(
        await post(http, foo=1, bar=None),
        "Unrecognized request arguments supplied: foo, bar",
        None,
        None,
    )
    refused(
        await post(http, {**HELLO, "foo": 1}),
        "Unknown parameter: 'messages[0].foo'.",
        "messages[0].foo",
        "unknown_parameter",
    )
    many = error_of(await post(http, **{f"k{number}": 1 for number in range(1000)}))
    assert len(many["message"]) < 200


@covers(ROUTE, "response_format", "taken")
async def test_forms(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """What must be JSON is held to a grammar; a strict schema must be enforceable."""
    for form in ({"type": "text"}, {"type": "json_object"}, SCHEMA_FORMAT):
        await said(http, response_format=form)
    text, any_object, schema = (request.grammar for request in engine.requests)
    assert text == ""
    assert any_object
    assert schema not in ("", any_object)
    open_schema = {"name": "n", "strict": True, "schema": {"type": "object"}}
    form = {"type": "json_schema", "json_schema": open_schema}
    error = error_of(await post(http, response_format=form))
    assert error["param"] == "response_format"
    assert error["message"].startswith("Invalid schema for response_format 'n'")


@covers(ROUTE, "n", "taken")
async def test_several_choices(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """Written at once, each with a seed of its own; the prompt is counted once."""
    for number in range(3):
        engine.says(f"Answer {number}.")
    answer = answer_of(await post(http, n=3, seed=2**63 - 2))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    told = {choice["message"]["content"] for choice in answer["choices"]}
    assert told == {"Answer 0.", "Answer 1.", "Answer 2."}
    assert len({request.sampling.seed for request in engine.requests}) == 3
    assert answer["usage"]["prompt_tokens"] == len(engine.requests[0].prompt)
    assert answer["usage"]["completion_tokens"] == 3 * (len("Answer 0.") + 1)


@covers(ROUTE, "stream", "taken")
@covers("StreamOptions", "include_usage include_obfuscation", "default")
async def test_a_stream(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """First who speaks, then the text as it is written, last why it ended."""
    engine.says(pieces=["One", " two", " \N{SNOWMAN}"])
    chunks = await stream(http)
    heads = [{key: value for key, value in c.items() if key != "choices"} for c in chunks]
    assert all(head == heads[0] for head in heads)
    assert list(chunks[0]) == [
        "id",
        "object",
        "created",
        "model",
        "service_tier",
        "system_fingerprint",
        "choices",
    ]
    assert (heads[0]["object"], heads[0]["model"]) == ("chat.completion.chunk", "gpt-4o")
    assert re.fullmatch("chatcmpl-[A-Za-z0-9]{24}", heads[0]["id"])
    assert deltas(chunks) == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "One"},
        {"content": " two"},
        {"content": " \N{SNOWMAN}"},
        {},
    ]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    assert list(choices[0]) == ["index", "delta", "logprobs", "finish_reason"]
    assert chunks[0]["system_fingerprint"] == answer_of(await post(http))["system_fingerprint"]


@covers(ROUTE, "stream_options", "taken")
@covers("StreamOptions", "include_usage include_obfuscation", "taken")
async def test_usage_of_a_stream(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """All chunks have it, null; another one after the last has no choice, and tells it."""
    options = {"include_usage": True, "include_obfuscation": True}
    *chunks, last = await stream(http, stream_options=options)
    assert all(chunk["usage"] is None and "obfuscation" not in chunk for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == answer_of(await post(http))["usage"]


async def test_calls_in_a_stream(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """Id and name come once, the arguments as they are written."""
    engine.says(pieces=['<tool_call>\n{"name": "add", "arguments": {"a"', ": 1}}\n</tool_call>"])
    chunks = await stream(http, tools=TOOLS)
    opening, started, *arguments, end = deltas(chunks)
    assert opening == {"role": "assistant", "content": None, "refusal": None}
    (call,) = started["tool_calls"]
    assert call == {
        "index": 0,
        "id": call["id"],
        "type": "function",
        "function": {"name": "add", "arguments": ""},
    }
    pieces = [delta["tool_calls"][0] for delta in arguments]
    assert all(list(piece) == ["index", "function"] for piece in pieces)
    assert len(pieces) > 1
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a": 1}'
    assert (end, chunks[-1]["choices"][0]["finish_reason"]) == ({}, "tool_calls")


async def test_choices_in_a_stream(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """Each says who speaks and why it ended; their chunks may mix, and either may begin."""
    engine.says("One two.")
    engine.says("Three four.")
    chunks = await stream(http, n=2)
    said = set()
    for index in range(2):
        first, *texts, last = deltas(chunks, index)
        assert first["role"] == "assistant"
        said.add("".join(delta["content"] for delta in texts))
        assert last == {}
    assert said == {"One two.", "Three four."}


async def test_a_stream_is_told_as_it_is_written(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    """What is there is sent, while the rest is still to come."""
    engine.says("one two three", pause_after=1)
    body = {"model": "gpt-4o", "messages": [HELLO], "stream": True}
    async with http.stream("POST", URL, json=body) as response:
        chunks = response.aiter_text()
        async with asyncio.timeout(DEADLINE):
            assert '{"content":"one"}' in await anext(chunks)
        engine.resume()
        rest = "".join([chunk async for chunk in chunks])
    assert rest.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("pause_after", [0, 2])
async def test_a_client_that_goes_away(
    http: httpx.AsyncClient,
    server: LiveServer,
    engine: ScriptedEngine,
    streamed: bool,
    pause_after: int,
) -> None:
    """Nobody else reads it, so it ends; the model is free for others."""
    engine.says("one two three four", pause_after=pause_after)
    asking = asyncio.create_task(post(http, stream=streamed))
    async with asyncio.timeout(DEADLINE):
        await engine.paused.wait()
    assert server.services.completions.open == 1
    asking.cancel()
    assert await eventually(lambda: live(engine), lambda count: count == 0) == 0
    await eventually(lambda: opened(server), lambda count: count == 0)
    assert (await said(http))["message"]["content"] == DEFAULT_ANSWER


async def opened(server: LiveServer) -> int:
    """How many completions are being written."""
    return server.services.completions.open


async def test_two_at_once(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """Neither waits for the other."""
    engine.says("one two", pause_after=1)
    first = asyncio.create_task(post(http))
    async with asyncio.timeout(DEADLINE):
        await engine.paused.wait()
    assert (await said(http))["message"]["content"] == DEFAULT_ANSWER
    assert not first.done()
    engine.resume()
    assert answer_of(await first)["choices"][0]["message"]["content"] == "one two"


@covers("ChatImagePart", "image_url", "taken")
async def test_images(http: httpx.AsyncClient) -> None:
    """No model here sees; what is no part of a message at all is told with what there is."""
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
    ]
    refused(
        await post(http, HELLO, {"role": "user", "content": parts}),
        "The model 'gpt-4o' cannot see images.",
        "messages[1].content[1]",
        None,
    )
    audio = [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]
    refused(
        await post(http, {"role": "user", "content": audio}),
        "Invalid value: 'input_audio'. Supported values are: 'image_url' and 'text'.",
        "messages[0].content[0].type",
        "invalid_value",
    )


@covers("SystemMessage", "role", "error", "limit")
@covers("SystemMessage", "content", "error", "limit")
@covers("UserMessage", "content", "error", "limit")
@covers("ToolMessage", "content", "error", "limit")
@covers("AssistantMessage", "content tool_calls", "error", "limit")
async def test_messages_without_sense(http: httpx.AsyncClient) -> None:
    """Another role, nothing said, calls that nobody answers, outputs that nobody asked for."""
    roles = "'system', 'assistant', 'user', 'tool', and 'developer'"
    refused(
        await post(http, {"role": "function", "content": "x"}),
        f"Invalid value: 'function'. Supported values are: {roles}.",
        "messages[0].role",
        "invalid_value",
    )
    refused(
        await post(http, {"content": "x"}),
        "Missing required parameter: 'messages[0].role'.",
        "messages[0].role",
        "missing_required_parameter",
    )
    for role in ("system", "user", "assistant"):
        error = error_of(await post(http, {"role": role, "content": []}))
        assert (error["param"], error["code"]) == ("messages[0].content", "empty_array")
    error = error_of(await post(http, CALLS, {**OUTPUT, "content": []}))
    assert (error["param"], error["code"]) == ("messages[1].content", "empty_array")
    error = error_of(await post(http, {"role": "assistant", "content": "x", "tool_calls": []}))
    assert (error["param"], error["code"]) == ("messages[0].tool_calls", "empty_array")
    refused(
        await post(http, {"role": "assistant"}),
        "Invalid value for 'messages[0].content': expected a string, got null.",
        "messages[0].content",
        None,
    )


OUTPUT = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
UNASKED = (
    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
    "'tool_calls'."
)
UNANSWERED = (
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
    "'tool_call_id'. The following tool_call_ids did not have response messages: "
)


@covers("ToolMessage", "tool_call_id", "error")
@covers("MadeCall", "id", "error")
@pytest.mark.parametrize(
    ("messages", "message", "place"),
    [
        ([OUTPUT], UNASKED, 0),
        ([CALLS, OUTPUT, OUTPUT], UNASKED, 2),
        ([CALLS, {**OUTPUT, "tool_call_id": "call_2"}], UNASKED, 1),
        ([HELLO, CALLS], f"{UNANSWERED}call_1", 1),
        ([CALLS, HELLO, OUTPUT], f"{UNANSWERED}call_1", 0),
        (
            [{**CALLS, "tool_calls": [CALL, {**CALL, "id": "b"}, {**CALL, "id": "c"}]}, OUTPUT],
            f"{UNANSWERED}b, c",
            0,
        ),
    ],
)
async def test_calls_and_outputs_belong_together(
    http: httpx.AsyncClient, messages: list[Json], message: str, place: int
) -> None:
    """Each call has its output, at once after it, and each output its call."""
    refused(await post(http, *messages), message, f"messages.[{place}].role", None)


async def test_a_conversation_that_is_too_long(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    """It is refused, and not cut; one that leaves room for a single token gets it."""
    await said(http, {"role": "user", "content": ""})
    around = len(engine.requests[0].prompt)
    most = SCRIPTED_MODEL.context - around - 1
    choice = await said(http, {"role": "user", "content": "x" * most})
    assert (choice["message"]["content"], choice["finish_reason"]) == ("H", "length")
    for streamed in (False, True):
        for messages in (
            [{"role": "user", "content": "x" * (most + 1)}],
            [HELLO] * 1000,
            [{"role": "system", "content": "x" * 9000}],
        ):
            refused(
                await post(http, *messages, stream=streamed),
                "This model's maximum context length is 8192 tokens. However, your messages "
                "resulted in more tokens. Please reduce the length of the messages.",
                "messages",
                "context_length_exceeded",
            )


@covers(ROUTE, "model", "error")
async def test_models_that_cannot_answer(tmp_path: Path) -> None:
    """One that does not exist, and one that only makes embeddings."""
    engines = {"tiny-assistant": ScriptedEngine(), "letters": letter_counter()}
    async with live_server(tmp_path, engines=engines) as server, server.http() as http:
        refused(
            await post(http, model="nothing"),
            "The model 'nothing' does not exist",
            "model",
            "model_not_found",
            404,
        )
        message = "The model 'letters' makes embeddings; it cannot be run."
        refused(await post(http, model="letters"), message, "model", None)


async def test_a_model_is_looked_for_before_its_images_are_refused(http: httpx.AsyncClient) -> None:
    """Nothing is said of what a model can see that does not exist."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    refused(
        await post(http, {"role": "user", "content": [image]}, model="nothing"),
        "The model 'nothing' does not exist",
        "model",
        "model_not_found",
        404,
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("problem", "status", "kind"),
    [
        (EngineCrashed("The worker died."), 500, "server_error"),
        (EngineUnavailable("It does not come up."), 503, "server_error"),
        (RateLimited("Too many."), 429, "requests"),
        (InvalidRequest("A token is unknown."), 400, "invalid_request_error"),
    ],
)
async def test_a_model_that_fails(
    http: httpx.AsyncClient,
    engine: ScriptedEngine,
    problem: Any,
    status: int,
    kind: str,
    streamed: bool,
) -> None:
    """Before anything was written it is an answer of its own, also where a stream was asked for."""
    engine.fails(problem)
    error = error_of(await post(http, stream=streamed), status)
    assert (error["message"], error["type"]) == (str(problem), kind)


@pytest.mark.parametrize(
    ("problem", "fields", "param"),
    [
        (GrammarRefused("Too large."), {"tools": TOOLS}, "tools"),
        (GrammarRefused("Too large."), {"response_format": SCHEMA_FORMAT}, "response_format"),
        (InvalidRequest("No such token."), {"logit_bias": {"9999": 1}}, "logit_bias"),
        (InvalidRequest("The prompt is empty."), {}, "messages"),
    ],
)
async def test_what_the_engine_cannot_do(
    http: httpx.AsyncClient, engine: ScriptedEngine, problem: Any, fields: Json, param: str
) -> None:
    """The error names the parameter; schemas that are not strict are let go before."""
    is_schemas = isinstance(problem, GrammarRefused)
    for _ in range(2 if is_schemas else 1):
        engine.fails(problem)
    error = error_of(await post(http, **fields))
    assert error["message"] == (UNENFORCEABLE if is_schemas else str(problem))
    assert error["param"] == param


async def test_a_call_that_is_not_finished(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """It is no call to be answered: the answer was cut off."""
    engine.says(ASKS[:-20])
    assert (await said(http, tools=TOOLS))["finish_reason"] == "length"


async def test_a_model_that_fails_later(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    """A stream that has begun ends with the error, as the SDKs raise it."""
    engine.crashes(after=2)
    response = await post(http, stream=True)
    *chunks, error = chunks_of(response.text)
    assert "".join(delta.get("content") or "" for delta in deltas(chunks)) == "Hello! How"
    assert error == {
        "error": {
            "message": "The model's worker died.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[LiveServer]:
    """A server with two models that do not fit its memory together."""
    engines = {"tiny-assistant": ScriptedEngine(takes=80), "other": ScriptedEngine(takes=80)}
    async with live_server(tmp_path, engines=engines, models__memory=100) as live:
        yield live


async def test_a_model_is_loaded_for_it(small: LiveServer) -> None:
    """And whoever goes away while it is loaded leaves nothing behind."""
    other = small.engines["other"]
    assert isinstance(other, ScriptedEngine)
    other.slow_to_load = True
    async with small.http() as http:
        asking = asyncio.create_task(post(http, model="other"))
        async with asyncio.timeout(DEADLINE):
            await other.loading.wait()
        asking.cancel()
        await eventually(lambda: opened(small), lambda count: count == 0)
        again = asyncio.create_task(said(http, model="other"))
        await eventually(lambda: opened(small), lambda count: count == 1)
        other.resume()
        assert (await again)["message"]["content"] == DEFAULT_ANSWER
        assert len(other.requests) == 1
        other.slow_to_load = False
        other.unusable = "other.gguf is gone."
        await said(http)
        assert error_of(await post(http, model="other"), 503)["message"] == "other.gguf is gone."


@pytest.mark.parametrize("pause_after", [0, 1])
async def test_the_end_of_the_server(tmp_path: Path, pause_after: int) -> None:
    """Answers that are being written have a grace; then they break off, and no more are begun."""
    engine = ScriptedEngine()
    async with live_server(tmp_path, engine) as server, server.http() as http:
        engine.says("one two", pause_after=1)
        in_time = asyncio.create_task(post(http, stream=True))
        async with asyncio.timeout(DEADLINE):
            await engine.paused.wait()
        stopping = asyncio.create_task(server.services.completions.stop(DEADLINE))
        engine.resume()
        assert len(chunks_of((await in_time).text)) == 4
        await stopping
        going = "The server is shutting down. Please retry in a moment."
        refused = await post(http)
        assert error_of(refused, 503)["message"] == going
        assert refused.headers["retry-after"] == "1"
    async with live_server(tmp_path, engine) as server, server.http() as http:
        engine.says("one two", pause_after=pause_after)
        late = asyncio.create_task(post(http, stream=True))
        async with asyncio.timeout(DEADLINE):
            await engine.paused.wait()
        await server.services.completions.stop(0.0)
        if pause_after == 0:
            assert error_of(await late, 503)["message"] == going
            assert (await late).headers["retry-after"] == "1"
        else:
            assert chunks_of((await late).text)[-1]["error"]["message"] == going


async def test_keep_alive(tmp_path: Path) -> None:
    """A stream on which nothing happens sends comments, which are no chunks."""
    engine = ScriptedEngine()
    engine.says("one two", pause_after=1)
    async with live_server(tmp_path, engine, streams__ping=0.02) as server, server.http() as http:
        body = {"model": "gpt-4o", "messages": [HELLO], "stream": True}
        async with http.stream("POST", URL, json=body) as response:
            chunks, text = response.aiter_text(), ""
            async with asyncio.timeout(DEADLINE):
                while ": ping\n\n" not in text:
                    text += await anext(chunks)
            engine.resume()
            text += "".join([chunk async for chunk in chunks])
    assert len(chunks_of(text.replace(": ping\n\n", ""))) == 4


async def test_an_endpoints_model(tmp_path: Path) -> None:
    """Takes the same; its usage is told as it counted, and no more is sent there than it takes."""
    async with (
        scripted_endpoint() as endpoint,
        live_server(tmp_path, model__big__upstream=endpoint.url, model__big__slots=1) as server,
        server.http() as http,
    ):
        release = asyncio.Event()
        endpoint.says("Hello.", usage=counted(30, 4, cached=16, reasoning=1))
        answer = answer_of(await post(http, {"role": "developer", "content": "S"}, model="big"))
        assert answer["choices"][0]["message"]["content"] == "Hello."
        usage = answer["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (30, 4)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 16
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 1
        assert endpoint.asked[0].body["messages"] == [{"role": "system", "content": "S"}]
        endpoint.streams(release)
        waiting = asyncio.create_task(post(http, model="big"))
        async with asyncio.timeout(DEADLINE):
            while len(endpoint.asked) < 2:
                endpoint.arrived.clear()
                await endpoint.arrived.wait()
        second = asyncio.create_task(post(http, model="big"))
        await eventually(lambda: opened(server), lambda count: count == 2)
        assert len(endpoint.asked) == 2
        waiting.cancel()
        assert answer_of(await second)["choices"][0]["message"]["content"] == "Hello!"
        async with asyncio.timeout(DEADLINE):
            await endpoint.asked[1].gone.wait()
