"""The document that we publish, against the specification of the hosted API.

Everything that it lets clients send and get is in ours: paths, methods, parameters, keys, values
and limits, but for what is excepted below with its reason. The main facts stand here too, for
where the specification is not at hand; it is read where `ASSISTANTS_CONTRACT_DIR` names its folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openapi_spec_validator import validate

from server.bundled import bundled_path
from server.config import load_settings
from tests.covering import body_schema, published, routes

CONTRACT = os.environ.get("ASSISTANTS_CONTRACT_DIR")
SPECIFICATION = Path(CONTRACT, "openapi-assistants.yaml") if CONTRACT else None

needs_specification = pytest.mark.skipif(
    SPECIFICATION is None, reason="ASSISTANTS_CONTRACT_DIR is not set"
)

UNSERVED = {
    **dict.fromkeys(
        (
            "GET /chat/completions",
            "GET /chat/completions/{completion_id}",
            "POST /chat/completions/{completion_id}",
            "DELETE /chat/completions/{completion_id}",
            "GET /chat/completions/{completion_id}/messages",
        ),
        "completions are not stored",
    ),
}
BEYOND_SPECIFICATION = {
    "GET /threads": "an extension",
    "GET /threads/runs": "an extension",
    "GET /threads/{thread_id}/runs/{run_id}/events": "an extension",
    "POST /uploads": "the reduced specification leaves uploads out",
    "POST /uploads/{upload_id}/parts": "the reduced specification leaves uploads out",
    "POST /uploads/{upload_id}/complete": "the reduced specification leaves uploads out",
    "POST /uploads/{upload_id}/cancel": "the reduced specification leaves uploads out",
}
EXTENSIONS = {"x_sampling"}  # keys of our own
BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")

Json = dict[str, Any]
Fact = tuple[str, str, Any]  # where, what, its value

# Facts of the specification that ours does not state, as `where what`, and why.
LACKING = {
    r"body\.model value": "every name is taken that a model answers to",
    r"body\.max_completion_tokens minimum": "it was 16 in fact",
    r".*\.vector_stores? required": "it means that one of the two ways is taken",
    r".*\.vector_store_ids required": "it means that one of the two ways is taken",
    r"body\.query\[\] minItems": "said of texts, which have no items",
    r"body\.(file_ids|files) required": "it means that one of the two ways is taken",
    r".*\.chunking_strategy\.type value": "no file is older than the strategies",
    r".*\.attachments\.\w+ required": "said of the array where its items are meant",
    r".*\.shutdown_date key": "no recorded model has one; models here do not end",
    r"answer\.(id|object|deleted) (key|required)": "a model's deletion is always refused",
}
LACKING_IN_EVENTS = {
    r"event\.enabled key": "a slip of the specification",
    r".*\.tool_calls\[\]\.file_search required": "of searches alone",
    r"event\.data\.(code|message|param|type) (key|required)": "all in `error`, where the SDKs look",
}
# Keys of answers that were recorded of the hosted API, and are not in its specification.
UNSPECIFIED = {
    "description",  # of vector stores
    "reasoning_effort",
    "prompt_token_details",
    "cached_tokens",
    "completion_tokens_details",
    "reasoning_tokens",
    "hybrid_search",
    *(
        "tool_resources",
        "code_interpreter",
        "file_ids",
        "file_search",
        "vector_store_ids",
    ),  # of runs
    *("expires_at", "attributes"),  # of steps, and of what they found
}
# The same of chat completions alone, both ways: what they had beside conversations.
LACKING_IN_CHAT = {
    r".*\b(audio|input_audio|modalities)\b.*": "no model here hears or speaks",
    r".*\.(image_url|file)\b.*": "no model here sees",
    r".*\b(functions|function_call)\b.*": "what came before tools",
    r".*\b(custom|allowed_tools)\b.*": "functions alone can be called",
    r".*\.logprobs\..*": "there are none",
    r".*\b(moderation|prediction|service_tier|verbosity|web_search_options)\b.*": "no part of ours",
    r".*\b(prompt_cache_\w+|obfuscation)\b.*": "no part of ours",
    r"answer\.metadata key": "completions are not stored",
    r".*\.annotations\[\]\..*": "nobody searches the web",
    r".*\.(text|image|cache_write)_tokens key": "newer than the recordings",
    r"body\.messages\[\]\.name required": "a function's, of what came before tools",
    r".*\.(role|type|finish_reason) value": "of what is excepted above",
    r"body\.(n|seed|stop|safety_identifier) (min|max)(imum|Length|Items)": "ours are others",
    r"event\.choices\[\]\.delta\.role value": "only the assistant answers",
}
BEYOND_IN_CHAT = {
    r"body\.(seed|stop|stop\[\]|tools|logit_bias) (min|max)\w+": "limits of ours",
    r"body\.max_tokens minimum": "one token is the least",
    r"body\.messages\[\]\.annotations key": "the SDK sends an answer back as it came",
    r"body\.messages\[\]\.tool_calls minItems": "none are said by leaving the key out",
}
# Facts that ours states beyond the specification, and why.
BEYOND = {
    r".*\.attachments\[\]\.\w+ required": "said of the array where its items are meant",
    r".*\b(content|content\[\]\.text) maxLength": "a limit that the hosted API had",
    r".*\bmetadata maxProperties": "in the specification's words",
    r".*\.name (min|max)Length": "in the specification's words",
    r".*\.chunk_overlap_tokens minimum": "in the specification's words",
    r"query\.limit (minimum|maximum)": "in the specification's words; 0 was taken in fact",
    r".* maximum": "integers of 32 bits",
    r"body\.max_completion_tokens minimum": "it was 16 in fact",
    r".*\.tool_choice\.function required": "a function cannot be chosen without its name",
    r".*\.tool_call_id required": "an output cannot be matched without it",
    r".*\b(thread\.messages|additional_messages|body\.messages) maxItems": "a limit of ours",
    r"body\.query(\[\])? (min|max)(Length|Items)": "a search has an end",
    r"body\.filters\..*": "recursion that the specification spells in another way",
    r".*\bx_sampling\b.*": "an extension",
    r".*\.hybrid_search key": "the hosted API shows it, so that it may be sent back",
    r"body\.input(\[\])? minLength": "an empty text has no tokens",
}


@cache
def specification() -> Json:
    """The hosted API's."""
    assert SPECIFICATION is not None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: Json = yaml.load(SPECIFICATION.read_text(encoding="utf-8"), Loader=loader)
    return document


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    """Each operation by its method and path; of ours only those that are the API's."""
    for path, methods in document["paths"].items():
        bare = path.removeprefix("/v1")
        if document is not published() or bare != path:
            for method, operation in methods.items():
                if method in ("get", "post", "delete", "put", "patch"):
                    yield f"{method.upper()} {bare}", operation


