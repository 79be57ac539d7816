"""Files from their upload to their deletion."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.files.blobs import Blob, BlobStore, Reader
from server.files.rows import insert_file
from tests.api.wire import FILES, Json, World, answer_of, error_of, refused
from tests.covering import covers
from tests.files.conftest import add
from tests.forms import BOUNDARY, END, FORM, PURPOSE, field, file, form, part
from tests.support import DEADLINE, LiveServer, ManualClock, eventually, live_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIST = "GET /v1/files"
ONE = "GET /v1/files/{file_id}"
CONTENT = "GET /v1/files/{file_id}/content"
DELETE = "DELETE /v1/files/{file_id}"
PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
NOT_A_FORM = "Could not parse multipart form"
DAY = 24 * 3600


async def send(world: World, *parts: bytes) -> httpx.Response:
    """Upload a form."""
    return await world.http.post("/v1/files", content=form(*parts), headers=FORM)


async def uploaded(world: World, content: bytes = b"x", **fields: str) -> Json:
    """A new file."""
    sent = [field(name, value) for name, value in {"purpose": "vision", **fields}.items()]
    created: Json = answer_of(await send(world, *sent, file(content)))
    return created


def not_found(answer: httpx.Response, file_id: str) -> None:
    """There is no such file."""
    refused(answer, f"No such File object: {file_id}", "id", None, 404)


@covers(FILES, "answer file purpose", "taken")
@covers(FILES, "expires_after", "default")
async def test_a_file_is_processed_as_soon_as_it_is_uploaded(world: World) -> None:
    """It has its size, and does not expire unless that was asked for."""
    created = await uploaded(world, b"Hello.", purpose="assistants")
    assert abs(created["created_at"] - world.server.services.clock.now()) <= 1
    assert created == {
        "object": "file",
        "id": created["id"],
        "purpose": "assistants",
        "filename": "a.txt",
        "bytes": 6,
        "created_at": created["created_at"],
        "expires_at": None,
        "status": "processed",
        "status_details": None,
    }


@covers(FILES, "purpose", "limit", "error")
async def test_there_are_six_purposes(world: World) -> None:
    """Another one is refused in the words of the service's older validator."""
    for purpose in PURPOSES:
        assert (await uploaded(world, purpose=purpose))["purpose"] == purpose
    refused(
        await send(world, field("purpose", "world_domination"), file(b"x")),
        "'world_domination' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', "
        "'vision', 'evals'] - 'purpose'",
        "purpose",
        None,
    )


@covers(FILES, "file purpose", "error")
async def test_file_and_purpose_are_required(world: World) -> None:
    """The file is missed first; an empty form is a form."""
    refused(await send(world, PURPOSE), "'file' is a required property", None, None)
    refused(await send(world, file(b"x")), "'purpose' is a required property", None, None)
    refused(await send(world), "'file' is a required property", None, None)


async def test_other_fields_are_refused(world: World) -> None:
    """By their name."""
    refused(
        await send(world, PURPOSE, file(b"x"), field("filename", "b.txt")),
        "Additional properties are not allowed ('filename' was unexpected)",
        None,
        None,
    )
    refused(
        await send(world, PURPOSE, file(b"x"), *expiry(anchor="created_at", seconds="3600", a="b")),
        "Additional properties are not allowed ('a' was unexpected) - 'expires_after'",
        "expires_after",
        None,
    )


def expiry(**inner: str) -> list[bytes]:
    """The fields of `expires_after`."""
    return [field(f"expires_after[{name}]", value) for name, value in inner.items()]


@covers(FILES, "expires_after", "taken", "limit")
@pytest.mark.parametrize("seconds", [3600, 30 * DAY])
async def test_a_file_may_expire(world: World, seconds: int) -> None:
    """After an hour at the soonest, and a month at the latest."""
    after = expiry(anchor="created_at", seconds=str(seconds))
    created = answer_of(await send(world, *after, file(b"x"), PURPOSE))
    assert created["expires_at"] == created["created_at"] + seconds


async def test_files_for_batches_expire_after_a_month(world: World) -> None:
    """Unless another time is asked for."""
    created = await uploaded(world, purpose="batch")
    assert created["expires_at"] == created["created_at"] + 30 * DAY
    after = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    created = await uploaded(world, purpose="batch", **after)
    assert created["expires_at"] == created["created_at"] + 3600


