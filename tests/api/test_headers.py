"""What every request must carry and every answer carries, whatever the route."""

from __future__ import annotations

import httpx
import pytest

from tests.api.wire import SMALLEST, World, answer_of, error_of, refused
from tests.covering import covers, routes
from tests.support import eventually, parse_events

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALL = [route for route, _ in routes()]
BEHIND_BETA = [route for route in ALL if "/v1/assistants" in route or "/v1/threads" in route]
OPEN = [
    route
    for route in ALL
    if route not in BEHIND_BETA
    and not any(path in route for path in ("/v1/files", "/v1/uploads/", "/v1/vector_stores/"))
]
PLACES = ("assistant_id", "thread_id", "message_id", "run_id", "step_id")
KINDS = {
    "assistant_id": "assistant",
    "thread_id": "thread",
    "message_id": "message",
    "run_id": "run",
    "step_id": "run step",
}


async def send(spare: World, route: str, http: httpx.AsyncClient | None = None) -> httpx.Response:
    """The smallest request of a route, on what is there."""
    method = route.partition(" ")[0]
    body = dict(SMALLEST.get(route, {})) if method == "POST" else None
    if body and "assistant_id" in body:
        body["assistant_id"] = spare.assistant_id
    return await (http or spare.http).request(method, spare.url(route), json=body)


def bare(spare: World, *lines: tuple[str, str], **headers: str) -> httpx.AsyncClient:
    """A client that sends no beta header, but these."""
    given = [*lines, *headers.items()]
    return httpx.AsyncClient(base_url=spare.server.url, headers=given, timeout=20, trust_env=False)


async def test_the_beta_header_may_come_on_several_lines(spare: World) -> None:
    """In any order: lines of one header are one list."""
    beta = "OpenAI-Beta"
    v1, v2, other = ((beta, name) for name in ("assistants=v1", "assistants=v2", "other=v1"))
    for lines in ((other, v2), (v2, other), (v1, v2)):
        async with bare(spare, *lines) as http:
            answer_of(await http.get("/v1/assistants"))
    async with bare(spare, other, v1) as http:
        error = error_of(await http.get("/v1/assistants"))
        assert error["message"].startswith("The v1 Assistants API is not served.")


@pytest.mark.parametrize(
    "route",
    [pytest.param(route, marks=covers(route, "OpenAI-Beta", "error")) for route in BEHIND_BETA],
)
async def test_assistants_and_threads_are_behind_a_header(spare: World, route: str) -> None:
    """Without it, whatever else is right or wrong, the error says what to set."""
    for headers in ({}, {"OpenAI-Beta": ""}, {"OpenAI-Beta": "assistants=v3, realtime=v1"}):
        async with bare(spare, **headers) as http:
            refused(
                await send(spare, route, http),
                "You must provide the 'OpenAI-Beta' header to access the Assistants API. "
                "Please try again by setting the header 'OpenAI-Beta: assistants=v2'.",
                None,
                "invalid_beta",
            )


@pytest.mark.parametrize(
    ("route", "headers"),
    [
        ("GET /v1/threads?unknown=1", {}),
        ("GET /v1/threads/runs?status=completed&status=failed", {}),
        ("POST /v1/threads", {"Idempotency-Key": ""}),
        ("POST /v1/threads/{thread_id}/messages", {"X-Busy-Policy": "nonsense"}),
    ],
)
async def test_the_beta_header_is_missed_before_anything_else(
    spare: World, route: str, headers: dict[str, str]
) -> None:
    """Whatever else is wrong with the query and other headers is told after that."""
    async with bare(spare, **headers) as http:
        assert error_of(await send(spare, route, http))["code"] == "invalid_beta"
    async with bare(spare, **headers, **{"OpenAI-Beta": "assistants=v2"}) as http:
        assert error_of(await send(spare, route, http))["code"] != "invalid_beta"


@pytest.mark.parametrize(
    "route",
    [
        pytest.param(route, marks=covers(route, "OpenAI-Beta", "taken", "error"))
        for route in BEHIND_BETA
        if not route.startswith("DELETE")
    ]
    + [
        pytest.param(route, marks=covers(route, "OpenAI-Beta", "error"))
        for route in BEHIND_BETA
        if route.startswith("DELETE")
    ],
)
async def test_v1_is_not_served_and_v2_may_be_one_of_several(spare: World, route: str) -> None:
    """The error of v1 says so; a list that has v2 is fine."""
    async with bare(spare, **{"OpenAI-Beta": "assistants=v1"}) as http:
        refused(
            await send(spare, route, http),
            "The v1 Assistants API is not served. Please set the header "
            "'OpenAI-Beta: assistants=v2'.",
            None,
            "invalid_beta",
        )
    if not route.startswith("DELETE"):
        async with bare(spare, **{"openai-beta": "realtime=v1, assistants=v2"}) as http:
            answer = await send(spare, route, http)
            assert '"invalid_beta"' not in answer.text


