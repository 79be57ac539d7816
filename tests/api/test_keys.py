"""Who may call: OpenAI's refusals, scopes, and the headers that name a project."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import httpx
import openai
import pytest

from server.access.keys import DEFAULT_PROJECT, NewKey
from server.access.scopes import SCOPES, Scope, allows, needed
from server.app import OpenDoor, running
from server.engine.scripted import ScriptedEngine
from tests.api.wire import HELLO, answer_of, error_of, refused
from tests.covering import routes
from tests.support import LiveServer, ManualClock, live_server, settings_for

NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank "
    "username) if you're accessing the API from your browser and are prompted for a username and "
    "password. You can obtain an API key from https://platform.openai.com/account/api-keys."
)
WRONG_KEY = (
    "Incorrect API key provided: {}. You can find your API key at "
    "https://platform.openai.com/account/api-keys."
)
OPEN = ("/healthz", "/readyz", "/openapi.json")


async def key(server: LiveServer, **wanted: object) -> str:
    """The secret of a new key."""
    return (await server.services.keys.create(NewKey(**wanted)))[1]


def bearing(secret: str, **more: str) -> dict[str, str]:
    """The headers of somebody who has a key."""
    return {"Authorization": f"Bearer {secret}", **more}


@pytest.fixture
async def secret(server: LiveServer) -> str:
    """A key of the default project that may do everything."""
    return await key(server)


async def test_a_key_is_needed_from_the_first_one_on(
    server: LiveServer, http: httpx.AsyncClient
) -> None:
    """Before it any bearer will do, and none; after it, at once, only a good one."""
    assert (await http.get("/v1/models")).status_code == 200
    assert (await http.get("/v1/models", headers=bearing("sk-any"))).status_code == 200
    secret = await key(server)
    assert (await http.get("/v1/models")).status_code == 401
    assert (await http.get("/v1/models", headers=bearing("sk-any"))).status_code == 401
    assert (await http.get("/v1/models", headers=bearing(secret))).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "sk-x", "Basic eDp5", "Basic !", "Digest sk-x"]
)
async def test_no_key(http: httpx.AsyncClient, secret: str, header: str | None) -> None:
    """A header that is missing, or that has no key in it, is told how one looks."""
    headers = {} if header is None else {"Authorization": header}
    refused(await http.get("/v1/assistants", headers=headers), NO_KEY, None, None, 401)


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("local", "local"),
        ("sk-abcdefghijklmnop", "sk-abcde*******mnop"),
        ("sk-" + "a" * 5000, "sk-aaaaa" + "*" * 60 + "aaaa"),
    ],
)
async def test_wrong_key(http: httpx.AsyncClient, secret: str, wrong: str, shown: str) -> None:
    """It is quoted, but for the middle of a long one."""
    answer = await http.get("/v1/assistants", headers=bearing(wrong))
    refused(answer, WRONG_KEY.format(shown), None, "invalid_api_key", 401)


async def test_key_as_a_password(http: httpx.AsyncClient, secret: str) -> None:
    """As browsers send it; and the word bearer in any case."""
    basic = base64.b64encode(f":{secret}".encode()).decode()
    for header in (f"Basic {basic}", f"bearer {secret}"):
        answer = await http.get("/v1/models", headers={"Authorization": header})
        assert answer.status_code == 200


async def test_key_that_is_revoked(
    server: LiveServer, http: httpx.AsyncClient, secret: str
) -> None:
    """The next request is refused, with nothing in it that tells it from a key that never was."""
    (row,) = await server.services.keys.all()
    assert (await http.get("/v1/models", headers=bearing(secret))).status_code == 200
    await server.services.keys.revoke(row.id)
    answer = await http.get("/v1/models", headers=bearing(secret))
    shown = f"{secret[:8]}{'*' * 39}{secret[-4:]}"
    refused(answer, WRONG_KEY.format(shown), None, "invalid_api_key", 401)


async def test_key_that_is_over(tmp_path: Path, clock: ManualClock) -> None:
    """When its time is over, a key is wrong."""
    async with live_server(tmp_path / "data", clock=clock) as server, server.http() as http:
        short = await key(server, lifetime=60)
        assert (await http.get("/v1/models", headers=bearing(short))).status_code == 200
        clock.advance(60)
        assert (await http.get("/v1/models", headers=bearing(short))).status_code == 401


async def test_the_sdk_raises_its_own_errors(server: LiveServer, secret: str) -> None:
    """As with the hosted service."""
    async with server.sdk(api_key="sk-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.beta.assistants.list()
        assert caught.value.code == "invalid_api_key"
    async with server.sdk(api_key=await key(server, scope="read")) as reader:
        assert (await reader.beta.assistants.list()).data == []
        with pytest.raises(openai.PermissionDeniedError, match=r"api\.assistants\.write"):
            await reader.beta.assistants.create(model="gpt-4o")


async def test_who_may_not_call_is_told_so_first(http: httpx.AsyncClient, secret: str) -> None:
    """Whatever else is wrong: the beta header, a query, an id, a body, which is not read."""
    for headers in ({"OpenAI-Beta": "none"}, {}):
        for content in (b"{", b"[" * 10**6):
            answer = await http.post("/v1/threads/x/runs", content=content, headers=headers)
            refused(answer, NO_KEY, None, None, 401)
    assert (await http.get("/v1/assistants?limit=x")).status_code == 401
    refused_file = await http.post("/v1/files", content=b"x")
    refused(refused_file, NO_KEY, None, None, 401)


@pytest.mark.parametrize("route", [route for route, _ in routes()])
async def test_every_route_needs_a_key(http: httpx.AsyncClient, secret: str, route: str) -> None:
    """All but whether the server lives and works, and what its API is like."""
    method, _, path = route.partition(" ")
    answer = await http.request(method, path)
    assert answer.status_code == (200 if path in OPEN else 401)


async def test_metrics_are_for_a_key_of_their_own(
    server: LiveServer, http: httpx.AsyncClient
) -> None:
    """They tell of all projects, so no project's key has them; nor has theirs anything else."""
    assert (await http.get("/metrics")).status_code == 200
    watcher = bearing(await key(server, scope="metrics"))
    everything = bearing(await key(server))
    assert (await http.get("/metrics")).status_code == 401
    assert (await http.get("/metrics", headers=everything)).status_code == 403
    assert "assistants_http_requests" in (await http.get("/metrics", headers=watcher)).text
    assert (await http.get("/v1/models", headers=watcher)).status_code == 403