SECONDS = "expires_after.seconds"


@covers(FILES, "expires_after", "error", "limit")
@pytest.mark.parametrize(
    ("given", "message", "param"),
    [
        ({"seconds": "3599"}, "3599 is less than the minimum of 3600", SECONDS),
        ({"seconds": "2592001"}, "2592001 is greater than the maximum of 2592000", SECONDS),
        ({"seconds": "-1"}, "-1 is less than the minimum of 3600", SECONDS),
        ({"seconds": "1e5"}, "'1e5' is not of type 'integer'", SECONDS),
        ({"seconds": "9" * 5000}, f"'{'9' * 5000}' is not of type 'integer'", SECONDS),
        ({"anchor": "now"}, "'now' is not one of ['created_at']", "expires_after.anchor"),
    ],
    ids=["3599", "2592001", "-1", "1e5", "huge", "now"],
)
async def test_a_wrong_expiry_is_refused(
    world: World, given: dict[str, str], message: str, param: str
) -> None:
    """In the words of the service's older validator, too."""
    after = expiry(**{"anchor": "created_at", "seconds": "3600", **given})
    refused(await send(world, *after, PURPOSE, file(b"x")), f"{message} - '{param}'", param, None)


@covers(FILES, "expires_after", "error")
async def test_an_expiry_has_an_anchor_and_seconds(world: World) -> None:
    """Both, and in fields of their own."""
    for given, message in (
        (expiry(anchor="created_at"), "'seconds' is a required property"),
        (expiry(seconds="3600"), "'anchor' is a required property"),
        ([field("expires_after", "3600")], "'3600' is not of type 'object'"),
    ):
        answer = await send(world, *given, PURPOSE, file(b"x"))
        refused(answer, f"{message} - 'expires_after'", "expires_after", None)


async def test_an_empty_file_is_refused(world: World) -> None:
    """Whatever its name."""
    refused(await send(world, PURPOSE, file(b"")), "File is empty.", None, None)


TRICKY = (
    b"",
    b"\r\n",
    b"\r\n--",
    f"\r\n--{BOUNDARY[:-1]}".encode(),
    f"--{BOUNDARY}\r\n".encode(),
    f"\r\n--{BOUNDARY}x".encode(),
)


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_bytes_arrive_as_they_were_sent(world: World, size: int) -> None:
    """In whatever pieces, also when they look like the end of the file."""
    content = b"begin" + b"-".join(TRICKY) + bytes(range(256)) + b"\r\n--end"
    body = form(field("purpose", "evals"), file(content))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    answer = await world.http.post("/v1/files", content=pieces(), headers=FORM)
    created = answer_of(answer)
    assert created["bytes"] == len(content)
    assert (await world.http.get(f"/v1/files/{created['id']}/content")).content == content


async def test_of_a_field_given_twice_the_last_counts(world: World) -> None:
    """As with keys of JSON."""
    answer = answer_of(await send(world, field("purpose", "x"), file(b"x"), PURPOSE))
    assert answer["purpose"] == "vision"


NO_FORMS: dict[str, tuple[bytes, str]] = {
    "json": (b'{"purpose": "vision"}', "application/json"),
    "no type": (form(PURPOSE, file(b"x")), ""),
    "no boundary": (form(PURPOSE, file(b"x")), "multipart/form-data"),
    "long boundary": (form(PURPOSE), f"multipart/form-data; boundary={'b' * 300}"),
    "other boundary": (form(PURPOSE, file(b"x")), "multipart/form-data; boundary=x"),
    "nothing": (b"", FORM["content-type"]),
    "cut in a file": (PURPOSE + file(b"x")[:-3], FORM["content-type"]),
    "cut before the end": (PURPOSE + file(b"x"), FORM["content-type"]),
    "no disposition": (f"--{BOUNDARY}\r\na: b\r\n\r\nx\r\n".encode() + END, FORM["content-type"]),
    "no name": (form(PURPOSE, part('filename="a.txt"', b"x")), FORM["content-type"]),
    "two files": (form(PURPOSE, file(b"x"), file(b"y")), FORM["content-type"]),
    "one name twice over": (
        form(PURPOSE, field("purpose[a]", "b"), file(b"x")),
        FORM["content-type"],
    ),
    "many parts": (form(*[field("a", "b")] * 10_000), FORM["content-type"]),
    "long field": (form(field("purpose", "x" * 2**17), file(b"x")), FORM["content-type"]),
    "long name": (form(PURPOSE, file(b"x", "n" * 5000)), FORM["content-type"]),
    "many headers": (
        f"--{BOUNDARY}\r\n{'a: b' * 30}\r\n\r\n".encode() + b"a: b\r\n" * 30,
        FORM["content-type"],
    ),
}


