"""What every answer must look like, and the smallest requests, for the tests of this folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx

from server.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from tests.support import LiveServer

Json = dict[str, Any]

KEYS = {
    "assistant": "id object created_at name description model instructions tools top_p temperature "
    "reasoning_effort tool_resources metadata response_format",
    "assistant.deleted": "id object deleted",
    "chat.completion": "id object created model choices usage service_tier system_fingerprint",
    "embedding": "object index embedding",
    "file": "object id purpose filename bytes created_at expires_at status status_details",
    "list": "object data first_id last_id has_more",
    "model": "id object created owned_by context_length state error",
    "upload": "id object bytes created_at filename purpose status expires_at file",
    "upload.part": "id object created_at upload_id",
    "thread": "id object created_at metadata tool_resources",
    "thread.deleted": "id object deleted",
    "thread.message": "id object created_at assistant_id thread_id run_id status "
    "incomplete_details incomplete_at completed_at role content attachments metadata",
    "thread.message.deleted": "id object deleted",
    "thread.run": "id object created_at assistant_id thread_id status started_at expires_at "
    "cancelled_at failed_at completed_at required_action last_error model instructions tools "
    "tool_resources metadata temperature top_p reasoning_effort max_completion_tokens "
    "max_prompt_tokens truncation_strategy incomplete_details usage response_format tool_choice "
    "parallel_tool_calls",
    "thread.run.step": "id object created_at run_id assistant_id thread_id type status "
    "cancelled_at completed_at expires_at expired_at failed_at last_error step_details usage "
    "metadata",
    "vector_store": "id object created_at name description usage_bytes file_counts status "
    "expires_after expires_at last_active_at metadata",
    "vector_store.deleted": "id object deleted",
    "vector_store.file": "id object usage_bytes created_at vector_store_id status last_error "
    "chunking_strategy attributes",
    "vector_store.file.deleted": "id object deleted",
    "vector_store.file_content.page": "object data has_more next_page",
    "vector_store.files_batch": "id object created_at status vector_store_id file_counts",
    "vector_store.search_results.page": "object search_query data has_more next_page",
}
OF_FILES = {"list": "object data has_more first_id last_id", "file": "object deleted id"}
WITHOUT_PAGES = {"model": "object data", "embedding": "object data model usage"}
USAGE = (
    "prompt_tokens completion_tokens total_tokens prompt_token_details completion_tokens_details"
)
CHAT_USAGE = USAGE.replace("prompt_token_details", "prompt_tokens_details")
PREFIXES = {
    "assistant": "asst_",
    "assistant.deleted": "asst_",
    "chat.completion": "chatcmpl-",
    "file": "file-",
    "upload": "upload_",
    "upload.part": "part_",
    "thread": "thread_",
    "thread.deleted": "thread_",
    "thread.message": "msg_",
    "thread.message.deleted": "msg_",
    "thread.run": "run_",
    "thread.run.step": "step_",
    "vector_store.file": "file-",
    "vector_store.file.deleted": "file-",
}
HEXADECIMAL = {
    "vector_store": "vs_",
    "vector_store.deleted": "vs_",
    "vector_store.files_batch": "vsfb_",
}
HELLO = {"role": "user", "content": "Hello!"}


def letter_counter() -> ScriptedEngine:
    """A model whose vectors count the letters of a text."""
    return ScriptedEngine(info=replace(SCRIPTED_MODEL, embedding=SCRIPTED_MODEL.vocabulary))


def answer_of(response: httpx.Response, status: int = 200) -> Any:
    """The JSON of an answer, whose status, bytes and headers are as the hosted API's."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    value = json.loads(response.text)
    of_files = f"{response.request.url.path}/".startswith("/v1/files/")
    end = "\n" if of_files else ""
    assert response.text == json.dumps(value, indent=2, ensure_ascii=False) + end
    assert re.fullmatch("req_[0-9a-f]{32}", response.headers["x-request-id"])
    assert response.headers["openai-processing-ms"].isdigit()
    assert response.headers["openai-version"] == "2020-10-01"
    if status >= 400:
        assert list(value) == (["error", "detail"] if of_files else ["error"])
        assert list(value["error"]) == ["message", "type", "param", "code"]
        if of_files:
            assert value["detail"] == {key: value["error"][key] for key in ("message", "code")}
    else:
        assert_objects(value, of_files)
    return value


