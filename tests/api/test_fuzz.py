"""Whatever is sent to whatever route: an object or an error of the wire's form, never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.wire import SMALLEST, World, answer_of
from tests.covering import body_schema, form_schema, parts, routes
from tests.forms import BOUNDARY, FORM, form, part

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCHEMAS = {route: body_schema(operation) for route, operation in routes()}
WITH_BODY = [route for route, schema in SCHEMAS.items() if schema]
WITH_FORM = [route for route, operation in routes() if form_schema(operation)]
LISTS = [
    route
    for route, operation in routes()
    if any(each["name"] == "limit" for each in operation.get("parameters", ()))
]
NAMES = sorted(
    {
        name
        for schema in (*SCHEMAS.values(), *parts().values())
        for name in schema.get("properties", {})
    }
)
WORDS = ("auto", "text", "function", "file_search", "image_url", "user", "static", "", "gpt-4o")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=10,
)
BOUNDED = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def mutated(route: str) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies with the route's own keys and any values."""
    own = sorted(SCHEMAS[route]["properties"])
    return st.dictionaries(st.sampled_from(own) | st.sampled_from(NAMES), VALUES, max_size=5)


def in_form(answer: Any) -> None:
    """An object, a stream or an error of the caller's."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n")
        return
    assert answer.status_code < 500, answer.text
    value = answer_of(answer, answer.status_code)
    if answer.status_code >= 400:
        assert value["error"]["type"] == "invalid_request_error"
        assert value["error"]["message"]


@pytest.mark.parametrize("route", WITH_BODY)
@given(data=st.data())
@BOUNDED
async def test_any_json_is_taken_or_told_off(spare: World, route: str, data: Any) -> None:
    """Bodies that are nearly right are the likeliest to slip through."""
    body = data.draw(mutated(route))
    smallest = {"assistant_id": spare.assistant_id} if "assistant_id" in body else {}
    in_form(await spare.post(route, {**body, **smallest}))
    content = json.dumps(body).encode()
    in_form(await spare.http.post(spare.url(route), content=content[: len(content) // 2]))


@pytest.mark.parametrize("route", WITH_BODY)
@given(content=st.binary(max_size=40))
@BOUNDED
async def test_any_bytes_are_told_off(spare: World, route: str, content: bytes) -> None:
    """What is not even JSON."""
    in_form(await spare.http.post(spare.url(route), content=content))


PIECES = (
    *(b"{ } [ ] , : - . 0 e null NaN -Infinity 1e999 0x1".split(b" ")),
    *(b'"', b'"a":', b'"\\ud800"', b"\\", b"\\u00", b"\0", b"\n", b"\xff", b"\xed\xa0\x80"),
)


@pytest.mark.parametrize("route", WITH_BODY)
@given(
    data=st.data(),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from(PIECES))),
)
@BOUNDED
async def test_any_bytes_within_json_are_taken_or_told_off(
    spare: World, route: str, data: Any, cuts: list[tuple[float, int, bytes]]
) -> None:
    """A body in which bytes are others, are missing, or were put in."""
    body = {**SMALLEST.get(route, {}), **data.draw(mutated(route))}
    content = json.dumps(body, ensure_ascii=False).encode()
    for place, length, piece in cuts:
        at = int(place * len(content))
        content = content[:at] + piece + content[at + length :]
    in_form(await spare.http.post(spare.url(route), content=content))


FORM_FIELDS = (
    "file",
    "file[a]",
    "data",
    "data[a]",
    "purpose",
    "purpose[a]",
    "expires_after",
    "expires_after[anchor]",
    "expires_after[seconds]",
    "expires_after[seconds][a]",
    "a",
    "",
)
FORM_VALUES = st.binary(max_size=8) | st.sampled_from([b"vision", b"created_at", b"3600", b"-1"])


@pytest.mark.parametrize("route", WITH_FORM)
@given(
    fields=st.lists(st.tuples(st.sampled_from(FORM_FIELDS), FORM_VALUES), max_size=6),
    cut=st.integers(0, 60),
    head=st.sampled_from(["", "; filename=a", "; filename*=utf-8''%ff", '; filename="', ";;=;"]),
)
@BOUNDED
async def test_any_form_is_taken_or_told_off(
    spare: World, route: str, fields: list[tuple[str, bytes]], cut: int, head: str
) -> None:
    """Fields in any order and number, with odd headers, whole and cut."""
    body = form(*(part(f'name="{name}"{head}', value) for name, value in fields))
    for content in (body, body[: max(len(body) - cut, 0)]):
        in_form(await spare.http.post(spare.url(route), content=content, headers=FORM))


@pytest.mark.parametrize("route", WITH_FORM)
@given(content=st.binary(max_size=80))
@BOUNDED
async def test_any_bytes_are_no_form(spare: World, route: str, content: bytes) -> None:
    """Also right behind a boundary."""
    for begin in (b"", f"--{BOUNDARY}\r\n".encode()):
        answer = await spare.http.post(spare.url(route), content=begin + content, headers=FORM)
        in_form(answer)


@pytest.mark.parametrize("route", LISTS)
@given(
    query=st.dictionaries(
        st.sampled_from(["limit", "order", "after", "before", "run_id", "include[]"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
        | st.integers().map(str)
        | st.sampled_from(["asc", "desc"]),
        max_size=4,
    )
)
@BOUNDED
async def test_any_query_is_taken_or_told_off(
    spare: World, route: str, query: dict[str, str]
) -> None:
    """Of lists."""
    in_form(await spare.http.get(spare.url(route), params=query))


@given(path=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20))
@BOUNDED
async def test_any_id_is_looked_up_in_peace(spare: World, path: str) -> None:
    """Of whatever characters."""
    quoted = "".join(f"%{byte:02X}" for byte in path.encode())
    for kind in ("assistants", "threads", "models", "files"):
        in_form(await spare.http.get(f"/v1/{kind}/{quoted}"))
        in_form(await spare.http.delete(f"/v1/{kind}/{quoted}x"))
