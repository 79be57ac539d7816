"""Every limit of the request schemas, and the hosted API's error for each."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from server import schemas
from server.api.validation import to_openai
from server.errors import InvalidRequest

Row = tuple[type[BaseModel], Any, str, str | None, str]

ASSISTANT = schemas.CreateAssistant
MODIFY = schemas.ModifyAssistant
THREAD = schemas.CreateThread
MESSAGE = schemas.CreateMessage
RUN = schemas.CreateRun
BOTH = schemas.CreateThreadAndRun
SUBMIT = schemas.SubmitToolOutputs
COMPLETE = schemas.CompleteUpload

TOOL_TYPES = "Supported values are: 'code_interpreter', 'function', and 'file_search'."
USER_OR_ASSISTANT = "Supported values are: 'user' and 'assistant'."
PATTERN = (
    "string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
)


def assistant(**fields: Any) -> dict[str, Any]:
    """A body of an assistant."""
    return {"model": "m", **fields}


def message(**fields: Any) -> dict[str, Any]:
    """A body of a message."""
    return {"role": "user", "content": "hi", **fields}


def run(**fields: Any) -> dict[str, Any]:
    """A body of a run."""
    return {"assistant_id": "asst_1", **fields}


def function(**fields: Any) -> dict[str, Any]:
    """A function tool."""
    return {"type": "function", "function": {"name": "f", **fields}}


def search(**fields: Any) -> dict[str, Any]:
    """A file search tool."""
    return {"type": "file_search", "file_search": fields}


def stores(**fields: Any) -> dict[str, Any]:
    """A body of an assistant whose file search has these resources."""
    return assistant(tool_resources={"file_search": fields})


def chunking(**fields: Any) -> dict[str, Any]:
    """A body of an assistant with a new vector store that is chunked so."""
    return stores(vector_stores=[{"chunking_strategy": fields}])


def fault(model: type[BaseModel], body: Any, where: str = "body") -> InvalidRequest:
    """The error that a body gets, through the locations that FastAPI gives."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    found = caught.value.errors(include_url=False)
    return to_openai([{**each, "loc": (where, *each["loc"])} for each in found])