@pytest.mark.parametrize(
    "route",
    [
        pytest.param(
            route,
            marks=[
                covers(route, "OpenAI-Beta", "taken"),
                *(covers(route, name, "error") for name in PLACES if f"{{{name}}}" in route),
            ],
        )
        for route in BEHIND_BETA
        if "{" in route
    ],
)
async def test_what_does_not_exist_is_not_found(spare: World, route: str) -> None:
    """Each id of a path is looked up in turn, and the error names the first that is unknown."""
    for name in PLACES:
        if f"{{{name}}}" not in route:
            continue
        known = spare.url(route)
        unknown = known.replace(getattr(spare, name), f"{name}_x")
        method = route.partition(" ")[0]
        body = dict(SMALLEST.get(route, {})) if method == "POST" else None
        if body and "assistant_id" in body:
            body["assistant_id"] = spare.assistant_id
        refused(
            await spare.http.request(method, unknown, json=body),
            f"No {KINDS[name]} found with id '{name}_x'.",
            None,
            None,
            404,
        )


@pytest.mark.parametrize(
    "route", [pytest.param(r, marks=covers(r, "answer", "taken")) for r in OPEN]
)
async def test_other_routes_need_no_header(spare: World, route: str) -> None:
    """Models, health and metrics answer anybody."""
    async with bare(spare) as http:
        answer = await send(spare, route, http)
        assert answer.status_code == (403 if route.startswith("DELETE") else 200)
        assert answer.headers["x-request-id"].startswith("req_")


async def test_no_key_is_needed_on_loopback(spare: World) -> None:
    """Nor does a wrong one harm."""
    async with bare(spare, Authorization="Bearer sk-anything") as http:
        answer_of(await http.get("/v1/models"))
    async with bare(spare) as http:
        answer_of(await http.get("/v1/models"))


async def test_every_answer_has_its_own_request_id(spare: World) -> None:
    """Refusals and unknown URLs too; the SDKs show it to their users."""
    seen = set()
    for path in ("/v1/models", "/v1/models", "/v1/assistants/x", "/v1/nothing", "/healthz"):
        answer = await spare.http.get(path)
        assert answer.headers["openai-version"] == "2020-10-01"
        assert answer.headers["openai-organization"] == "default"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["openai-processing-ms"].isdigit()
        seen.add(answer.headers["x-request-id"])
    assert len(seen) == 5


async def test_a_stream_has_the_headers_of_every_answer(spare: World) -> None:
    """And its content type has a charset, as the hosted API's."""
    answer = await spare.post("POST /v1/threads/runs", {"stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["openai-processing-ms"].isdigit()
    assert parse_events(answer.text)[-1].data == "[DONE]"


async def test_runs_tell_how_soon_to_poll_again(spare: World) -> None:
    """The SDKs wait a second otherwise. Objects that nobody polls do not say it."""
    run = await spare.http.get(spare.url("GET /v1/threads/{thread_id}/runs/{run_id}"))
    assert run.headers["openai-poll-after-ms"] == "100"
    thread = await spare.http.get(spare.url("GET /v1/threads/{thread_id}"))
    assert "openai-poll-after-ms" not in thread.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/ddmodels"),
        ("POST", "/v1/threads/x/y"),
        ("GET", "/v1"),
        ("GET", "/"),
        ("GET", "/v1/assistants/"),
        ("DELETE", "/v1/threads/x/runs/y/steps/z/w"),
        ("GET", "/docs"),
    ],
)
async def test_an_unknown_url_is_named(spare: World, method: str, path: str) -> None:
    """With a hint where to look; nothing is redirected."""
    refused(
        await spare.http.request(method, path),
        f"Unknown request URL: {method} {path}. Please check the URL for typos, or see the docs "
        "at https://platform.openai.com/docs/api-reference/.",
        None,
        "unknown_url",
        404,
    )


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/assistants", "GET, POST"),
        ("PUT", "/v1/threads/thread_x", "DELETE, GET, POST"),
        ("PATCH", "/v1/threads/thread_x/messages", "GET, POST"),
        ("POST", "/v1/models", "GET"),
        ("GET", "/v1/embeddings", "POST"),
        ("DELETE", "/v1/threads/thread_x/runs/run_x", "GET, POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_url_lacks_is_named(
    spare: World, method: str, path: str, allowed: str
) -> None:
    """405 in the form of every error, with all methods that the URL has."""
    answer = await spare.http.request(method, path)
    assert answer.headers["allow"] == allowed
    error = error_of(answer, 405)
    assert error["message"].startswith(f"Not allowed to {method} on {path}.")
    assert (error["type"], error["code"]) == ("invalid_request_error", "method_not_supported")


async def test_health_and_metrics_are_outside_v1(spare: World) -> None:
    """Liveness, readiness and Prometheus text."""
    assert answer_of(await spare.http.get("/healthz")) == {"status": "ok"}
    assert answer_of(await spare.http.get("/readyz"))["status"] == "ready"
    for path in ("/healthz", "/readyz"):
        head = await spare.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
    metrics = await spare.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "assistants_open_streams" in metrics.text
    route = 'route="/v1/threads/{thread_id}/runs/{run_id}"'
    assert any(route in line for line in metrics.text.splitlines())


async def test_date_goes_on(spare: World) -> None:
    """The `date` of answers is that of the second in which they are given."""

    async def date() -> str:
        return (await spare.http.get("/healthz")).headers["date"]

    first = await date()
    assert await eventually(date, lambda now: now != first) > ""