@pytest.mark.parametrize("name", NO_FORMS)
async def test_what_is_no_form_is_refused(world: World, name: str) -> None:
    """With one text, and without a trace."""
    content, kind = NO_FORMS[name]
    answer = await world.http.post("/v1/files", content=content, headers={"content-type": kind})
    refused(answer, NOT_A_FORM, None, None)
    incoming = world.server.settings.server.data_dir / "blobs" / "incoming"
    assert list(incoming.iterdir()) == []


NAMES = (
    "plain.txt",
    "你好.txt",
    "naïve \N{GRINNING FACE}.pdf",
    'a "quoted" name.txt',
    "../../etc/passwd",
    "/etc/passwd",
    "a\\b\\c.txt",
    "line\nbreak.txt",
    "..",
    "a;b=c.txt",
    "%41.txt",
    "n" * 1000,
    " spaces ",
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_names_survive(world: World, name: str) -> None:
    """As the SDK sends them; they are never a path."""
    async with world.server.sdk() as sdk:
        made = await sdk.files.create(file=(name, b"x"), purpose="vision")
        assert made.filename == name
        assert (await sdk.files.retrieve(made.id)).filename == name


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ('filename="x\\"y.txt"', 'x"y.txt'),
        ("filename=\"=?utf-8?B?eA==?=\"; filename*=utf-8''%E4%BD%A0.txt", "你.txt"),
        ("filename*=UTF-8'en'a%00%2F..%2Fb.txt", "a\x00/../b.txt"),
        ("filename=bare.txt", "bare.txt"),
        ('filename=""', "upload"),
        ("", "upload"),
        ('filename="caf\u00e9.txt"', "caf\u00e9.txt"),
    ],
)
async def test_names_are_read_as_clients_write_them(
    world: World, parameters: str, name: str
) -> None:
    """With backslashes, in the extended form, without quotes, or not at all."""
    sent = part(f'name="file"; {parameters}', b"x")
    assert answer_of(await send(world, PURPOSE, sent))["filename"] == name


async def test_a_name_that_is_no_text_is_taken_as_far_as_it_is(world: World) -> None:
    """Bytes that are not UTF-8 are replaced."""
    sent = file(b"x", "n").replace(b'"n"', b'"\xff\xfe.txt"')
    assert answer_of(await send(world, PURPOSE, sent))["filename"] == "\ufffd\ufffd.txt"


@covers(ONE, "answer file_id", "taken")
async def test_a_file_is_retrieved_as_it_was_uploaded(world: World) -> None:
    """To the byte."""
    answer = await send(world, PURPOSE, file(b"x"))
    again = await world.http.get(f"/v1/files/{answer_of(answer)['id']}")
    assert again.text == answer.text
    answer_of(again)


@covers(DELETE, "answer file_id", "taken", "error")
@covers(ONE, "file_id", "error")
@covers(CONTENT, "file_id", "error")
async def test_a_deleted_file_is_gone(world: World) -> None:
    """Its id names nothing any more, as one that was made up."""
    made = await uploaded(world)
    url = f"/v1/files/{made['id']}"
    assert answer_of(await world.http.delete(url)) == {
        "object": "file",
        "deleted": True,
        "id": made["id"],
    }
    for name in (made["id"], "fake_id"):
        not_found(await world.http.get(f"/v1/files/{name}"), name)
        not_found(await world.http.get(f"/v1/files/{name}/content"), name)
        not_found(await world.http.delete(f"/v1/files/{name}"), name)