def error_of(response: httpx.Response, status: int = 400) -> Json:
    """The error object of an answer."""
    error: Json = answer_of(response, status)["error"]
    return error


def refused(
    response: httpx.Response, message: str, param: str | None, code: str | None, status: int = 400
) -> None:
    """The answer is exactly this error of the caller's."""
    assert error_of(response, status) == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": code,
    }


def assert_objects(value: Any, of_files: bool = False) -> None:
    """Every object within an answer has its keys in the wire's order, and an id of its form."""
    for each in _objects(value):
        kind = each["object"]
        inner = each["data"][0]["object"] if kind == "list" and each["data"] else None
        if inner in WITHOUT_PAGES:
            assert " ".join(each) == WITHOUT_PAGES[inner]
            continue
        own = of_files and (kind == "list" or "deleted" in each)
        assert " ".join(each) == (OF_FILES if own else KEYS)[kind]
        if kind in PREFIXES:
            assert re.fullmatch(PREFIXES[kind] + "[A-Za-z0-9]{24}", each["id"])
        if kind in HEXADECIMAL:
            assert re.fullmatch(HEXADECIMAL[kind] + "[0-9a-f]{32}", each["id"])
        if each.get("usage"):
            usage = CHAT_USAGE if kind == "chat.completion" else USAGE
            assert " ".join(each["usage"]) == usage
        if kind == "list":
            ids = [item["id"] for item in each["data"]]
            assert (each["first_id"], each["last_id"]) == ((ids or [None])[0], (ids or [None])[-1])


