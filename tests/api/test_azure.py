"""Azure OpenAI's paths: its SDK client, its header of the key, its deployments."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from server.engine.scripted import ScriptedEngine
from tests.api.test_keys import NO_KEY, key
from tests.api.wire import HELLO, World, answer_of, refused
from tests.support import LiveServer

VERSION = {"api-version": "2024-05-01-preview"}
ASKED = {"messages": [HELLO]}
SHARED = pytest.mark.asyncio(loop_scope="session")  # as the server of `world` is


def azure(server: LiveServer, **options: Any) -> openai.AsyncAzureOpenAI:
    """The official client, as an application of Azure's makes it."""
    given = {"api_key": "local", "max_retries": 0, **options}
    return openai.AsyncAzureOpenAI(
        azure_endpoint=server.url, api_version=VERSION["api-version"], **given
    )


@pytest.mark.parametrize("options", [{}, {"azure_deployment": "gpt-4o"}])
async def test_an_application_of_azures(
    server: LiveServer, engine: ScriptedEngine, options: dict[str, str]
) -> None:
    """A file, a store, an assistant, a streamed run, and completions; also by a deployment."""
    engine.says("Hello there.")
    async with azure(server, **options) as client:
        file = await client.files.create(file=("notes.txt", b"Notes."), purpose="assistants")
        store = await client.vector_stores.create(name="Notes", file_ids=[file.id])
        assistant = await client.beta.assistants.create(
            model="gpt-4o",
            tools=[{"type": "file_search"}],
            tool_resources={"file_search": {"vector_store_ids": [store.id]}},
        )
        thread = await client.beta.threads.create(messages=[HELLO])
        async with client.beta.threads.runs.stream(
            thread_id=thread.id, assistant_id=assistant.id
        ) as stream:
            await stream.until_done()
        [message, _] = (await client.beta.threads.messages.list(thread.id)).data
        [part] = message.content
        assert part.type == "text"
        assert part.text.value == "Hello there."
        engine.says("So it is.")
        completion = await client.chat.completions.create(model="gpt-4o", messages=[HELLO])
        assert completion.choices[0].message.content == "So it is."
        assert completion.model == "gpt-4o"


@SHARED
async def test_a_deployment_names_the_model(world: World) -> None:
    """Where the body names none, as it need not in Azure's API; the body's own counts first."""
    url = "/openai/deployments/{}/chat/completions"
    for path, body in (
        ("gpt-4o", ASKED),
        ("gpt%2D4o", ASKED),
        ("nobody", {**ASKED, "model": "gpt-4o"}),
    ):
        answer = await world.http.post(url.format(path), params=VERSION, json=body)
        assert answer.json()["model"] == "gpt-4o"
    refused(
        await world.http.post(url.format("nobody"), params=VERSION, json=ASKED),
        "The model 'nobody' does not exist",
        "model",
        "model_not_found",
        404,
    )
    answer = await world.http.post(
        "/openai/deployments/letters/embeddings", params=VERSION, json={"input": "abc"}
    )
    assert answer.json()["model"] == "letters"


@SHARED
async def test_its_paths_are_those_of_openai(world: World) -> None:
    """With a version of the API in the query or without, and without the header of the beta."""
    thread = await world.thread(HELLO)
    async with httpx.AsyncClient(base_url=world.server.url, trust_env=False) as http:
        for path in (f"threads/{thread}", f"threads/{thread}/messages", "models", "threads"):
            own = answer_of(await world.http.get(f"/v1/{path}", params={"limit": 1}))
            for prefix in ("openai", "openai/v1", "openai/deployments/any"):
                for query in ({}, VERSION):
                    given = {**query, "limit": 1}
                    answer = await http.get(f"/{prefix}/{path}", params=given)
                    assert answer.json() == own
        changed = {"metadata": {"a": "b"}}
        answer = await http.post(f"/openai/threads/{thread}", params=VERSION, json=changed)
        assert answer.json()["metadata"] == {"a": "b"}


@SHARED
@pytest.mark.parametrize("path", ["/openai", "/openai/", "/openai/nothing", "/openaiv1/models"])
async def test_other_paths_are_unknown(world: World, path: str) -> None:
    """Nothing more is there than at OpenAI's paths."""
    answer = await world.http.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_the_key_is_in_azures_header(server: LiveServer, http: httpx.AsyncClient) -> None:
    """At its paths alone, and unless there is OpenAI's header, too, as with a token of Entra's."""
    secret = await key(server)
    for path, headers, status in (
        ("/openai/models", {"api-key": secret}, 200),
        ("/openai/models", {"Authorization": f"Bearer {secret}"}, 200),
        ("/openai/models", {"api-key": secret, "Authorization": "Bearer sk-wrong"}, 401),
        ("/openai/models", {"api-key": "sk-wrong"}, 401),
        ("/v1/models", {"api-key": secret}, 401),
    ):
        assert (await http.get(path, headers=headers)).status_code == status
    refused(await http.get("/openai/models"), NO_KEY, None, None, 401)
    async with azure(server, api_key=secret) as client:
        assert (await client.models.list()).data[0].id == "tiny-assistant"