MISSING: list[Row] = [
    (model, body, f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    for model, body, param in [
        (ASSISTANT, {}, "model"),
        (ASSISTANT, assistant(tools=[{}]), "tools[0].type"),
        (ASSISTANT, assistant(tools=[{"type": "function"}]), "tools[0].function"),
        (
            ASSISTANT,
            assistant(tools=[{"type": "function", "function": {}}]),
            "tools[0].function.name",
        ),
        (
            ASSISTANT,
            assistant(tools=[search(ranking_options={})]),
            "tools[0].file_search.ranking_options.score_threshold",
        ),
        (ASSISTANT, assistant(response_format={}), "response_format.type"),
        (
            ASSISTANT,
            assistant(response_format={"type": "json_schema"}),
            "response_format.json_schema",
        ),
        (
            ASSISTANT,
            assistant(response_format={"type": "json_schema", "json_schema": {}}),
            "response_format.json_schema.name",
        ),
        (
            ASSISTANT,
            chunking(type="static"),
            "tool_resources.file_search.vector_stores[0].chunking_strategy.static",
        ),
        (MESSAGE, {}, "role"),
        (MESSAGE, {"role": "user"}, "content"),
        (MESSAGE, message(content=[{"text": "hi"}]), "content[0].type"),
        (MESSAGE, message(content=[{"type": "text"}]), "content[0].text"),
        (MESSAGE, message(content=[{"type": "image_url"}]), "content[0].image_url"),
        (
            MESSAGE,
            message(content=[{"type": "image_url", "image_url": {}}]),
            "content[0].image_url.url",
        ),
        (
            MESSAGE,
            message(content=[{"type": "image_file", "image_file": {}}]),
            "content[0].image_file.file_id",
        ),
        (MESSAGE, message(attachments=[{"tools": []}]), "attachments[0].file_id"),
        (MESSAGE, message(attachments=[{"file_id": "f"}]), "attachments[0].tools"),
        (
            MESSAGE,
            message(attachments=[{"file_id": "f", "tools": [{}]}]),
            "attachments[0].tools[0].type",
        ),
        (THREAD, {"messages": [{"content": "hi"}]}, "messages[0].role"),
        (RUN, {}, "assistant_id"),
        (RUN, run(truncation_strategy={}), "truncation_strategy.type"),
        (
            RUN,
            run(truncation_strategy={"type": "last_messages"}),
            "truncation_strategy.last_messages",
        ),
        (RUN, run(tool_choice={}), "tool_choice.type"),
        (RUN, run(tool_choice={"type": "function"}), "tool_choice.function"),
        (RUN, run(tool_choice={"type": "function", "function": {}}), "tool_choice.function.name"),
        (RUN, run(additional_messages=[{"role": "user"}]), "additional_messages[0].content"),
        (BOTH, {}, "assistant_id"),
        (BOTH, run(thread={"messages": [{"role": "user"}]}), "thread.messages[0].content"),
        (SUBMIT, {}, "tool_outputs"),
        (SUBMIT, {"tool_outputs": [{"output": "x"}]}, "tool_outputs[0].tool_call_id"),
    ]
]

UNKNOWN: list[Row] = [
    (model, body, f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    for model, body, param in [
        (ASSISTANT, assistant(file_ids=[]), "file_ids"),
        (ASSISTANT, assistant(**{"<function>": 1}), "<function>"),
        (ASSISTANT, assistant(tools=[{"type": "code_interpreter", "x": 1}]), "tools[0].x"),
        (ASSISTANT, assistant(tools=[function(extra=1)]), "tools[0].function.extra"),
        (ASSISTANT, assistant(tool_resources={"functions": {}}), "tool_resources.functions"),
        (MODIFY, {"file_ids": []}, "file_ids"),
        (
            MODIFY,
            {"tool_resources": {"file_search": {"vector_stores": []}}},
            "tool_resources.file_search.vector_stores",
        ),
        (THREAD, {"messages": [message(file_ids=[])]}, "messages[0].file_ids"),
        (schemas.ModifyThread, {"messages": []}, "messages"),
        (MESSAGE, message(name="x"), "name"),
        (MESSAGE, message(content=[{"type": "text", "text": "x", "y": 1}]), "content[0].y"),
        (schemas.ModifyMessage, {"content": "x"}, "content"),
        (RUN, run(thread={}), "thread"),
        (RUN, run(tool_resources={}), "tool_resources"),
        (schemas.ModifyRun, {"status": "x"}, "status"),
        (BOTH, run(additional_instructions="x"), "additional_instructions"),
        (BOTH, run(additional_messages=[]), "additional_messages"),
        (BOTH, run(reasoning_effort="low"), "reasoning_effort"),
        (SUBMIT, {"tool_outputs": [], "x": 1}, "x"),
    ]
]

WRONG_TYPES: list[Row] = [
    (
        model,
        body,
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param,
        "invalid_type",
    )
    for model, body, param, expected, got in [
        (ASSISTANT, {"model": 1}, "model", "a string", "an integer"),
        (ASSISTANT, {"model": None}, "model", "a string", "null"),
        (MODIFY, {"model": None}, "model", "a string", "null"),
        (ASSISTANT, assistant(name=["x"]), "name", "a string", "an array"),
        (ASSISTANT, assistant(description={}), "description", "a string", "an object"),
        (ASSISTANT, assistant(instructions=True), "instructions", "a string", "a boolean"),
        (ASSISTANT, assistant(temperature="1"), "temperature", "a decimal", "a string"),
        (ASSISTANT, assistant(temperature=True), "temperature", "a decimal", "a boolean"),
        (ASSISTANT, assistant(top_p="1"), "top_p", "a decimal", "a string"),
        (ASSISTANT, assistant(tools=None), "tools", "an array of objects", "null"),
        (ASSISTANT, assistant(tools={}), "tools", "an array of objects", "an object"),
        (ASSISTANT, assistant(tools=["x"]), "tools[0]", "an object", "a string"),
        (
            ASSISTANT,
            assistant(tools=[{"type": 1}]),
            "tools[0].type",
            "one of 'code_interpreter', 'function', or 'file_search'",
            "an integer",
        ),
        (
            ASSISTANT,
            assistant(tools=[function(strict="no")]),
            "tools[0].function.strict",
            "a boolean",
            "a string",
        ),
        (
            ASSISTANT,
            assistant(tools=[function(parameters=[])]),
            "tools[0].function.parameters",
            "an object",
            "an array",
        ),
        (
            ASSISTANT,
            assistant(tools=[search(max_num_results=1.5)]),
            "tools[0].file_search.max_num_results",
            "an integer",
            "a decimal number",
        ),
        (
            ASSISTANT,
            assistant(tool_resources={"code_interpreter": {"file_ids": "x"}}),
            "tool_resources.code_interpreter.file_ids",
            "an array of strings",
            "a string",
        ),
        (
            ASSISTANT,
            assistant(tool_resources={"code_interpreter": {"file_ids": [1]}}),
            "tool_resources.code_interpreter.file_ids[0]",
            "a string",
            "an integer",
        ),
        (ASSISTANT, assistant(tool_resources=[]), "tool_resources", "an object", "an array"),
        (ASSISTANT, assistant(metadata="x"), "metadata", "a metadata object", "a string"),
        (
            ASSISTANT,
            assistant(metadata={"modified": True}),
            "metadata.modified",
            "a string",
            "a boolean",
        ),
        (ASSISTANT, assistant(metadata={"<b>": 1}), "metadata.<b>", "a string", "an integer"),
        (ASSISTANT, assistant(metadata={"a": None}), "metadata.a", "a string", "null"),
        (
            ASSISTANT,
            assistant(reasoning_effort=1),
            "reasoning_effort",
            "one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', or 'max'",
            "an integer",
        ),
        (
            ASSISTANT,
            assistant(response_format=1),
            "response_format",
            "one of 'auto' or object",
            "an integer",
        ),
        (
            ASSISTANT,
            assistant(
                response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": 1}}
            ),
            "response_format.json_schema.schema",
            "an object",
            "an integer",
        ),
        (THREAD, {"messages": "x"}, "messages", "an array of objects", "a string"),
        (THREAD, {"messages": [1]}, "messages[0]", "an object", "an integer"),
        (THREAD, {"messages": None}, "messages", "an array of objects", "null"),
        (MESSAGE, message(role=1), "role", "one of 'user' or 'assistant'", "an integer"),
        (
            MESSAGE,
            message(content=7),
            "content",
            "one of a string or array of objects",
            "an integer",
        ),
        (MESSAGE, message(content=None), "content", "one of a string or array of objects", "null"),
        (
            MESSAGE,
            message(content={"type": "text", "text": "x"}),
            "content",
            "one of a string or array of objects",
            "an object",
        ),
        (MESSAGE, message(content=["x"]), "content[0]", "an object", "a string"),
        (
            MESSAGE,
            message(content=[{"type": "text", "text": {"value": "x"}}]),
            "content[0].text",
            "a string",
            "an object",
        ),
        (MESSAGE, message(attachments={}), "attachments", "an array of objects", "an object"),
        (RUN, run(stream="true"), "stream", "a boolean", "a string"),
        (RUN, run(parallel_tool_calls=None), "parallel_tool_calls", "a boolean", "null"),
        (RUN, run(max_prompt_tokens="300"), "max_prompt_tokens", "an integer", "a string"),
        (RUN, run(max_prompt_tokens=300.0), "max_prompt_tokens", "an integer", "a decimal number"),
        (RUN, run(max_completion_tokens=True), "max_completion_tokens", "an integer", "a boolean"),
        (RUN, run(truncation_strategy="auto"), "truncation_strategy", "an object", "a string"),
        (
            RUN,
            run(tool_choice=7),
            "tool_choice",
            "one of one of 'none', 'auto', or 'required' or object",
            "an integer",
        ),
        (BOTH, run(thread=None), "thread", "an object", "null"),
        (SUBMIT, {"tool_outputs": {}}, "tool_outputs", "an array of objects", "an object"),
        (
            SUBMIT,
            {"tool_outputs": [{"tool_call_id": "c", "output": 3}]},
            "tool_outputs[0].output",
            "a string",
            "an integer",
        ),
        (
            SUBMIT,
            {"tool_outputs": [{"tool_call_id": "c", "output": None}]},
            "tool_outputs[0].output",
            "a string",
            "null",
        ),
        (COMPLETE, {"part_ids": "part_1"}, "part_ids", "an array of strings", "a string"),
    ]
]

WRONG_VALUES: list[Row] = [
    (model, body, text, param, "invalid_value")
    for model, body, param, text in [
        (
            ASSISTANT,
            assistant(tools=[{"type": "retrieval"}]),
            "tools[0].type",
            f"Invalid value: 'retrieval'. {TOOL_TYPES}",
        ),
        (
            ASSISTANT,
            assistant(tools=[{"type": "function", "function": {"name": "a b"}}]),
            "tools[0].function.name",
            f"Invalid 'tools[0].function.name': {PATTERN}",
        ),
        (
            ASSISTANT,
            assistant(tools=[search(ranking_options={"ranker": "x", "score_threshold": 0})]),
            "tools[0].file_search.ranking_options.ranker",
            "Invalid value: 'x'. Supported values are: 'auto' and 'default_2024_08_21'.",
        ),
        (
            ASSISTANT,
            assistant(reasoning_effort="x"),
            "reasoning_effort",
            "Invalid value: 'x'. Supported values are: "
            "'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'.",
        ),
        (
            ASSISTANT,
            assistant(response_format={"type": "bogus"}),
            "response_format.type",
            "Invalid value: 'bogus'. "
            "Supported values are: 'json_object', 'json_schema', and 'text'.",
        ),
        (
            ASSISTANT,
            assistant(response_format="json"),
            "response_format",
            "Invalid value: 'json'. Supported values are: 'auto'.",
        ),
        (
            ASSISTANT,
            chunking(type="x"),
            "tool_resources.file_search.vector_stores[0].chunking_strategy.type",
            "Invalid value: 'x'. Supported values are: 'auto' and 'static'.",
        ),
        (
            ASSISTANT,
            stores(vector_store_ids=["vs_1"], vector_stores=[{}]),
            "tool_resources.file_search",
            "Invalid 'tool_resources.file_search': "
            "'vector_store_ids' and 'vector_stores' exclude each other.",
        ),
        (MESSAGE, message(role="system"), "role", f"Invalid value: 'system'. {USER_OR_ASSISTANT}"),
        (
            THREAD,
            {"messages": [message(), message(role="tool")]},
            "messages[1].role",
            f"Invalid value: 'tool'. {USER_OR_ASSISTANT}",
        ),
        (
            MESSAGE,
            message(content=[{"type": "input_text"}]),
            "content[0].type",
            "Invalid value: 'input_text'. "
            "Supported values are: 'image_file', 'image_url', and 'text'.",
        ),
        (
            MESSAGE,
            message(
                content=[{"type": "image_url", "image_url": {"url": "http://x", "detail": "x"}}]
            ),
            "content[0].image_url.detail",
            "Invalid value: 'x'. Supported values are: 'auto', 'low', and 'high'.",
        ),
        (
            MESSAGE,
            message(
                content=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
            ),
            "content[0].image_url.url",
            "Invalid 'content[0].image_url.url'. "
            "Expected a valid URL, but got a value with an invalid format.",
        ),
        (
            MESSAGE,
            message(attachments=[{"file_id": "f", "tools": [{"type": "function"}]}]),
            "attachments[0].tools[0].type",
            "Invalid value: 'function'. "
            "Supported values are: 'code_interpreter' and 'file_search'.",
        ),
        (
            RUN,
            run(tool_choice="any"),
            "tool_choice",
            "Invalid value: 'any'. Supported values are: 'none', 'auto', and 'required'.",
        ),
        (
            RUN,
            run(tool_choice={"type": "x"}),
            "tool_choice.type",
            "Invalid value: 'x'. "
            "Supported values are: 'function', 'code_interpreter', and 'file_search'.",
        ),
        (
            RUN,
            run(truncation_strategy={"type": "x"}),
            "truncation_strategy.type",
            "Invalid value: 'x'. Supported values are: 'auto' and 'last_messages'.",
        ),
    ]
]


def _long_string(param: str, most: int) -> tuple[str, str, str]:
    text = (
        f"Invalid '{param}': string too long. Expected a string with maximum length {most}, "
        f"but got a string with length {most + 1} instead."
    )
    return text, param, "string_above_max_length"


def _long_array(param: str, most: int) -> tuple[str, str, str]:
    text = (
        f"Invalid '{param}': array too long. Expected an array with maximum length {most}, "
        f"but got an array with length {most + 1} instead."
    )
    return text, param, "array_above_max_length"


def _bound(param: str, kind: str, side: str, bound: str, got: Any) -> tuple[str, str, str]:
    sign, name = ("<=", "maximum") if side == "above" else (">=", "minimum")
    text = (
        f"Invalid '{param}': {kind} {side} {name} value. "
        f"Expected a value {sign} {bound}, but got {got} instead."
    )
    return text, param, f"{kind}_{side}_{name[:3]}_value"


CODE = {"type": "code_interpreter"}
OVERLAP = "tool_resources.file_search.vector_stores[0].chunking_strategy.static"
LARGEST = str(2**31 - 1)
LIMITS: list[Row] = [
    (ASSISTANT, assistant(name="x" * 257), *_long_string("name", 256)),
    (ASSISTANT, assistant(description="x" * 513), *_long_string("description", 512)),
    (ASSISTANT, assistant(instructions="x" * 256_001), *_long_string("instructions", 256_000)),
    (
        ASSISTANT,
        assistant(tools=[function(name="x" * 65)]),
        *_long_string("tools[0].function.name", 64),
    ),
    (MESSAGE, message(content="x" * 256_001), *_long_string("content", 256_000)),
    (
        MESSAGE,
        message(content=[{"type": "text", "text": "x" * 256_001}]),
        *_long_string("content[0].text", 256_000),
    ),
    (ASSISTANT, assistant(metadata={"k": "x" * 513}), *_long_string("metadata.k", 512)),
    (ASSISTANT, assistant(tools=[CODE] * 129), *_long_array("tools", 128)),
    (RUN, run(tools=[CODE] * 21), *_long_array("tools", 20)),
    (BOTH, run(tools=[CODE] * 21), *_long_array("tools", 20)),
    (
        THREAD,
        {"tool_resources": {"code_interpreter": {"file_ids": ["f"] * 21}}},
        *_long_array("tool_resources.code_interpreter.file_ids", 20),
    ),
    (
        ASSISTANT,
        stores(vector_store_ids=["a", "b"]),
        *_long_array("tool_resources.file_search.vector_store_ids", 1),
    ),
    (
        ASSISTANT,
        stores(vector_stores=[{}, {}]),
        *_long_array("tool_resources.file_search.vector_stores", 1),
    ),
    (ASSISTANT, assistant(temperature=3), *_bound("temperature", "decimal", "above", "2", 3)),
    (ASSISTANT, assistant(temperature=2.5), *_bound("temperature", "decimal", "above", "2", 2.5)),
    (ASSISTANT, assistant(temperature=-0.1), *_bound("temperature", "decimal", "below", "0", -0.1)),
    (MODIFY, {"top_p": 1.1}, *_bound("top_p", "decimal", "above", "1", 1.1)),
    (RUN, run(top_p=-1), *_bound("top_p", "decimal", "below", "0", -1)),
    (RUN, run(max_prompt_tokens=255), *_bound("max_prompt_tokens", "integer", "below", "256", 255)),
    (
        RUN,
        run(max_completion_tokens=15),
        *_bound("max_completion_tokens", "integer", "below", "16", 15),
    ),
    (
        RUN,
        run(max_completion_tokens=2**31),
        *_bound("max_completion_tokens", "integer", "above", LARGEST, 2**31),
    ),
    (
        RUN,
        run(truncation_strategy={"type": "last_messages", "last_messages": 0}),
        *_bound("truncation_strategy.last_messages", "integer", "below", "1", 0),
    ),
    (
        ASSISTANT,
        assistant(tools=[search(max_num_results=51)]),
        *_bound("tools[0].file_search.max_num_results", "integer", "above", "50", 51),
    ),
    (
        ASSISTANT,
        assistant(tools=[search(max_num_results=0)]),
        *_bound("tools[0].file_search.max_num_results", "integer", "below", "1", 0),
    ),
    (
        ASSISTANT,
        assistant(tools=[search(ranking_options={"score_threshold": 1.5})]),
        *_bound(
            "tools[0].file_search.ranking_options.score_threshold", "decimal", "above", "1", 1.5
        ),
    ),
    (
        ASSISTANT,
        chunking(type="static", static={"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0}),
        *_bound(f"{OVERLAP}.max_chunk_size_tokens", "integer", "below", "100", 99),
    ),
    (
        ASSISTANT,
        chunking(type="static", static={"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}),
        *_bound(f"{OVERLAP}.chunk_overlap_tokens", "integer", "above", "50", 51),
    ),
    (
        ASSISTANT,
        assistant(metadata={f"k{i}": "v" for i in range(17)}),
        "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
        "but got an object with 17 properties instead.",
        "metadata",
        "object_above_max_properties",
    ),
    (
        THREAD,
        {"messages": [message(metadata={"k" * 70: "v"})]},
        "Invalid property name in 'messages[0].metadata': 'kkk...kkk' is too long. "
        "Expected a string with maximum length 64, but got a string with length 70 instead.",
        f"messages[0].metadata.{'k' * 70}",
        "property_name_above_max_length",
    ),
    (
        MESSAGE,
        message(content=[]),
        "Invalid 'content': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        "content",
        "empty_array",
    ),
    (
        ASSISTANT,
        assistant(tools=[function(name="")]),
        "Invalid 'tools[0].function.name': empty string. Expected a string with minimum length 1, "
        "but got an empty string instead.",
        "tools[0].function.name",
        "empty_string",
    ),
]

OPEN = {"type": "object", "properties": {"a": {"type": "string", "default": ""}}}
CLOSED = {**OPEN, "required": ["a"], "additionalProperties": False}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    """A strict response format."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "shape", "schema": schema, "strict": True},
    }


def multiples(name: str, factor: int) -> dict[str, Any]:
    """A strict function of a multiple."""
    properties = {"a": {"type": "integer", "multipleOf": factor}}
    return function(name=name, strict=True, parameters={**CLOSED, "properties": properties})


STRICT: list[Row] = [
    (
        ASSISTANT,
        assistant(tools=[search(), function(strict=True, parameters=OPEN)]),
        "Invalid schema for function 'f': In context=(), 'additionalProperties' is required to be "
        "supplied and to be false.",
        "tools[1].function.parameters",
        "invalid_function_parameters",
    ),
    (
        RUN,
        run(tools=[function(strict=True, parameters=CLOSED)]),
        "Invalid schema for function 'f': In context=('properties', 'a'), 'default' is not "
        "permitted.",
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    (
        ASSISTANT,
        assistant(tools=[multiples("f", 9990), search(), multiples("g", 9989), multiples("h", 99)]),
        "Invalid schema for function 'h': the factors of 'multipleOf' are too many and too large "
        "together.",
        "tools",
        "invalid_function_parameters",
    ),
    (
        ASSISTANT,
        assistant(
            response_format={"type": "json_schema", "json_schema": {"name": "n", "strict": True}}
        ),
        "Missing required parameter: 'response_format.json_schema.schema'.",
        "response_format.json_schema.schema",
        "missing_required_parameter",
    ),
    (
        BOTH,
        run(response_format=form({"type": "array"})),
        "Invalid schema for response_format 'shape': schema must be a JSON Schema of "
        "'type: \"object\"', got 'type: \"array\"'.",
        "response_format",
        None,
    ),
]

ROWS = [*MISSING, *UNKNOWN, *WRONG_TYPES, *WRONG_VALUES, *LIMITS, *STRICT]


@pytest.mark.parametrize(
    ("model", "body", "text", "param", "code"),
    ROWS,
    ids=[f"{row[0].__name__}-{row[4]}-{str(row[3])[:50]}" for row in ROWS],
)
def test_a_fault_is_told_as_the_hosted_api_tells_it(
    model: type[BaseModel], body: Any, text: str, param: str | None, code: str
) -> None:
    """Message, param and code of each fault."""
    error = fault(model, body)
    assert (error.message, error.param, error.code) == (text, param, code)
    assert error.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ASSISTANT, assistant(name="x" * 256, description="x" * 512, instructions="x" * 256_000)),
        (ASSISTANT, assistant(temperature=0, top_p=1, metadata={"k" * 64: "v" * 512})),
        (ASSISTANT, assistant(metadata={f"k{i}": "" for i in range(16)}, tools=[CODE] * 128)),
        (ASSISTANT, assistant(name=None, description=None, instructions=None, metadata=None)),
        (ASSISTANT, assistant(temperature=None, top_p=None, response_format=None)),
        (ASSISTANT, assistant(tool_resources=None, reasoning_effort=None)),
        (ASSISTANT, stores(vector_stores=[{"file_ids": ["f"], "metadata": {"a": "b"}}])),
        (MODIFY, {}),
        (THREAD, {}),
        (MESSAGE, message(content="x" * 256_000, attachments=None, metadata=None)),
        (MESSAGE, message(content="")),
        (RUN, run(max_prompt_tokens=256, max_completion_tokens=16, tools=[], stream=None)),
        (RUN, run(model=None, instructions=None, additional_messages=None, tools=None)),
        (RUN, run(truncation_strategy=None, tool_choice=None, response_format=None)),
        (RUN, run(tool_choice={"type": "file_search"})),
        (RUN, run(tools=[function(parameters=OPEN), function(name="g", strict=True)])),
        (BOTH, run(thread={"messages": [message()]}, tool_resources=None)),
        (SUBMIT, {"tool_outputs": [{"tool_call_id": "c"}], "stream": None}),
    ],
)
def test_what_is_just_within_the_limits_is_taken(model: type[BaseModel], body: Any) -> None:
    """Limits are inclusive; what may be null may be null."""
    model.model_validate(body)


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        (ASSISTANT, {"bogus": 1, "name": 1}, "model"),
        (ASSISTANT, {"model": 1, "name": 1, "bogus": 1}, "bogus"),
        (ASSISTANT, {"tools": [{"type": "x"}], "top_p": 2, "model": "m"}, "tools[0].type"),
        (ASSISTANT, {"top_p": 2, "name": 1, "model": "m"}, "name"),
        (THREAD, {"messages": [{"bogus": 1}], "x": 1}, "x"),
        (THREAD, {"messages": [{"bogus": 1}]}, "messages[0].role"),
        (THREAD, {"messages": [message(bogus=1, role=1)]}, "messages[0].bogus"),
        (THREAD, {"messages": [message(role=1), {}]}, "messages[0].role"),
        (RUN, {"model": 1, "bogus": 1}, "assistant_id"),
    ],
)
def test_faults_are_told_in_the_hosted_apis_order(
    model: type[BaseModel], body: Any, param: str
) -> None:
    """First what is missing, then what is unknown, then the first bad field; inside it alike."""
    assert fault(model, body).param == param


@pytest.mark.parametrize("body", [[], None, 5, "x", True])
def test_a_body_that_is_no_object_has_an_error_without_param(body: Any) -> None:
    """There is nothing to name but the body."""
    error = fault(MESSAGE, body)
    assert error.message.startswith("Invalid type for the request body: expected an object, but")
    assert (error.param, error.code) == (None, "invalid_type")


@pytest.mark.parametrize(
    ("query", "text", "param", "code"),
    [
        ({"limit": "101"}, *_bound("limit", "integer", "above", "100", 101)),
        ({"limit": "-1"}, *_bound("limit", "integer", "below", "0", -1)),
        (
            {"limit": "abc"},
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "limit",
            "invalid_type",
        ),
        (
            {"order": "up"},
            "Invalid value: 'up'. Supported values are: 'asc' and 'desc'.",
            "order",
            "invalid_value",
        ),
        (
            {"include[]": ["x"]},
            "Invalid value: 'x'. Supported values are: "
            "'step_details.tool_calls[*].file_search.results[*].content'.",
            "include[0]",
            "invalid_value",
        ),
    ],
)
def test_query_parameters_have_the_same_errors(
    query: dict[str, Any], text: str, param: str, code: str
) -> None:
    """A page is asked for with a limit, an order and cursors."""
    error = fault(schemas.StepsQuery, query, "query")
    assert (error.message, error.param, error.code) == (text, param, code)


def test_a_page_has_twenty_newest_objects_unless_told_otherwise() -> None:
    """The defaults of every list; a limit of 0 is allowed."""
    query = schemas.ListQuery()
    assert (query.limit, query.order, query.after, query.before) == (20, "desc", None, None)
    assert schemas.ListQuery.model_validate({"limit": "0"}).limit == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({f"unknown{n}": 1 for n in range(1000)}, "unknown0"),
        ({"metadata": {str(n): 1 for n in range(1000)}}, "metadata"),
    ],
)
def test_a_flood_of_keys_is_one_fault(body: dict[str, Any], param: str) -> None:
    """Only the first fault is told, and finding a million of them would hold up everybody."""
    with pytest.raises(ValidationError) as caught:
        THREAD.model_validate(body)
    assert caught.value.error_count() == 1
    assert fault(THREAD, body).param == param