def facts(document: Json, schema: Json, where: str, depth: int = 0) -> Iterator[Fact]:
    """What a schema says: its keys, the values of enumerations, what is required, bounds."""
    schema = _resolved(document, schema)
    if depth > 16:
        return
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from facts(document, inner, where, depth + 1)
    for value in schema.get("enum", [schema["const"]] if "const" in schema else []):
        yield where, "value", value
    for key in BOUNDS:
        if key in schema:
            yield where, key, schema[key]
    for name, inner in schema.get("properties", {}).items():
        yield f"{where}.{name}", "key", name
        yield from facts(document, inner, f"{where}.{name}", depth + 1)
    for name in schema.get("required", ()):
        yield f"{where}.{name}", "required", True
    if "items" in schema:
        yield from facts(document, schema["items"], f"{where}[]", depth + 1)
    if "contentSchema" in schema:
        yield from facts(document, schema["contentSchema"], where, depth + 1)


def _resolved(document: Json, schema: Json) -> Json:
    while "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def request_facts(document: Json, operation: Json) -> set[Fact]:
    """What can be sent."""
    found: set[Fact] = set()
    for parameter in operation.get("parameters", ()):
        where = f"{parameter['in']}.{parameter['name']}"
        found.add((where, "key", parameter["name"]))
        found |= set(facts(document, parameter["schema"], where))
    for body in operation.get("requestBody", {}).get("content", {}).values():
        found |= set(facts(document, body["schema"], "body"))
    return found


def response_facts(document: Json, operation: Json) -> set[Fact]:
    """What can come back at once."""
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    return set(facts(document, content.get("schema", {}), "answer"))


def event_facts(document: Json, component: str) -> set[Fact]:
    """What a schema of streams' events says."""
    return set(facts(document, {"$ref": f"#/components/schemas/{component}"}, "event"))


def excused(found: set[Fact], reasons: dict[str, str]) -> tuple[list[str], set[str]]:
    """The facts that no reason covers, and the reasons that cover some."""
    told = sorted({f"{where} {what}" for where, what, _ in found})
    used = {reason for reason in reasons for each in told if re.fullmatch(reason, each)}
    return [each for each in told if not any(re.fullmatch(r, each) for r in reasons)], used