def _objects(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        if value.get("object") in KEYS:
            yield value
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


# What bodies name that exists on every server, under an id of that server's.
A_FILE, ANOTHER_FILE, A_STORE = "file-1", "file-2", "vs_1"


@dataclass(frozen=True, slots=True)
class World:
    """A server with one of everything: a thread whose run has answered its message."""

    server: LiveServer
    http: httpx.AsyncClient
    assistant_id: str
    thread_id: str
    message_id: str
    run_id: str
    step_id: str
    file_id: str
    other_file_id: str
    upload_id: str
    vector_store_id: str
    batch_id: str

    def own(self, value: Any) -> Any:
        """A body, or a part of an answer, with the ids of what is here."""
        text = json.dumps(value)
        for name, own in (
            (A_FILE, self.file_id),
            (ANOTHER_FILE, self.other_file_id),
            (A_STORE, self.vector_store_id),
        ):
            text = text.replace(f'"{name}"', f'"{own}"')
        return json.loads(text)

    def url(self, route: str) -> str:
        """The URL of a route such as `GET /v1/threads/{thread_id}`, on what is here."""
        path = route.partition(" ")[2]
        return path.format(
            assistant_id=self.assistant_id,
            thread_id=self.thread_id,
            message_id=self.message_id,
            run_id=self.run_id,
            step_id=self.step_id,
            file_id=self.file_id,
            upload_id=self.upload_id,
            vector_store_id=self.vector_store_id,
            batch_id=self.batch_id,
            model="gpt-4o",
        )

    async def send(self, route: str, body: Json | None = None, **options: Any) -> httpx.Response:
        """Call a route on what is here."""
        return await self.http.request(
            route.partition(" ")[0], self.url(route), json=self.own(body), **options
        )

    async def create(self, path: str, body: Json | None = None) -> Json:
        """A new object."""
        created: Json = answer_of(await self.http.post(path, json=self.own(body)))
        return created

    async def thread(self, *messages: Json) -> str:
        """The id of a new thread."""
        created = await self.create("/v1/threads", {"messages": list(messages)})
        return str(created["id"])

    async def post(self, route: str, body: Json) -> httpx.Response:
        """Send to a `POST` route on something new, so that nothing else is changed.

        What the route cannot do without is added to the body.
        """
        path = route.partition(" ")[2]
        smallest = dict(SMALLEST.get(route, {}))
        if "assistant_id" in smallest:
            smallest["assistant_id"] = self.assistant_id
        if body.get("tool_choice"):
            smallest["tools"] = CHOOSABLE[:4] if route == CHAT else CHOOSABLE
        if path == "/v1/assistants/{assistant_id}":
            assistant = await self.create("/v1/assistants", {"model": "gpt-4o"})
            path = f"/v1/assistants/{assistant['id']}"
        elif "{vector_store_id}" in path:
            path = await self._in_new_store(path)
        elif "{run_id}" not in path and "{thread_id}" in path:
            thread_id = await self.thread(HELLO)
            path = path.replace("{thread_id}", thread_id)
            if "{message_id}" in path:
                message = await self.create(f"/v1/threads/{thread_id}/messages", HELLO)
                path = path.replace("{message_id}", message["id"])
        whole = self.own({**smallest, **body})
        return await self.http.post(self.url(f"POST {path}"), json=whole)

    async def _in_new_store(self, path: str) -> str:
        store = (await self.create("/v1/vector_stores"))["id"]
        url = f"/v1/vector_stores/{store}"
        if "{file_id}" in path:
            await self.create(f"{url}/files", {"file_id": A_FILE})
        if "{batch_id}" in path:
            batch = await self.create(f"{url}/file_batches", {"file_ids": [A_FILE]})
            path = path.replace("{batch_id}", batch["id"])
        return path.replace("{vector_store_id}", store)


SMALLEST: dict[str, Json] = {
    "POST /v1/assistants": {"model": "gpt-4o"},
    "POST /v1/chat/completions": {"model": "gpt-4o", "messages": [HELLO]},
    "POST /v1/embeddings": {"model": "letters", "input": "x"},
    "POST /v1/threads/runs": {"assistant_id": "", "thread": {"messages": [HELLO]}},
    "POST /v1/threads/{thread_id}/messages": HELLO,
    "POST /v1/threads/{thread_id}/runs": {"assistant_id": ""},
    "POST /v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs": {"tool_outputs": []},
    "POST /v1/uploads": {
        "bytes": 5,
        "filename": "a.txt",
        "mime_type": "text/plain",
        "purpose": "assistants",
    },
    "POST /v1/uploads/{upload_id}/complete": {"part_ids": []},
    "POST /v1/vector_stores/{vector_store_id}/search": {"query": "x"},
    "POST /v1/vector_stores/{vector_store_id}/files": {"file_id": A_FILE},
    "POST /v1/vector_stores/{vector_store_id}/files/{file_id}": {"attributes": {}},
    "POST /v1/vector_stores/{vector_store_id}/file_batches": {"file_ids": [A_FILE]},
}


CHOOSABLE: list[Json] = [
    *(
        {"type": "function", "function": {"name": name}}
        for name in ("f", "add", "get_weather-2", "x" * 64)
    ),
    {"type": "code_interpreter"},
    {"type": "file_search"},
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a nested schema is reached: a route, a path in its body, and its smallest form.

    What is around the value is as plain as the path, unless `around` says otherwise.
    """

    route: str
    path: str
    smallest: Json
    around: Callable[[Any], Json] | None = None

    def body(self, value: Any) -> Json:
        """The rest of a body that has `value` at the path."""
        if self.around is not None:
            return self.around(value)
        for key in reversed(re.findall(r"\w+", self.path)):
            if key == "0":
                value = [value]
            else:
                value = {**({"type": key} if self._is_typed(key) else {}), key: value}
        return dict(value)

    def _is_typed(self, key: str) -> bool:
        return key in TYPED or (key == "file_search" and self.path.startswith("tools["))


TYPED = ("function", "image_file", "image_url", "json_schema", "static")
CHAT = "POST /v1/chat/completions"
ASSISTANTS = "POST /v1/assistants"
ASSISTANT = "POST /v1/assistants/{assistant_id}"
THREADS = "POST /v1/threads"
THREAD = "POST /v1/threads/{thread_id}"
MESSAGES = "POST /v1/threads/{thread_id}/messages"
MESSAGE = "POST /v1/threads/{thread_id}/messages/{message_id}"
RUNS = "POST /v1/threads/{thread_id}/runs"
RUN = "POST /v1/threads/{thread_id}/runs/{run_id}"
BOTH = "POST /v1/threads/runs"
SUBMIT = "POST /v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs"
FILES = "POST /v1/files"
UPLOADS = "POST /v1/uploads"
PARTS = "POST /v1/uploads/{upload_id}/parts"
COMPLETE = "POST /v1/uploads/{upload_id}/complete"
STORES = "POST /v1/vector_stores"
STORE = "POST /v1/vector_stores/{vector_store_id}"
SEARCH = f"{STORE}/search"
STORE_FILES = f"{STORE}/files"
STORE_FILE = f"{STORE}/files/{{file_id}}"
BATCHES = f"{STORE}/file_batches"
BATCH = f"{STORE}/file_batches/{{batch_id}}"
CANCEL_UPLOAD = "POST /v1/uploads/{upload_id}/cancel"

NAMED = {"name": "f"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLS = {"role": "assistant", "tool_calls": [CALL]}
NEW_STORE = "tool_resources.file_search.vector_stores[0]"
CHUNKS = {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}
PLACES = {
    "Attachment": Place(MESSAGES, "attachments[0]", {"file_id": A_FILE, "tools": []}),
    "ChosenFunction": Place(RUNS, "tool_choice.function", NAMED),
    "CodeInterpreterResources": Place(ASSISTANTS, "tool_resources.code_interpreter", {}),
    "ExpiresAfter": Place(UPLOADS, "expires_after", {"anchor": "created_at", "seconds": 3600}),
    "FileSearchResources": Place(ASSISTANT, "tool_resources.file_search", {}),
    "FileSearchSettings": Place(ASSISTANTS, "tools[0].file_search", {}),
    "FileSearchTool": Place(ASSISTANTS, "tools[0]", {"type": "file_search"}),
    "Function": Place(ASSISTANTS, "tools[0].function", NAMED),
    "FunctionChoice": Place(RUNS, "tool_choice", {"type": "function", "function": NAMED}),
    "FunctionTool": Place(ASSISTANTS, "tools[0]", {"type": "function", "function": NAMED}),
    "ImageFile": Place(MESSAGES, "content[0].image_file", {"file_id": "file-1"}),
    "ImageFilePart": Place(
        MESSAGES, "content[0]", {"type": "image_file", "image_file": {"file_id": "file-1"}}
    ),
    "ImageUrl": Place(MESSAGES, "content[0].image_url", {"url": "https://example.org/a.png"}),
    "ImageUrlPart": Place(
        MESSAGES,
        "content[0]",
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ),
    "JsonSchema": Place(ASSISTANTS, "response_format.json_schema", {"name": "n"}),
    "JsonSchemaFormat": Place(
        ASSISTANTS, "response_format", {"type": "json_schema", "json_schema": {"name": "n"}}
    ),
    "NewFileSearchResources": Place(ASSISTANTS, "tool_resources.file_search", {}),
    "ComparisonFilter": Place(SEARCH, "filters", {"type": "eq", "key": "a", "value": 1}),
    "CompoundFilter": Place(SEARCH, "filters", {"type": "and", "filters": []}),
    "SearchRanking": Place(SEARCH, "ranking_options", {}),
    "StoreExpiry": Place(STORES, "expires_after", {"anchor": "last_active_at", "days": 7}),
    "NewToolResources": Place(ASSISTANTS, "tool_resources", {}),
    "NewVectorStore": Place(ASSISTANTS, NEW_STORE, {}),
    "RankingOptions": Place(
        ASSISTANTS, "tools[0].file_search.ranking_options", {"score_threshold": 0.5}
    ),
    "StaticChunking": Place(STORE_FILES, "chunking_strategy.static", CHUNKS),
    "StaticChunkingStrategy": Place(
        STORE_FILES, "chunking_strategy", {"type": "static", "static": CHUNKS}
    ),
    "SamplingOptions": Place(RUNS, "x_sampling", {}),
    "TextPart": Place(MESSAGES, "content[0]", {"type": "text", "text": "x"}),
    "ToolOutput": Place(SUBMIT, "tool_outputs[0]", {"tool_call_id": "call_1"}),
    "ToolResources": Place(THREAD, "tool_resources", {}),
    "TruncationStrategy": Place(RUNS, "truncation_strategy", {"type": "auto"}),
}


def told(*before: Json) -> Callable[[Any], Json]:
    """A body whose last message is the value."""
    return lambda message: {"messages": [*before, message]}


def in_content(role: str) -> Callable[[Any], Json]:
    """A body with a message of one part, the value."""
    return lambda part: {"messages": [{"role": role, "content": [part]}]}


def called(call: Any) -> Json:
    """A body with a message of one call, the value."""
    return {"messages": [{"role": "assistant", "tool_calls": [call]}]}


def called_function(function: Any) -> Json:
    """A body with a message of one call, of a function that is the value."""
    return called({**CALL, "function": function})


PLACES |= {
    "AssistantMessage": Place(
        CHAT,
        "messages[0]",
        {"role": "assistant", "content": "No.", "refusal": "No."},
        told(),
    ),
    "ChatImagePart": Place(
        CHAT,
        "messages[0].content[0]",
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        in_content("user"),
    ),
    "ChatRefusalPart": Place(
        CHAT,
        "messages[0].content[0]",
        {"type": "refusal", "refusal": "No."},
        in_content("assistant"),
    ),
    "ChatSamplingOptions": Place(CHAT, "x_sampling", {}),
    "ChatTextPart": Place(
        CHAT, "messages[0].content[0]", {"type": "text", "text": "x"}, in_content("user")
    ),
    "MadeCall": Place(CHAT, "messages[0].tool_calls[0]", CALL, called),
    "MadeFunction": Place(
        CHAT,
        "messages[0].tool_calls[0].function",
        {"name": "f", "arguments": "{}"},
        called_function,
    ),
    "StreamOptions": Place(
        CHAT, "stream_options", {}, lambda value: {"stream": True, "stream_options": value}
    ),
    "SystemMessage": Place(CHAT, "messages[0]", {"role": "system", "content": "x"}, told()),
    "ToolMessage": Place(
        CHAT,
        "messages[1]",
        {"role": "tool", "tool_call_id": "call_1", "content": "x"},
        told(CALLS),
    ),
    "UserMessage": Place(CHAT, "messages[0]", {"role": "user", "content": "x"}, told()),
}


def request_with(subject: str, fields: Json) -> tuple[str, Json]:
    """The route, and the body, in which a route's or a nested schema's fields are these."""
    if subject not in PLACES:
        return subject, fields
    place = PLACES[subject]
    return place.route, place.body({**place.smallest, **fields})


def param_of(subject: str, field: str) -> str:
    """The path by which errors name a field."""
    return f"{PLACES[subject].path}.{field}" if subject in PLACES else field


def at(value: Any, path: str) -> Any:
    """What is at a path of an answer."""
    for key in re.findall(r"\w+", path):
        value = value[int(key)] if key.isdigit() else value[key]
    return value