@covers(CONTENT, "answer file_id", "taken")
@pytest.mark.parametrize("purpose", ["fine-tune", "batch", "vision", "evals"])
async def test_content_is_what_was_uploaded(world: World, purpose: str) -> None:
    """As an attachment of that name, which no browser shows."""
    content = bytes(range(256)) * 5000
    made = await uploaded(world, content, purpose=purpose)
    answer = await world.http.get(f"/v1/files/{made['id']}/content")
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-disposition"] == 'attachment; filename="a.txt"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_name_cannot_break_a_header(world: World) -> None:
    """It is quoted whole."""
    name = 'a"\r\nset-cookie: x=/../你.txt'
    async with world.server.sdk() as sdk:
        made = await sdk.files.create(file=(name, b"x"), purpose="vision")
    answer = await world.http.get(f"/v1/files/{made.id}/content")
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-disposition"] == (
        "attachment; filename*=utf-8''a%22%0D%0Aset-cookie%3A%20x%3D%2F..%2F%E4%BD%A0.txt"
    )


@covers(CONTENT, "answer", "taken")
@pytest.mark.parametrize("purpose", ["assistants", "user_data"])
async def test_some_files_are_not_for_download(world: World, purpose: str) -> None:
    """As on the hosted API."""
    made = await uploaded(world, purpose=purpose)
    refused(
        await world.http.get(f"/v1/files/{made['id']}/content"),
        f"Not allowed to download files of purpose: {purpose}",
        None,
        None,
    )


async def test_another_projects_files_are_as_unknown_as_made_up_ones(world: World) -> None:
    """In lists, as cursors, by id; the bytes may well be the same."""
    mine = await uploaded(world, b"shared")
    row = await world.server.services.db.write(
        lambda tx: insert_file(tx, "other", Blob("0" * 64, 6), "a.txt", "vision", None)
    )
    for url in (f"/v1/files/{row.id}", f"/v1/files/{row.id}/content"):
        not_found(await world.http.get(url), row.id)
    not_found(await world.http.delete(f"/v1/files/{row.id}"), row.id)
    not_found(await world.http.get("/v1/files", params={"after": row.id}), row.id)
    listed = answer_of(await world.http.get("/v1/files"))["data"]
    assert mine in listed
    assert row.id not in [each["id"] for each in listed]


@pytest.fixture
async def five(tmp_path: Path) -> AsyncIterator[tuple[LiveServer, Sequence[Json]]]:
    """A server with five files of the same second, the oldest first."""
    async with live_server(tmp_path, clock=ManualClock()) as server, server.http() as http:
        purposes = ("vision", "batch", "vision", "evals", "vision")
        parts = [(field("purpose", purpose), file(b"x")) for purpose in purposes]
        answers = [
            await http.post("/v1/files", content=form(*each), headers=FORM) for each in parts
        ]
        yield server, [answer_of(answer) for answer in answers]


PAGES: list[tuple[Json, list[int], bool]] = [
    ({}, [4, 3, 2, 1, 0], False),
    ({"order": "asc"}, [0, 1, 2, 3, 4], False),
    ({"order": "desc"}, [4, 3, 2, 1, 0], False),
    ({"limit": 0}, [], True),
    ({"limit": 2}, [4, 3], True),
    ({"limit": 5}, [4, 3, 2, 1, 0], False),
    ({"limit": 10_000}, [4, 3, 2, 1, 0], False),
    ({"limit": 2, "order": "asc"}, [0, 1], True),
    ({"after": 3}, [2, 1, 0], False),
    ({"after": 3, "limit": 2}, [2, 1], True),
    ({"after": 0}, [], False),
    ({"after": 1, "order": "asc"}, [2, 3, 4], False),
    ({"purpose": "vision"}, [4, 2, 0], False),
    ({"purpose": "vision", "limit": 2}, [4, 2], True),
    ({"purpose": "vision", "after": 3}, [2, 0], False),
    ({"purpose": "evals", "order": "asc"}, [3], False),
    ({"purpose": "nothing"}, [], False),
]


@covers(LIST, "answer purpose limit order after", "taken")
@covers(LIST, "purpose limit order after", "default")
@covers(LIST, "limit", "limit")
@pytest.mark.asyncio(loop_scope="function")
async def test_a_page_is_the_part_that_was_asked_for(
    five: tuple[LiveServer, Sequence[Json]],
) -> None:
    """The newest first, all of them, unless told otherwise; or of one purpose only."""
    server, files = five
    async with server.http() as http:
        for query, wanted, more in PAGES:
            named = {**query, "after": files[query["after"]]["id"]} if "after" in query else query
            found = answer_of(await http.get("/v1/files", params=named))
            assert found["data"] == [files[i] for i in wanted], query
            ids = [files[i]["id"] for i in wanted] or [None]
            assert (found["first_id"], found["last_id"]) == (ids[0], ids[-1])
            assert found["has_more"] is more, query