def theirs() -> Iterator[tuple[str, Json]]:
    """The hosted API's operations, but for those that are not served."""
    for name, operation in operations(specification()):
        if name not in UNSERVED:
            yield name, operation


OURS = dict(operations(published()))


@needs_specification
def test_every_operation_is_served() -> None:
    """By the same name, but for those that are excepted; ours has some more."""
    specified = dict(operations(specification()))
    assert set(specified) - set(OURS) == set(UNSERVED)
    assert set(OURS) - set(specified) == set(BEYOND_SPECIFICATION)
    for name, operation in theirs():
        assert OURS[name]["operationId"] == operation["operationId"]


@needs_specification
def test_requests_can_have_all_that_they_could() -> None:
    """Keys, values, limits and what is required: no more and no less, but for the exceptions."""
    used: set[str] = set()
    for name, operation in theirs():
        in_chat = name == "POST /chat/completions"
        lacking = LACKING | LACKING_IN_CHAT if in_chat else LACKING
        beyond = BEYOND | BEYOND_IN_CHAT if in_chat else BEYOND
        then = request_facts(specification(), operation)
        now = {fact for fact in request_facts(published(), OURS[name]) if "header." not in fact[0]}
        for lost, reasons in ((then - now, lacking), (now - then, beyond)):
            unexcused, here = excused(lost, reasons)
            assert unexcused == [], name
            used |= here
    assert used >= {*BEYOND, *BEYOND_IN_CHAT}


def test_a_modification_leaves_the_model_as_it_is() -> None:
    """The document states no default, which a generated client would send with each one."""
    fields = body_schema(OURS["POST /assistants/{assistant_id}"])["properties"]
    assert "default" not in fields["model"]


@needs_specification
def test_answers_have_all_that_they_had() -> None:
    """Keys and values; limits of answers bind nobody."""
    for name, operation in theirs():
        lacking = LACKING | LACKING_IN_CHAT if name == "POST /chat/completions" else LACKING
        lost = response_facts(specification(), operation) - response_facts(published(), OURS[name])
        assert excused(stated(lost), lacking)[0] == [], name


@needs_specification
def test_answers_have_nothing_more_but_extensions() -> None:
    """Each is told of in `docs/extensions.md`, or was recorded of the hosted API."""
    told = (bundled_path("pyproject.toml").parent / "docs" / "extensions.md").read_text()
    for name, operation in theirs():
        more = response_facts(published(), OURS[name]) - response_facts(specification(), operation)
        keys = {value for _, what, value in more if what == "key"} - UNSPECIFIED
        assert [key for key in keys if f"`{key}`" not in told] == [], name


@needs_specification
@pytest.mark.parametrize(
    ("component", "ours", "lacking"),
    [
        ("AssistantStreamEvent", "AssistantStreamEvent", LACKING_IN_EVENTS),
        ("CreateChatCompletionStreamResponse", "ChatCompletionChunk", LACKING_IN_CHAT),
    ],
)
def test_events_have_all_that_they_had(component: str, ours: str, lacking: dict[str, str]) -> None:
    """Names, keys and values, in the data of each event."""
    lost = event_facts(specification(), component) - event_facts(published(), ours)
    assert excused(stated(lost), lacking)[0] == []


def stated(found: set[Fact]) -> set[Fact]:
    """Those that bind answers."""
    return {fact for fact in found if fact[1] in ("key", "value", "required")}


@needs_specification
def test_every_model_name_of_the_specification_has_an_alias() -> None:
    """So that programs run unchanged whichever they name; models of embeddings are others."""
    names = {
        value
        for name, operation in theirs()
        if name != "POST /embeddings"
        for where, what, value in request_facts(specification(), operation)
        if (where, what) == ("body.model", "value")
    }
    aliases = load_settings(None, {}, {}).models.aliases_for("served")
    assert len(names) > 30
    assert [name for name in names if not any(fnmatchcase(name, each) for each in aliases)] == []


