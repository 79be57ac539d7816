"""Every key of every request: its type, its limits, what it may be, and what comes back of it.

Each body is sent to the running server; a nested schema is tried at one of the places it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.api.wire import (
    A_FILE,
    ASSISTANT,
    ASSISTANTS,
    BATCHES,
    BOTH,
    CHAT,
    HELLO,
    MESSAGE,
    MESSAGES,
    PLACES,
    RUN,
    RUNS,
    SEARCH,
    SMALLEST,
    STORE,
    STORE_FILE,
    STORE_FILES,
    STORES,
    SUBMIT,
    THREAD,
    THREADS,
    Json,
    World,
    answer_of,
    at,
    error_of,
    param_of,
    refused,
    request_with,
)
from tests.covering import body_schema, covers, members, parts, routes

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUTES = {route: body_schema(operation) for route, operation in routes()}
SUBJECTS = {**{route: schema for route, schema in ROUTES.items() if schema}, **parts()}


async def send(world: World, subject: str, fields: Json) -> Any:
    """The answer to a request in which these fields of the subject are given."""
    route, body = request_with(subject, fields)
    return await world.post(route, body)


def fields_of(subject: str) -> Iterator[tuple[str, Json]]:
    """The keys of a schema, but for those that only say which schema it is."""
    for name, schema in SUBJECTS[subject].get("properties", {}).items():
        if "const" not in schema:
            yield name, schema


def rows(aspect: str, pairs: Sequence[tuple[str, str]]) -> list[Any]:
    """A row for each subject and field."""
    return [
        pytest.param(subject, field, marks=covers(subject, field, aspect), id=f"{subject}-{field}")
        for subject, field in pairs
    ]


ALL = [(subject, name) for subject in SUBJECTS for name, _ in fields_of(subject)]
REQUIRED = [
    (subject, name) for subject, schema in SUBJECTS.items() for name in schema.get("required", ())
]
# Null stands for absent, and then the other one of two is needed: tested with the batches.
ONE_OF_TWO = {("POST /v1/vector_stores/{vector_store_id}/file_batches", "file_ids")}
NULLABLE = [
    (subject, name)
    for subject in SUBJECTS
    if subject != SUBMIT
    for name, schema in fields_of(subject)
    if any(each.get("type") == "null" for each in members(schema))
    if (subject, name) not in ONE_OF_TWO
]
KEPT = [pair for pair in NULLABLE if pair[0] == "JsonSchema"]


def wrong_for(schema: Json) -> Any:
    """A value of a type that the schema does not have."""
    kinds = {each.get("type") for each in members(schema)}
    return ({} if "number" in kinds else 7) if "string" in kinds else "x"


@pytest.mark.parametrize(("subject", "field"), rows("error", ALL))
async def test_a_value_of_another_type_is_refused(world: World, subject: str, field: str) -> None:
    """The error names the parameter, the type that was expected and the one that came."""
    wrong = wrong_for(dict(fields_of(subject))[field])
    error = error_of(await send(world, subject, {field: wrong}))
    param = param_of(subject, field)
    got = {"x": "a string", 7: "an integer"}.get(wrong, "an object") if wrong else "an object"
    assert error["message"].startswith(f"Invalid type for '{param}': expected ")
    assert error["message"].endswith(f", but got {got} instead.")
    assert (error["param"], error["code"]) == (param, "invalid_type")


@pytest.mark.parametrize(
    ("subject", "field"),
    [
        pytest.param(s, f, id=f"{s}-{f}")
        if "const" in SUBJECTS[s]["properties"][f]
        else pytest.param(s, f, marks=covers(s, f, "error"), id=f"{s}-{f}")
        for s, f in REQUIRED
    ],
)
async def test_what_is_required_is_missed(world: World, subject: str, field: str) -> None:
    """The error names the parameter by its path."""
    smallest = SMALLEST.get(subject) or PLACES[subject].smallest
    rest = {key: value for key, value in smallest.items() if key != field}
    if "assistant_id" in rest:
        rest["assistant_id"] = world.assistant_id
    if subject in PLACES:
        answer = await world.post(PLACES[subject].route, PLACES[subject].body(rest))
    else:
        answer = await world.http.post(world.url(subject), json=rest)
    param = param_of(subject, field)
    refused(answer, f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


@pytest.mark.parametrize("subject", list(SUBJECTS))
async def test_a_key_that_does_not_exist_is_refused(world: World, subject: str) -> None:
    """At every level, and whatever its value."""
    param = param_of(subject, "file_idz")
    for value in (None, []):
        answer = await send(world, subject, {"file_idz": value})
        if subject == CHAT:
            refused(answer, f"Unrecognized request argument supplied: {param}", None, None)
        else:
            refused(answer, f"Unknown parameter: '{param}'.", param, "unknown_parameter")


@pytest.mark.parametrize(("subject", "field"), rows("taken", sorted({*NULLABLE} - {*KEPT})))
async def test_null_gives_the_default(world: World, subject: str, field: str) -> None:
    """Where the specification allows null, it is as if the key were left out."""
    route, bare = request_with(subject, {})
    with_null = await send(world, subject, {field: None})
    if field == "stream" and subject != CHAT:
        assert answer_of(with_null)["status"] == "queued"
        return
    if subject == "StreamOptions":
        assert unnamed(with_null.text) == unnamed((await world.post(route, bare)).text)
        return
    assert timeless(answer_of(with_null)) == timeless(answer_of(await world.post(route, bare)))


@pytest.mark.parametrize(("subject", "field"), rows("taken", KEPT))
async def test_null_is_shown_in_what_is_kept_as_it_was_sent(
    world: World, subject: str, field: str
) -> None:
    """Formats are not normalised."""
    answer = answer_of(await send(world, subject, {field: None}))
    assert at(answer, param_of(subject, field)) is None


def timeless(answer: Json) -> Json:
    """An answer without what differs between two equal requests."""
    volatile = (
        "id",
        "thread_id",
        "vector_store_id",
        "created",
        "created_at",
        "completed_at",
        "expires_at",
        "last_active_at",
        *(("status", "usage_bytes") if answer["object"] == "vector_store.file" else ()),
    )
    text = json.dumps({key: value for key, value in answer.items() if key not in volatile})
    stable: Json = json.loads(re.sub("vs_[0-9a-f]{32}", "vs", text))
    return stable


def unnamed(stream: str) -> str:
    """The chunks of a stream without what differs between two equal requests."""
    return re.sub(r'"id":"chatcmpl-\w+"|"created":\d+', "", stream)


@dataclass(frozen=True, slots=True)
class Limit:
    """Values that are taken, and ones that are not: value, message and code of the error."""

    taken: Sequence[Any]
    refused: Sequence[tuple[Any, str, str]]


def text(most: int) -> Limit:
    """At most so many characters, counted as code points."""
    message = (
        f"Invalid '%': string too long. Expected a string with maximum length {most}, "
        f"but got a string with length {most + 1} instead."
    )
    long = [("x" * (most + 1), message, "string_above_max_length")]
    return Limit(["x" * most, "\N{GRINNING FACE}" * most, ""], long)


def name() -> Limit:
    """Of functions and schemas: 1 to 64 letters, digits, underscores and dashes."""
    empty = (
        "Invalid '%': empty string. Expected a string with minimum length 1, "
        "but got an empty string instead."
    )
    pattern = (
        "Invalid '%': string does not match pattern. "
        "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
    )
    return Limit(
        ["x" * 64, "get_weather-2"],
        [
            *text(64).refused,
            ("", empty, "empty_string"),
            *(
                (wrong, pattern, "invalid_value")
                for wrong in ("a b", "a.b", "\N{LATIN SMALL LETTER E WITH ACUTE}", "a\n")
            ),
        ],
    )


def array(most: int, item: Any) -> Limit:
    """At most so many items."""
    message = (
        f"Invalid '%': array too long. Expected an array with maximum length {most}, "
        f"but got an array with length {most + 1} instead."
    )
    return Limit([[item] * most, []], [([item] * (most + 1), message, "array_above_max_length")])


def number(least: float, most: float, step: float = 1) -> Limit:
    """From `least` to `most`, both included."""
    kind = "decimal" if isinstance(most, float) else "integer"
    above, below = most + step, least - step
    return Limit(
        [least, most],
        [
            (
                above,
                f"Invalid '%': {kind} above maximum value. "
                f"Expected a value <= {_short(most)}, but got {above} instead.",
                f"{kind}_above_max_value",
            ),
            (
                below,
                f"Invalid '%': {kind} below minimum value. "
                f"Expected a value >= {_short(least)}, but got {below} instead.",
                f"{kind}_below_min_value",
            ),
        ],
    )


def _short(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def one_of(*values: str) -> Limit:
    """Just these words."""
    quoted = [f"'{value}'" for value in values]
    words = (
        " and ".join(quoted) if len(quoted) == 2 else f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
    )
    message = f"Invalid value: 'ultra'. Supported values are: {words}."
    return Limit(values, [("ultra", message, "invalid_value")])


METADATA = Limit(
    [{f"k{i}": "v" for i in range(16)}, {"k" * 64: "v" * 512}, {"": ""}, {}],
    [
        (
            {f"k{i}": "v" for i in range(17)},
            "Invalid '%': too many properties. Expected an object with at most 16 properties, "
            "but got an object with 17 properties instead.",
            "object_above_max_properties",
        ),
        (
            {"k": "v" * 513},
            "Invalid '%.k': string too long. Expected a string with maximum length 512, "
            "but got a string with length 513 instead.",
            "string_above_max_length",
        ),
        (
            {"k" * 65: "v"},
            "Invalid property name in '%': 'kkk...kkk' is too long. "
            "Expected a string with maximum length 64, but got a string with length 65 instead.",
            "property_name_above_max_length",
        ),
        (
            {"k": True},
            "Invalid type for '%.k': expected a string, but got a boolean instead.",
            "invalid_type",
        ),
    ],
)
CODE = {"type": "code_interpreter"}
EFFORTS = one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")
LARGEST = 2**31 - 1
EMPTY_CONTENT = (
    [],
    "Invalid '%': empty array. Expected an array with minimum length 1, "
    "but got an empty array instead.",
    "empty_array",
)
NUL = (
    "string does not match pattern. "
    r"Expected a string that matches the pattern '^[^\u0000]*$'."
)
ATTRIBUTES = Limit(
    METADATA.taken,
    [
        *METADATA.refused[:3],
        ({"k": "a\0b"}, f"Invalid '%.k': {NUL}", "invalid_value"),
        ({"a\0b": "v"}, f"Invalid property name in '%': {NUL}", "invalid_value"),
        *(
            (
                {"k": wrong},
                "Invalid type for '%.k': expected one of a string, a number, or a boolean, "
                f"but got {kind} instead.",
                "invalid_type",
            )
            for wrong, kind in ((None, "null"), ([1], "an array"), ({"a": 1}, "an object"))
        ),
    ],
)
EMPTY_QUERY = (
    "empty string. Expected a string with minimum length 1, but got an empty string instead."
)
LONG_QUERIES = [
    *text(4096).refused,
    *array(32, "x").refused,
    EMPTY_CONTENT,
    ("", f"Invalid '%': {EMPTY_QUERY}", "empty_string"),
    (["x", ""], f"Invalid '%[1]': {EMPTY_QUERY}", "empty_string"),
]
LIMITS: list[tuple[str, str, Limit]] = [
    *(
        (route, field, limit)
        for route in (ASSISTANTS, ASSISTANT)
        for field, limit in (
            ("name", text(256)),
            ("description", text(512)),
            ("instructions", text(256_000)),
            ("reasoning_effort", EFFORTS),
            ("tools", array(128, CODE)),
            ("metadata", METADATA),
            ("temperature", number(0.0, 2.0, 0.5)),
            ("top_p", number(0.0, 1.0, 0.5)),
        )
    ),
    *(
        (route, field, limit)
        for route in (RUNS, BOTH)
        for field, limit in (
            ("tools", array(20, CODE)),
            ("metadata", METADATA),
            ("temperature", number(0.0, 2.0, 0.5)),
            ("top_p", number(0.0, 1.0, 0.5)),
            ("max_prompt_tokens", number(256, LARGEST)),
            ("max_completion_tokens", number(16, LARGEST)),
            ("tool_choice", one_of("none", "auto", "required")),
        )
    ),
    (RUNS, "reasoning_effort", EFFORTS),
    *(
        (CHAT, field, limit)
        for field, limit in (
            ("reasoning_effort", EFFORTS),
            ("metadata", METADATA),
            ("temperature", number(0.0, 2.0, 0.5)),
            ("top_p", number(0.0, 1.0, 0.5)),
            ("presence_penalty", number(-2.0, 2.0, 0.5)),
            ("frequency_penalty", number(-2.0, 2.0, 0.5)),
            ("max_tokens", number(1, LARGEST)),
            ("max_completion_tokens", number(1, LARGEST)),
            ("n", number(1, 8)),
            ("tool_choice", one_of("none", "auto", "required")),
        )
    ),
    *((route, "metadata", METADATA) for route in (RUN, THREADS, THREAD, MESSAGES, MESSAGE)),
    (MESSAGES, "role", one_of("user", "assistant")),
    (
        MESSAGES,
        "content",
        Limit(["x" * 256_000, ""], [*text(256_000).refused, EMPTY_CONTENT]),
    ),
    ("TextPart", "text", text(256_000)),
    *((part, "name", name()) for part in ("ChosenFunction", "Function", "JsonSchema")),
    ("CodeInterpreterResources", "file_ids", array(20, "file-1")),
    ("FileSearchResources", "vector_store_ids", array(1, "vs_1")),
    ("NewFileSearchResources", "vector_store_ids", array(1, "vs_1")),
    ("NewFileSearchResources", "vector_stores", array(1, {})),
    ("NewVectorStore", "metadata", METADATA),
    ("FileSearchSettings", "max_num_results", number(1, 50)),
    ("ImageFile", "detail", one_of("auto", "low", "high")),
    ("ImageUrl", "detail", one_of("auto", "low", "high")),
    ("RankingOptions", "ranker", one_of("auto", "default_2024_08_21")),
    ("RankingOptions", "score_threshold", number(0.0, 1.0, 0.5)),
    ("StaticChunking", "max_chunk_size_tokens", number(100, 4096)),
    ("TruncationStrategy", "last_messages", number(1, LARGEST)),
    *((route, "metadata", METADATA) for route in (STORES, STORE)),
    (THREADS, "messages", array(10_000, HELLO)),
    (RUNS, "additional_messages", array(10_000, HELLO)),
    *((route, "attributes", ATTRIBUTES) for route in (STORE_FILES, STORE_FILE, BATCHES)),
    (STORES, "file_ids", array(500, A_FILE)),
    (BATCHES, "file_ids", Limit([[A_FILE] * 2000], [*array(2000, A_FILE).refused, EMPTY_CONTENT])),
    (SEARCH, "max_num_results", number(1, 50)),
    (SEARCH, "query", Limit(["x", "x" * 4096, ["x"] * 32], LONG_QUERIES)),
    ("SearchRanking", "ranker", one_of("none", "auto", "default-2024-11-15")),
    ("SearchRanking", "score_threshold", number(0.0, 1.0, 0.5)),
    ("StoreExpiry", "days", number(1, 365)),
]


@pytest.mark.parametrize(
    ("subject", "field", "limit"),
    [
        pytest.param(*row, marks=covers(*row[:2], "limit", "error"), id=f"{row[0]}-{row[1]}")
        for row in LIMITS
    ],
)
async def test_limits_hold_and_are_inclusive(
    world: World, subject: str, field: str, limit: Limit
) -> None:
    """What is just within is taken; what is just beyond is refused with the hosted API's text."""
    for value in limit.taken:
        answer_of(await send(world, subject, {**fitting(field), field: value}))
    for value, message, code in limit.refused:
        error = error_of(await send(world, subject, {**fitting(field), field: value}))
        assert (error["message"], error["code"]) == (
            message.replace("%", param_of(subject, field)),
            code,
        )
        assert error["param"].startswith(param_of(subject, field))