@pytest.mark.asyncio(loop_scope="function")
async def test_a_deleted_file_still_marks_its_place(
    five: tuple[LiveServer, Sequence[Json]],
) -> None:
    """So that a client can delete what it has seen and go on."""
    server, files = five
    async with server.http() as http:
        answer_of(await http.delete(f"/v1/files/{files[2]['id']}"))
        found = answer_of(await http.get("/v1/files", params={"after": files[2]["id"]}))
    assert found["data"] == [files[1], files[0]]


@covers(LIST, "limit", "limit", "error")
@covers(LIST, "order", "limit", "error")
@pytest.mark.parametrize(
    ("query", "message", "code"),
    [
        (
            {"limit": 10_001},
            "Invalid 'limit': integer above maximum value. "
            "Expected a value <= 10000, but got 10001 instead.",
            "integer_above_max_value",
        ),
        (
            {"limit": -1},
            "Invalid 'limit': integer below minimum value. "
            "Expected a value >= 0, but got -1 instead.",
            "integer_below_min_value",
        ),
        (
            {"limit": "many"},
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "invalid_type",
        ),
        (
            {"order": "up"},
            "Invalid value: 'up'. Supported values are: 'asc' and 'desc'.",
            "invalid_value",
        ),
    ],
)
async def test_a_wrong_query_is_refused(world: World, query: Json, message: str, code: str) -> None:
    """In the words that all lists have."""
    (param,) = query
    refused(await world.http.get("/v1/files", params=query), message, param, code)


async def test_a_cursor_must_name_a_file(world: World) -> None:
    """And is told as any file that is not there."""
    not_found(await world.http.get("/v1/files", params={"after": "file-none"}), "file-none")


async def test_deleting_a_file_takes_it_from_assistants_and_threads(world: World) -> None:
    """From their code interpreter's files, of which the others keep their order."""
    gone = (await uploaded(world, b"gone"))["id"]
    kept = (await uploaded(world, b"kept"))["id"]
    last = (await uploaded(world, b"last"))["id"]
    resources = {
        "file_search": {"vector_store_ids": [world.vector_store_id]},
        "code_interpreter": {"file_ids": [kept, gone, last]},
    }
    tools = [{"type": "code_interpreter"}]
    one = {"code_interpreter": {"file_ids": [gone]}}
    made = [
        ("assistants", {"model": "gpt-4o", "tools": tools, "tool_resources": resources}),
        ("threads", {"tool_resources": resources}),
        ("assistants", {"model": "gpt-4o", "tools": tools, "tool_resources": one}),
        ("threads", {"tool_resources": one}),
        ("threads", {}),
    ]
    before = [await world.create(f"/v1/{kind}", body) for kind, body in made]
    answer_of(await world.http.delete(f"/v1/files/{gone}"))
    after = [
        answer_of(await world.http.get(f"/v1/{kind}/{each['id']}"))
        for (kind, _), each in zip(made, before, strict=True)
    ]
    left = {**resources, "code_interpreter": {"file_ids": [kept, last]}}
    none = {"code_interpreter": {"file_ids": []}}
    wanted = [left, left, none, none, {}]
    assert after == [
        {**each, "tool_resources": resources}
        for each, resources in zip(before, wanted, strict=True)
    ]


@pytest.mark.asyncio(loop_scope="function")
async def test_an_expired_file_is_gone(tmp_path: Path) -> None:
    """From the second on at which it expires; the sweep removes what is left of it."""
    clock = ManualClock()
    async with live_server(tmp_path, clock=clock) as server, server.http() as http:
        after = expiry(anchor="created_at", seconds="3600")
        sent = form(PURPOSE, file(b"x"), *after)
        made = answer_of(await http.post("/v1/files", content=sent, headers=FORM))["id"]
        kept = form(PURPOSE, file(b"y"))
        kept = answer_of(await http.post("/v1/files", content=kept, headers=FORM))["id"]
        thread = {"tool_resources": {"code_interpreter": {"file_ids": [made, kept]}}}
        thread_id = answer_of(await http.post("/v1/threads", json=thread))["id"]
        clock.advance(3599)
        answer_of(await http.get(f"/v1/files/{made}"))
        clock.advance(1)
        not_found(await http.get(f"/v1/files/{made}"), made)
        not_found(await http.get(f"/v1/files/{made}/content"), made)
        not_found(await http.delete(f"/v1/files/{made}"), made)
        listed = answer_of(await http.get("/v1/files"))
        assert [each["id"] for each in listed["data"]] == [kept]
        assert len(blobs_in(tmp_path)) == 2
        await server.services.files.sweep()
        assert len(blobs_in(tmp_path)) == 1
        left = answer_of(await http.get(f"/v1/threads/{thread_id}"))["tool_resources"]
        assert left == {"code_interpreter": {"file_ids": [kept]}}
        listed = answer_of(await http.get("/v1/files", params={"after": made, "order": "asc"}))
        assert [each["id"] for each in listed["data"]] == [kept]