STORE = "/vector_stores/{vector_store_id}"
OPERATIONS = {
    "GET /assistants": "listAssistants",
    "POST /assistants": "createAssistant",
    "GET /assistants/{assistant_id}": "getAssistant",
    "POST /assistants/{assistant_id}": "modifyAssistant",
    "DELETE /assistants/{assistant_id}": "deleteAssistant",
    "GET /threads": "listThreads",
    "GET /threads/runs": "listRunsOfAllThreads",
    "POST /threads": "createThread",
    "POST /threads/runs": "createThreadAndRun",
    "GET /threads/{thread_id}": "getThread",
    "POST /threads/{thread_id}": "modifyThread",
    "DELETE /threads/{thread_id}": "deleteThread",
    "GET /threads/{thread_id}/messages": "listMessages",
    "POST /threads/{thread_id}/messages": "createMessage",
    "GET /threads/{thread_id}/messages/{message_id}": "getMessage",
    "POST /threads/{thread_id}/messages/{message_id}": "modifyMessage",
    "DELETE /threads/{thread_id}/messages/{message_id}": "deleteMessage",
    "GET /threads/{thread_id}/runs": "listRuns",
    "POST /threads/{thread_id}/runs": "createRun",
    "GET /threads/{thread_id}/runs/{run_id}": "getRun",
    "POST /threads/{thread_id}/runs/{run_id}": "modifyRun",
    "POST /threads/{thread_id}/runs/{run_id}/cancel": "cancelRun",
    "POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs": "submitToolOuputsToRun",
    "GET /threads/{thread_id}/runs/{run_id}/steps": "listRunSteps",
    "GET /threads/{thread_id}/runs/{run_id}/steps/{step_id}": "getRunStep",
    "GET /threads/{thread_id}/runs/{run_id}/events": "streamRunEvents",
    "GET /files": "listFiles",
    "POST /files": "createFile",
    "GET /files/{file_id}": "retrieveFile",
    "DELETE /files/{file_id}": "deleteFile",
    "GET /files/{file_id}/content": "downloadFile",
    "POST /chat/completions": "createChatCompletion",
    "POST /embeddings": "createEmbedding",
    "POST /uploads": "createUpload",
    "POST /uploads/{upload_id}/parts": "addUploadPart",
    "POST /uploads/{upload_id}/complete": "completeUpload",
    "POST /uploads/{upload_id}/cancel": "cancelUpload",
    "GET /models": "listModels",
    "GET /models/{model}": "retrieveModel",
    "DELETE /models/{model}": "deleteModel",
    "GET /vector_stores": "listVectorStores",
    "POST /vector_stores": "createVectorStore",
    f"GET {STORE}": "getVectorStore",
    f"POST {STORE}": "modifyVectorStore",
    f"DELETE {STORE}": "deleteVectorStore",
    f"POST {STORE}/search": "searchVectorStore",
    f"GET {STORE}/files": "listVectorStoreFiles",
    f"POST {STORE}/files": "createVectorStoreFile",
    f"GET {STORE}/files/{{file_id}}": "getVectorStoreFile",
    f"POST {STORE}/files/{{file_id}}": "updateVectorStoreFileAttributes",
    f"DELETE {STORE}/files/{{file_id}}": "deleteVectorStoreFile",
    f"GET {STORE}/files/{{file_id}}/content": "retrieveVectorStoreFileContent",
    f"POST {STORE}/file_batches": "createVectorStoreFileBatch",
    f"GET {STORE}/file_batches/{{batch_id}}": "getVectorStoreFileBatch",
    f"POST {STORE}/file_batches/{{batch_id}}/cancel": "cancelVectorStoreFileBatch",
    f"GET {STORE}/file_batches/{{batch_id}}/files": "listFilesInVectorStoreBatch",
}
RUN_KEYS = (
    "assistant_id model instructions tools metadata temperature top_p stream max_prompt_tokens "
    "max_completion_tokens truncation_strategy tool_choice parallel_tool_calls response_format"
)
BODIES = {
    "POST /chat/completions": "messages model store metadata user safety_identifier "
    "prompt_cache_key stream stream_options n max_tokens max_completion_tokens tools tool_choice "
    "parallel_tool_calls response_format reasoning_effort temperature top_p seed presence_penalty "
    "frequency_penalty logit_bias stop logprobs top_logprobs",
    "POST /embeddings": "model input encoding_format dimensions user",
    "POST /uploads": "bytes filename mime_type purpose expires_after",
    "POST /uploads/{upload_id}/complete": "part_ids md5",
    "POST /assistants": "model name description instructions reasoning_effort tools "
    "tool_resources metadata temperature top_p response_format",
    "POST /assistants/{assistant_id}": "model name description instructions reasoning_effort "
    "tools tool_resources metadata temperature top_p response_format",
    "POST /threads": "messages tool_resources metadata",
    "POST /threads/{thread_id}": "tool_resources metadata",
    "POST /threads/runs": f"{RUN_KEYS} thread tool_resources",
    "POST /threads/{thread_id}/messages": "role content attachments metadata",
    "POST /threads/{thread_id}/messages/{message_id}": "metadata",
    "POST /threads/{thread_id}/runs": f"{RUN_KEYS} reasoning_effort additional_instructions "
    "additional_messages",
    "POST /threads/{thread_id}/runs/{run_id}": "metadata",
    "POST /threads/{thread_id}/runs/{run_id}/submit_tool_outputs": "tool_outputs stream",
    "POST /vector_stores": "file_ids name description expires_after chunking_strategy metadata",
    f"POST {STORE}": "name expires_after metadata",
    f"POST {STORE}/search": "query rewrite_query max_num_results filters ranking_options",
    f"POST {STORE}/files": "file_id chunking_strategy attributes",
    f"POST {STORE}/files/{{file_id}}": "attributes",
    f"POST {STORE}/file_batches": "file_ids files chunking_strategy attributes",
}
LIST_QUERY = {"limit", "order", "after", "before"}
QUERIES = {
    "GET /assistants": LIST_QUERY,
    "GET /threads": LIST_QUERY | {"metadata"},
    "GET /threads/runs": LIST_QUERY | {"metadata", "status"},
    "GET /threads/{thread_id}/messages": LIST_QUERY | {"run_id"},
    "GET /threads/{thread_id}/runs": LIST_QUERY,
    "POST /threads/{thread_id}/runs": {"include[]"},
    "GET /threads/{thread_id}/runs/{run_id}/steps": LIST_QUERY | {"include[]"},
    "GET /threads/{thread_id}/runs/{run_id}/steps/{step_id}": {"include[]"},
    "GET /threads/{thread_id}/runs/{run_id}/events": {"starting_after"},
    "GET /files": {"purpose", "limit", "order", "after"},
    "GET /vector_stores": LIST_QUERY,
    f"GET {STORE}/files": LIST_QUERY | {"filter"},
    f"GET {STORE}/file_batches/{{batch_id}}/files": LIST_QUERY | {"filter"},
}
STREAMED = {
    "createChatCompletion": "ChatCompletionStreamEvent",
    "createRun": "AssistantStreamEvent",
    "createThreadAndRun": "AssistantStreamEvent",
    "submitToolOuputsToRun": "AssistantStreamEvent",
    "streamRunEvents": "AssistantStreamEvent",
}