def fitting(field: str) -> Json:
    """What else must be sent so that the field alone can be wrong."""
    return {"chunk_overlap_tokens": 50} if field == "max_chunk_size_tokens" else {}


@covers("StaticChunking", "chunk_overlap_tokens", "limit")
async def test_chunks_overlap_by_half_at_most(world: World) -> None:
    """The bound follows the size of the chunk."""
    for overlap in (0, 50):
        fields = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": overlap}
        answer_of(await send(world, "StaticChunking", fields))
    for overlap, code in ((51, "integer_above_max_value"), (-1, "integer_below_min_value")):
        fields = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": overlap}
        error = error_of(await send(world, "StaticChunking", fields))
        assert error["code"] == code
        assert error["param"] == param_of("StaticChunking", "chunk_overlap_tokens")


@covers("TruncationStrategy", "type", "limit", "taken")
@covers("TruncationStrategy", "last_messages", "error")
async def test_last_messages_needs_their_number(world: World) -> None:
    """`auto` does not; another word is neither."""
    for given in ({"type": "auto"}, {"type": "last_messages", "last_messages": 3}):
        run = answer_of(await send(world, "TruncationStrategy", given))
        assert run["truncation_strategy"] == {"last_messages": None, **given}
        assert list(run["truncation_strategy"]) == ["type", "last_messages"]
    refused(
        await send(world, "TruncationStrategy", {"type": "last_messages"}),
        "Missing required parameter: 'truncation_strategy.last_messages'.",
        "truncation_strategy.last_messages",
        "missing_required_parameter",
    )
    refused(
        await send(world, "TruncationStrategy", {"type": "first"}),
        "Invalid value: 'first'. Supported values are: 'auto' and 'last_messages'.",
        "truncation_strategy.type",
        "invalid_value",
    )