def blobs_in(data: Path) -> list[Path]:
    """All blobs of a data folder."""
    return [path for path in (data / "blobs").glob("??/*") if path.is_file()]


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[LiveServer]:
    """A server that takes files of a thousand bytes, and gives them all back."""
    settings: dict[str, Any] = {"files__max_bytes": 1000, "files__download_all": True}
    async with live_server(tmp_path, **settings) as server:
        yield server


@pytest.mark.asyncio(loop_scope="function")
async def test_a_file_that_is_too_large_is_refused(small: LiveServer) -> None:
    """With 413, whether its length was announced or not; nothing of it stays."""

    async def unannounced(body: bytes) -> AsyncIterator[bytes]:
        yield body

    async with small.http() as http:
        for content in (
            form(PURPOSE, file(b"x" * 1001)),
            unannounced(form(PURPOSE, file(b"x" * 1001))),
            b"x" * (2**20 + 1001),
            unannounced(form(PURPOSE, file(b"x")) + b"epilogue" * 2**18),
        ):
            answer = await http.post("/v1/files", content=content, headers=FORM)
            error = error_of(answer, 413)
            assert error["message"].startswith("Maximum content size limit (1000) exceeded")
            assert error["type"] == "invalid_request_error"
        assert blobs_in(small.settings.server.data_dir) == []
        whole = form(PURPOSE, file(b"x" * 1000))
        answer_of(await http.post("/v1/files", content=whole, headers=FORM))


@pytest.mark.asyncio(loop_scope="function")
async def test_a_setting_lets_all_files_be_downloaded(small: LiveServer) -> None:
    """For whoever runs the server and wants their files back."""
    async with small.http() as http:
        for purpose in ("assistants", "user_data"):
            sent = form(field("purpose", purpose), file(b"mine"))
            made = answer_of(await http.post("/v1/files", content=sent, headers=FORM))
            content = await http.get(f"/v1/files/{made['id']}/content")
            assert (content.status_code, content.content) == (200, b"mine")


@pytest.mark.asyncio(loop_scope="function")
async def test_a_file_that_is_deleted_as_it_is_asked_for(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not found; but bytes that are missing under a file's row are a fault of the server."""
    open_ = BlobStore.open

    async def too_late(store: BlobStore, digest: str) -> Reader:
        monkeypatch.undo()
        await server.services.files.delete("default", made)
        return await open_(store, digest)

    async with server.http() as http:
        sent = form(PURPOSE, file(b"x"))
        made = answer_of(await http.post("/v1/files", content=sent, headers=FORM))["id"]
        monkeypatch.setattr(BlobStore, "open", too_late)
        not_found(await http.get(f"/v1/files/{made}/content"), made)
        made = answer_of(await http.post("/v1/files", content=sent, headers=FORM))["id"]
        blobs_in(server.settings.server.data_dir)[0].unlink()
        error = error_of(await http.get(f"/v1/files/{made}/content"), 500)
        assert error["type"] == "server_error"
        answer_of(await http.post("/v1/files", content=sent, headers=FORM))
        assert (await http.get(f"/v1/files/{made}/content")).content == b"x"


@pytest.mark.asyncio(loop_scope="function")
async def test_a_file_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    """The answer says so, and the connection is closed. JSON's own time limit is not the file's."""
    settings: dict[str, Any] = {"files__silence": 0.5, "limits__body_timeout": 0.05}

    async def slowly() -> AsyncIterator[bytes]:
        for piece in (PURPOSE, file(b"x"), END):
            yield piece
            await asyncio.sleep(0.1)

    async with live_server(tmp_path, **settings) as server, server.http() as http:
        answer_of(await http.post("/v1/files", content=slowly(), headers=FORM))
        async with half_an_upload(server) as reader:
            async with asyncio.timeout(DEADLINE):
                answer = await reader.read()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        message = json.loads(body)["error"]["message"]
        assert message == "The request's body did not arrive in time."
        assert await eventually(lambda: incoming(server), lambda paths: paths == []) == []


@contextlib.asynccontextmanager
async def half_an_upload(server: LiveServer) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that has sent more than a megabyte of a file, and sends no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port)
    sent = PURPOSE + file(b"x" * 2 * 2**20)[:-2]
    head = f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: {FORM['content-type']}\r\n"
    writer.write(f"{head}content-length: {2**22}\r\n\r\n".encode() + sent)
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def incoming(server: LiveServer) -> list[Path]:
    """What is on its way."""
    return list((server.settings.server.data_dir / "blobs" / "incoming").iterdir())