def test_operations_have_the_hosted_apis_names() -> None:
    """With its own spelling of one."""
    assert {name: each["operationId"] for name, each in OURS.items()} == OPERATIONS


def test_bodies_have_the_hosted_apis_keys() -> None:
    """And take no others."""
    bodies = {
        route.replace(" /v1", " "): schema
        for route, operation in routes()
        if (schema := body_schema(operation))
    }
    assert {name: set(schema["properties"]) - EXTENSIONS for name, schema in bodies.items()} == {
        name: set(keys.split()) for name, keys in BODIES.items()
    }
    assert all(schema["additionalProperties"] is False for schema in bodies.values())


def test_queries_have_the_hosted_apis_parameters() -> None:
    """Those of pages are the same everywhere."""
    found = {
        name: {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        for name, operation in OURS.items()
    }
    assert {name: query for name, query in found.items() if query} == QUERIES


def test_errors_and_streams_are_described() -> None:
    """Errors have one form, those of files a longer one, and never are 422.

    Five operations can answer with a stream, one always does, and one is always refused.
    """
    streamed = {}
    for name, operation in OURS.items():
        answers = operation["responses"]
        assert set(answers) | {"200"} == {"200", "4XX", "5XX"}
        assert ("200" in answers) == (operation["operationId"] != "deleteModel")
        kind = "FileErrorBody" if name.partition(" ")[2].startswith("/files") else "ErrorBody"
        for status in ("4XX", "5XX"):
            error = answers[status]["content"]["application/json"]["schema"]
            assert error == {"$ref": f"#/components/schemas/{kind}"}
        content = answers.get("200", {}).get("content", {})
        if "text/event-stream" in content:
            reference = content["text/event-stream"]["schema"]["$ref"]
            streamed[operation["operationId"]] = reference.rpartition("/")[2]
        if operation["operationId"] == "streamRunEvents":
            assert list(content) == ["text/event-stream"]
    assert streamed == STREAMED


def test_the_document_is_valid() -> None:
    """By the rules of OpenAPI 3.1, so that generators of clients can read it."""
    validate(published())


async def test_the_document_is_served(http: httpx.AsyncClient) -> None:
    """At its usual place, without a header."""
    answer = await http.get("/openapi.json")
    assert answer.json()["paths"].keys() == published()["paths"].keys()