FUNCTION = {
    "type": "function",
    "function": {"description": "Adds.", "name": "add", "parameters": {"type": "object"}},
}
SHOWN_FUNCTION = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object"},
        "strict": False,
    },
}
SEARCH = {"type": "file_search", "file_search": {}}
RANKED = {"ranker": "default_2024_08_21", "score_threshold": 0.0, "hybrid_search": None}
SHOWN_SEARCH = {"type": "file_search", "file_search": {"ranking_options": RANKED}}
SCHEMA_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "n",
        "schema": {"type": "object", "additionalProperties": False},
        "strict": True,
    },
}
RESOURCES = {"code_interpreter": {"file_ids": ["file-1"]}}
SAMPLING = [("temperature", 0.25, 0.25), ("temperature", 1, 1.0), ("top_p", 0.5, 0.5)]
ASSISTANT_FIELDS = [
    ("name", "Ada", "Ada"),
    ("description", "Counts.", "Counts."),
    ("instructions", "Be brief.", "Be brief."),
    ("model", "tiny-assistant", "tiny-assistant"),
    ("reasoning_effort", "high", "high"),
    ("tools", [FUNCTION, SEARCH, CODE], [SHOWN_FUNCTION, SHOWN_SEARCH, CODE]),
    ("tool_resources", RESOURCES, RESOURCES),
    ("metadata", {"b": "1", "a": "\N{SNOWMAN}"}, {"b": "1", "a": "\N{SNOWMAN}"}),
    *SAMPLING,
    ("response_format", "auto", "auto"),
    ("response_format", {"type": "text"}, {"type": "text"}),
    ("response_format", {"type": "json_object"}, {"type": "json_object"}),
    ("response_format", SCHEMA_FORMAT, SCHEMA_FORMAT),
]
RUN_FIELDS = [
    ("model", "tiny-assistant", "tiny-assistant"),
    ("instructions", "Be brief.", "Be brief."),
    ("tools", [FUNCTION, CODE], [SHOWN_FUNCTION, CODE]),
    ("tools", [], []),
    ("metadata", {"a": "b"}, {"a": "b"}),
    *SAMPLING,
    ("max_prompt_tokens", 300, 300),
    ("max_completion_tokens", 17, 17),
    (
        "truncation_strategy",
        {"type": "last_messages", "last_messages": 2},
        {"type": "last_messages", "last_messages": 2},
    ),
    ("tool_choice", "none", "none"),
    *(
        ("tool_choice", choice, choice)
        for choice in (
            {"type": "function", "function": {"name": "add"}},
            {"type": "file_search"},
            {"type": "code_interpreter"},
        )
    ),
    ("parallel_tool_calls", False, False),
    ("stream", False, None),
    *(
        (field, sent, shown)
        for field, sent, shown in ASSISTANT_FIELDS
        if field == "response_format"
    ),
]
STATIC = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 9},
}
OWN = {"a": "b", "n": 1, "f": 1.5, "true": True, "\N{SNOWMAN}": ""}
EXPIRY = {"anchor": "last_active_at", "days": 3}
TAKEN: list[tuple[str, str, Any, Any]] = [
    *((route, *row) for route in (ASSISTANTS, ASSISTANT) for row in ASSISTANT_FIELDS),
    *((route, *row) for route in (RUNS, BOTH) for row in RUN_FIELDS),
    (RUNS, "reasoning_effort", "low", "low"),
    (BOTH, "tool_resources", RESOURCES, RESOURCES),
    *(
        (route, "metadata", {"a": "b"}, {"a": "b"})
        for route in (RUN, THREADS, THREAD, MESSAGES, MESSAGE)
    ),
    *((route, "tool_resources", RESOURCES, RESOURCES) for route in (THREADS, THREAD)),
    (MESSAGES, "role", "assistant", "assistant"),
    (
        MESSAGES,
        "content",
        "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{GRINNING FACE}\u2028",
        [
            {
                "type": "text",
                "text": {
                    "value": "Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}\N{GRINNING FACE}\u2028",
                    "annotations": [],
                },
            }
        ],
    ),
    (
        MESSAGES,
        "attachments",
        [{"file_id": "file-1", "tools": [CODE]}, {"file_id": "file-1", "tools": []}],
        [{"file_id": "file-1", "tools": [CODE]}, {"file_id": "file-1", "tools": []}],
    ),
    ("Attachment", "file_id", "file-2", "file-2"),
    ("Attachment", "tools", [CODE, {"type": "file_search"}], [CODE, {"type": "file_search"}]),
    ("ChosenFunction", "name", "add", "add"),
    ("CodeInterpreterResources", "file_ids", ["file-2", "file-1"], ["file-2", "file-1"]),
    ("FileSearchResources", "vector_store_ids", ["vs_1"], ["vs_1"]),
    ("FileSearchSettings", "max_num_results", 7, 7),
    ("FileSearchSettings", "ranking_options", {"score_threshold": 0}, RANKED),
    ("FileSearchTool", "file_search", {}, {"ranking_options": RANKED}),
    ("Function", "name", "add", "add"),
    ("Function", "description", "", ""),
    ("Function", "parameters", {"b": {}, "a": [1.0, None]}, {"b": {}, "a": [1.0, None]}),
    ("Function", "strict", True, True),
    ("FunctionChoice", "function", {"name": "add"}, {"name": "add"}),
    ("FunctionTool", "function", FUNCTION["function"], SHOWN_FUNCTION["function"]),
    ("ImageFile", "file_id", "file-2", "file-2"),
    ("ImageFile", "detail", "low", "low"),
    (
        "ImageFilePart",
        "image_file",
        {"file_id": "file-2"},
        {"file_id": "file-2", "detail": "auto"},
    ),
    ("ImageUrl", "url", "http://a.org/b?c=%20", "http://a.org/b?c=%20"),
    ("ImageUrl", "detail", "high", "high"),
    (
        "ImageUrlPart",
        "image_url",
        {"url": "https://a.org"},
        {"url": "https://a.org", "detail": "auto"},
    ),
    ("JsonSchema", "name", "shape", "shape"),
    ("JsonSchema", "description", "A shape.", "A shape."),
    ("JsonSchema", "schema", {"type": "object"}, {"type": "object"}),
    ("JsonSchema", "strict", False, False),
    ("JsonSchemaFormat", "json_schema", {"name": "n"}, {"name": "n"}),
    ("NewFileSearchResources", "vector_store_ids", ["vs_1"], ["vs_1"]),
    ("NewToolResources", "code_interpreter", {"file_ids": ["file-2"]}, {"file_ids": ["file-2"]}),
    (
        "NewToolResources",
        "file_search",
        {"vector_store_ids": ["vs_1"]},
        {"vector_store_ids": ["vs_1"]},
    ),
    ("RankingOptions", "ranker", "auto", "auto"),
    ("RankingOptions", "score_threshold", 1, 1.0),
    ("RankingOptions", "hybrid_search", None, None),
    ("StaticChunking", "max_chunk_size_tokens", 900, 900),
    ("StaticChunking", "chunk_overlap_tokens", 3, 3),
    (
        "StaticChunkingStrategy",
        "static",
        {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100},
        {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 100},
    ),
    ("TextPart", "text", "a\n\tb", {"value": "a\n\tb", "annotations": []}),
    ("ToolResources", "code_interpreter", {"file_ids": ["file-2"]}, {"file_ids": ["file-2"]}),
    (
        "ToolResources",
        "file_search",
        {"vector_store_ids": ["vs_1"]},
        {"vector_store_ids": ["vs_1"]},
    ),
    ("TruncationStrategy", "last_messages", 5, 5),
    (STORES, "name", "Notes", "Notes"),
    (STORES, "description", "Of mine.", "Of mine."),
    *((route, "expires_after", EXPIRY, EXPIRY) for route in (STORES, STORE)),
    *((route, "metadata", {"a": "b"}, {"a": "b"}) for route in (STORES, STORE)),
    (STORE, "name", "Notes", "Notes"),
    *((route, "attributes", OWN, OWN) for route in (STORE_FILES, STORE_FILE)),
    (STORE_FILES, "chunking_strategy", STATIC, STATIC),
    ("StoreExpiry", "days", 365, 365),
]