async def test_project_and_organization_headers(
    server: LiveServer, http: httpx.AsyncClient
) -> None:
    """They may name what is the key's; anything else is refused as the hosted API did."""
    project = (await server.services.keys.create_project("Ours")).id
    secret = await key(server, project=project)
    for fine in (
        {"OpenAI-Project": project, "OpenAI-Organization": "default"},
        {"OpenAI-Project": ""},
    ):
        answer = await http.get("/v1/models", headers=bearing(secret, **fine))
        assert (answer.status_code, answer.headers["openai-project"]) == (200, project)
    for kind, named in (("project", DEFAULT_PROJECT), ("project", "proj_x"), ("organization", "x")):
        wrong = {f"OpenAI-{kind.capitalize()}": named}
        refused(
            await http.get("/v1/models", headers=bearing(secret, **wrong)),
            f"OpenAI-{kind.capitalize()} header should match {kind} for API key",
            None,
            f"mismatched_{kind}",
            401,
        )


async def test_a_server_that_others_can_reach(tmp_path: Path) -> None:
    """It starts only with a key, revoked or not, or when it is told to do without."""
    engines = {"tiny-assistant": ScriptedEngine()}
    reachable = settings_for(tmp_path / "data", server__host="0.0.0.0")
    told_so = settings_for(tmp_path / "data", server__host="::", server__allow_open=True)
    with pytest.raises(OpenDoor, match=r"0\.0\.0\.0 can be reached .* `assistants keys create`"):
        async with running(reachable, engines):
            pass
    async with running(told_so, engines) as services:
        assert not services.keys.required
        row, _ = await services.keys.create(NewKey())
        await services.keys.revoke(row.id)
    async with running(reachable, engines) as services:
        assert services.keys.required


async def test_open_server_ignores_what_was_meant_for_the_hosted_one(
    http: httpx.AsyncClient,
) -> None:
    """An application that names its old project works unchanged where there are no keys."""
    headers = {"OpenAI-Project": "proj_x", "OpenAI-Organization": "org-x"}
    answer = await http.get("/v1/models", headers=headers)
    assert (answer.status_code, answer.headers["openai-project"]) == (200, DEFAULT_PROJECT)


ELSEWHERE = [
    ("Host", "evil.example"),
    ("Host", "evil.example:8000"),
    ("Origin", "http://evil.example"),
    ("Origin", "null"),
]


async def test_no_page_of_another_site_can_call(http: httpx.AsyncClient) -> None:
    """Without keys, each route but the open ones, by a name that leads here or from its origin."""
    for method, _, path in (route.partition(" ") for route, _ in routes()):
        for name, value in ELSEWHERE:
            answer = await http.request(method, path, headers={name: value})
            assert answer.status_code == (200 if path in OPEN else 403), (method, path, name)