async def test_a_client_that_goes_away_leaves_nothing(world: World) -> None:
    """Neither a file nor a part of it."""
    before = answer_of(await world.http.get("/v1/files"))
    async with half_an_upload(world.server):
        await eventually(lambda: incoming(world.server), lambda paths: len(paths) == 1)
    assert await eventually(lambda: incoming(world.server), lambda paths: paths == []) == []
    assert answer_of(await world.http.get("/v1/files")) == before


async def test_the_sdk_uploads_reads_lists_and_deletes(world: World, tmp_path: Path) -> None:
    """A path, bytes, a tuple, an open file; helpers and pages."""
    path = tmp_path / "résumé.txt"
    path.write_bytes(b"of a path")
    async with world.server.sdk() as sdk:
        with path.open("rb") as opened:
            sent: list[tuple[Any, str]] = [
                (path, "résumé.txt"),
                (b"of a path", "upload"),
                (("named.txt", b"of a path", "text/plain"), "named.txt"),
                (opened, "résumé.txt"),
            ]
            made = [await sdk.files.create(file=each, purpose="evals") for each, _ in sent]
        assert [each.filename for each in made] == [name for _, name in sent]
        assert {each.bytes for each in made} == {9}
        ready = await sdk.files.wait_for_processing(made[0].id)
        assert ready.status == "processed"
        content = await sdk.files.content(made[2].id)
        assert content.read() == b"of a path"
        listed = [each async for each in sdk.files.list(purpose="evals", limit=2, order="asc")]
        assert [each.id for each in listed][-4:] == [each.id for each in made]
        for each in made:
            assert (await sdk.files.delete(each.id)).deleted
        with pytest.raises(openai.NotFoundError) as missing:
            await sdk.files.retrieve(made[0].id)
        assert missing.value.param == "id"
        expiring = await sdk.files.create(
            file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 4000}
        )
        assert expiring.expires_at == expiring.created_at + 4000


@pytest.mark.asyncio(loop_scope="function")
async def test_a_projects_files_have_a_limit_together(tmp_path: Path) -> None:
    """To the byte, the same ones twice counted; what is more leaves nothing, and deleting helps."""
    settings: dict[str, Any] = {"files__project_bytes": 1000}
    async with live_server(tmp_path, **settings) as server, server.http() as http:

        async def sent(content: bytes) -> httpx.Response:
            return await http.post("/v1/files", content=form(PURPOSE, file(content)), headers=FORM)

        async def too_much(content: bytes) -> None:
            error = error_of(await sent(content))
            assert error["code"] == "storage_limit_exceeded"
            assert "at most 1000 bytes together" in error["message"]
            assert await incoming(server) == []

        first = answer_of(await sent(b"x" * 400))["id"]
        answer_of(await sent(b"x" * 400))
        await too_much(b"y" * 201)
        assert len(blobs_in(tmp_path)) == 1
        answer_of(await sent(b"y" * 200))
        await too_much(b"z")
        await add(server.services.files, b"theirs", "other")
        answer_of(await http.delete(f"/v1/files/{first}"))
        answers = await asyncio.gather(*(sent(letter * 150) for letter in (b"a", b"b", b"c")))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 400]
        assert len(blobs_in(tmp_path)) == 5
        listed = answer_of(await http.get("/v1/files"))["data"]
        assert sum(each["bytes"] for each in listed) == 900