@pytest.mark.parametrize(
    ("subject", "field", "sent", "shown"),
    [
        pytest.param(*row, marks=covers(row[0], row[1], "taken"), id=f"{row[0]}-{row[1]}-{i}")
        for i, row in enumerate(TAKEN)
    ],
)
async def test_what_is_sent_comes_back(
    world: World, subject: str, field: str, sent: Any, shown: Any
) -> None:
    """With the server's defaults filled in, in the wire's order, and floats as floats."""
    answer = answer_of(await send(world, subject, {field: sent}))
    if field != "stream":
        found = at(answer, param_of(subject, field))
        assert repr(found) == repr(world.own(shown))


DEFAULTS: list[tuple[str, str, Any]] = [
    ("CodeInterpreterResources", "file_ids", []),
    ("FileSearchResources", "vector_store_ids", []),
    ("FileSearchSettings", "ranking_options", RANKED),
    ("FileSearchTool", "file_search", {"ranking_options": RANKED}),
    ("Function", "parameters", {"type": "object", "properties": {}}),
    ("Function", "strict", False),
    ("ImageFile", "detail", "auto"),
    ("ImageUrl", "detail", "auto"),
    ("NewFileSearchResources", "vector_store_ids", []),
    ("RankingOptions", "ranker", "default_2024_08_21"),
    ("RankingOptions", "hybrid_search", None),
    ("TruncationStrategy", "last_messages", None),
]
ABSENT = [
    ("FileSearchSettings", "max_num_results"),
    ("Function", "description"),
    ("JsonSchema", "description"),
    ("JsonSchema", "schema"),
    ("JsonSchema", "strict"),
    ("NewFileSearchResources", "vector_stores"),
    ("NewToolResources", "code_interpreter"),
    ("NewToolResources", "file_search"),
    ("ToolResources", "code_interpreter"),
    ("ToolResources", "file_search"),
]