async def test_what_a_browser_sends_without_asking_is_not_taken(http: httpx.AsyncClient) -> None:
    """A page's form or text, for which no preflight is made; the answer says what to do."""
    as_text = {"Content-Type": "text/plain", "Origin": "https://evil.example"}
    answer = await http.post("/v1/threads", content=b"{}", headers=as_text)
    refused(
        answer,
        "This server has no API keys, so it is for this machine alone: the Origin header of a "
        "request has to name localhost or a loopback address. Make a key with `assistants keys "
        "create` and send it, or set server.allow_open = true to serve everybody who can reach "
        "this server.",
        None,
        "origin_not_allowed",
        403,
    )
    form = {"files": {"file": ("a.txt", b"x")}, "data": {"purpose": "assistants"}}
    answer = await http.post("/v1/files", **form, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")
    assert (await http.get("/v1/threads")).json()["data"] == []
    assert (await http.get("/v1/files")).json()["data"] == []


async def test_pages_of_this_machine_can_call(server: LiveServer, http: httpx.AsyncClient) -> None:
    """From whatever port; and a client that says no Host, as HTTP/1.0 has it."""
    port = httpx.URL(server.url).port
    for host in (f"localhost:{port}", f"[::1]:{port}", "app.localhost"):
        headers = {"Host": host, "Origin": "http://localhost:3000"}
        assert (await http.get("/v1/models", headers=headers)).status_code == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    await writer.wait_closed()


async def test_who_has_a_key_calls_from_anywhere(http: httpx.AsyncClient, secret: str) -> None:
    """No page of another site knows it."""
    for name, value in ELSEWHERE:
        with_key = bearing(secret, **{name: value})
        assert (await http.get("/v1/models", headers={name: value})).status_code == 401
        assert (await http.get("/v1/models", headers=with_key)).status_code == 200


async def test_a_server_for_everybody(tmp_path: Path) -> None:
    """One that is told to be open asks nobody where he comes from."""
    async with live_server(tmp_path, server__allow_open=True) as server, server.http() as http:
        for name, value in ELSEWHERE:
            assert (await http.get("/v1/models", headers={name: value})).status_code == 200


ALL = [tuple(route.split(" ")) for route, _ in routes() if " /v1/" in route]


@pytest.mark.parametrize("scope", SCOPES)
async def test_scopes(server: LiveServer, http: httpx.AsyncClient, scope: Scope) -> None:
    """What a scope has not is refused before it is looked at, and the error names it."""
    headers = bearing(await key(server, scope=scope))
    for method, path in ALL:
        route = path.replace("{model}", "{model:path}")
        answer = await http.request(method, path, headers=headers)
        if allows(scope, method, route):
            assert answer.status_code not in (401, 403) or "be deleted" in answer.text
        else:
            assert answer.status_code == 403
            missing = f"Missing scopes: {needed(method, route)}. "
            assert missing in answer.json()["error"]["message"]


def test_what_scopes_have() -> None:
    """Routes by what a key may do to them: a new route has to be thought of here."""
    may = {
        scope: {
            f"{method} {path}"
            for method, path in ALL
            if allows(scope, method, path.replace("{model}", "{model:path}"))
        }
        for scope in SCOPES
    }
    everything = {f"{method} {path}" for method, path in ALL}
    search = "POST /v1/vector_stores/{vector_store_id}/search"
    assert may["all"] == everything
    assert may["read"] == {route for route in everything if route.startswith("GET")} | {search}
    assert may["runs"] == {route for route in everything if " /v1/threads" in route} | {
        "GET /v1/models",
        "GET /v1/models/{model}",
        "GET /v1/files/{file_id}",
        "GET /v1/files/{file_id}/content",
    }
    assert may["metrics"] == set()


async def test_a_runs_key_makes_the_store_of_a_thread(
    server: LiveServer, http: httpx.AsyncClient
) -> None:
    """As a part of the thread, of files of its project; by itself it makes and sees none."""
    maker = bearing(await key(server))
    runs = bearing(await key(server, scope="runs"))
    other = (await server.services.keys.create_project("Theirs")).id
    theirs = bearing(await key(server, project=other))
    form = {"files": {"file": ("a.txt", b"Words.")}, "data": {"purpose": "assistants"}}
    ours, foreign = [
        answer_of(await http.post("/v1/files", **form, headers=whose))["id"]
        for whose in (maker, theirs)
    ]
    model = {"model": "gpt-4o"}
    assistant = answer_of(await http.post("/v1/assistants", json=model, headers=maker))["id"]

    async def made(path: str, file_id: str, **more: str) -> httpx.Response:
        store = {"file_search": {"vector_stores": [{"file_ids": [file_id]}]}}
        thread = {"messages": [HELLO], "tool_resources": store}
        body = {"thread": thread, **more} if more else thread
        return await http.post(path, json=body, headers=runs)

    for path, more in (("/v1/threads", {}), ("/v1/threads/runs", {"assistant_id": assistant})):
        answer_of(await made(path, ours, **more))
        assert error_of(await made(path, foreign, **more), 404)["message"].endswith(foreign)
    stores = answer_of(await http.get("/v1/vector_stores", headers=maker))["data"]
    assert [store["file_counts"]["total"] for store in stores] == [1, 1]
    url = f"/v1/vector_stores/{stores[0]['id']}"
    for method, path in (("POST", "/v1/vector_stores"), ("GET", url), ("POST", url)):
        assert (await http.request(method, path, headers=runs)).status_code == 403


async def test_nothing_of_a_key_is_logged(
    server: LiveServer, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither of a good one nor of a wrong one, at any level."""
    caplog.set_level("DEBUG", logger="server")
    secret = await key(server)
    for each in (secret, "sk-wrong-but-secret"):
        await http.get("/v1/models", headers=bearing(each))
    assert "request" in caplog.text
    assert secret[8:-4] not in caplog.text
    assert "wrong-but" not in caplog.text