@pytest.mark.parametrize(
    ("subject", "field", "shown"),
    [
        pytest.param(*row, marks=covers(row[0], row[1], "default"), id=f"{row[0]}-{row[1]}")
        for row in DEFAULTS
    ],
)
async def test_nested_objects_have_defaults(
    world: World, subject: str, field: str, shown: Any
) -> None:
    """What was left out of a nested object is shown with its default."""
    found = at(answer_of(await send(world, subject, {})), param_of(subject, field))
    assert repr(found) == repr(shown)


@pytest.mark.parametrize(("subject", "field"), rows("default", ABSENT))
async def test_nested_keys_that_were_left_out_are_not_shown(
    world: World, subject: str, field: str
) -> None:
    """Where the hosted API shows no default, neither do we."""
    assert field not in at(answer_of(await send(world, subject, {})), PLACES[subject].path)


async def test_unpaired_ways_to_name_stores_exclude_each_other(world: World) -> None:
    """Ids of stores, or stores to be made."""
    answer = await send(
        world, "NewFileSearchResources", {"vector_store_ids": ["vs_1"], "vector_stores": [{}]}
    )
    assert error_of(answer)["param"] == "tool_resources.file_search"


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AA", "ftp://a.org/b", "", "a.png", "https://a b"]
)
async def test_images_come_from_the_web(world: World, url: str) -> None:
    """Data in the URL is refused, as it was."""
    refused(
        await send(world, "ImageUrl", {"url": url}),
        "Invalid 'content[0].image_url.url'. "
        "Expected a valid URL, but got a value with an invalid format.",
        "content[0].image_url.url",
        "invalid_value",
    )
