"""Files that come in parts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.db.stores import Record
from server.files.blobs import BlobStore, Reader
from server.files.rows import create_upload
from server.schemas import CreateUpload
from tests.api.wire import (
    CANCEL_UPLOAD,
    COMPLETE,
    PARTS,
    UPLOADS,
    Json,
    World,
    answer_of,
    error_of,
    refused,
)
from tests.covering import covers
from tests.forms import FORM, field, form, part
from tests.runs.lossy import lossy_proxy
from tests.support import LiveServer, ManualClock, live_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL = {"bytes": 6, "filename": "a.txt", "mime_type": "text/plain", "purpose": "vision"}
HOUR = 3600


async def created(http: httpx.AsyncClient, **fields: Any) -> Json:
    """A new upload."""
    upload: Json = answer_of(await http.post("/v1/uploads", json={**SMALL, **fields}))
    return upload


async def send(http: httpx.AsyncClient, upload_id: str, content: bytes) -> httpx.Response:
    """Add a part."""
    body = form(part('name="data"; filename="upload"', content))
    return await http.post(f"/v1/uploads/{upload_id}/parts", content=body, headers=FORM)


async def added(http: httpx.AsyncClient, upload_id: str, *contents: bytes) -> list[str]:
    """The ids of new parts."""
    return [answer_of(await send(http, upload_id, each))["id"] for each in contents]


async def completed(
    http: httpx.AsyncClient, upload_id: str, part_ids: list[str], **fields: str
) -> httpx.Response:
    """Complete an upload."""
    body = {"part_ids": part_ids, **fields}
    return await http.post(f"/v1/uploads/{upload_id}/complete", json=body)


@covers(UPLOADS, "answer bytes filename mime_type purpose", "taken")
@covers(UPLOADS, "expires_after", "default")
async def test_an_upload_is_pending_for_an_hour(world: World) -> None:
    """It has no file yet."""
    upload = await created(world.http)
    assert abs(upload["created_at"] - world.server.services.clock.now()) <= 1
    assert upload == {
        "id": upload["id"],
        "object": "upload",
        "bytes": 6,
        "created_at": upload["created_at"],
        "filename": "a.txt",
        "purpose": "vision",
        "status": "pending",
        "expires_at": upload["created_at"] + HOUR,
        "file": None,
    }


@covers(PARTS, "answer upload_id data", "taken")
@covers(COMPLETE, "answer upload_id part_ids", "taken")
@covers(COMPLETE, "md5", "default")
async def test_parts_become_a_file_in_the_order_of_their_completion(world: World) -> None:
    """They may come in any order, and at once; the file is one like any other."""
    upload = await created(world.http)
    answers = await asyncio.gather(
        *(send(world.http, upload["id"], each) for each in (b"c", b"ab", b"def"))
    )
    parts = [answer_of(answer) for answer in answers]
    assert {each["upload_id"] for each in parts} == {upload["id"]}
    c, ab, rest = (each["id"] for each in parts)
    done = answer_of(await completed(world.http, upload["id"], [ab, c, rest]))
    file = done["file"]
    assert done == {**upload, "status": "completed", "file": file}
    assert (file["filename"], file["bytes"], file["purpose"]) == ("a.txt", 6, "vision")
    assert answer_of(await world.http.get(f"/v1/files/{file['id']}")) == file
    assert (await world.http.get(f"/v1/files/{file['id']}/content")).content == b"abcdef"


async def test_parts_that_are_not_chosen_are_left_out(world: World) -> None:
    """And one may be chosen twice."""
    upload = await created(world.http)
    abc, _ = await added(world.http, upload["id"], b"abc", b"unwanted")
    done = answer_of(await completed(world.http, upload["id"], [abc, abc]))
    content = await world.http.get(f"/v1/files/{done['file']['id']}/content")
    assert content.content == b"abcabc"


@covers(COMPLETE, "md5", "taken", "error")
async def test_a_checksum_is_held_to(world: World) -> None:
    """In whatever case; after a wrong one the upload can still be completed."""
    upload = await created(world.http)
    parts = await added(world.http, upload["id"], b"abc", b"def")
    right = hashlib.md5(b"abcdef").hexdigest().upper()
    refused(
        await completed(world.http, upload["id"], parts, md5="0" * 32),
        "The MD5 checksum does not match the bytes of the parts.",
        "md5",
        None,
    )
    done = answer_of(await completed(world.http, upload["id"], parts, md5=right))
    assert done["status"] == "completed"


@covers(COMPLETE, "part_ids", "error")
async def test_the_parts_must_have_the_size_that_was_told(world: World) -> None:
    """And exist, in this upload."""
    upload, other = await created(world.http), await created(world.http)
    (abc,) = await added(world.http, upload["id"], b"abc")
    (foreign,) = await added(world.http, other["id"], b"abcdef")
    for chosen, size in (([abc], 3), ([], 0), ([abc] * 3, 9)):
        refused(
            await completed(world.http, upload["id"], chosen),
            f"The parts have {size} bytes, and the upload was created for 6.",
            "part_ids",
            None,
        )
    for unknown in (foreign, "part_none"):
        refused(
            await completed(world.http, upload["id"], [unknown]),
            f"No such UploadPart object: {unknown}",
            "part_ids",
            None,
        )


@covers(UPLOADS, "bytes", "limit", "error")
async def test_an_upload_has_up_to_eight_gigabytes(world: World) -> None:
    """And one byte at the least."""
    most = 8 * 2**30
    assert (await created(world.http, bytes=most))["bytes"] == most
    for size, wrong in ((most + 1, "above maximum value. Expected a value <="), (0, "below")):
        error = error_of(await world.http.post("/v1/uploads", json={**SMALL, "bytes": size}))
        assert error["message"].startswith(f"Invalid 'bytes': integer {wrong}")
        assert error["param"] == "bytes"


@covers(UPLOADS, "filename", "limit")
async def test_a_name_is_no_longer_than_a_forms_can_be(world: World) -> None:
    """It is told with each citation, and to the model."""
    assert (await created(world.http, filename="ü" * 4096))["filename"] == "ü" * 4096
    error = error_of(await world.http.post("/v1/uploads", json={**SMALL, "filename": "x" * 4097}))
    assert (error["param"], error["code"]) == ("filename", "string_above_max_length")


@covers(UPLOADS, "purpose", "limit")
async def test_uploads_have_the_purposes_of_files(world: World) -> None:
    """Another one is refused."""
    for purpose in ("fine-tune", "assistants", "batch", "user_data", "vision", "evals"):
        assert (await created(world.http, purpose=purpose))["purpose"] == purpose
    error = error_of(await world.http.post("/v1/uploads", json={**SMALL, "purpose": "x"}))
    assert error["message"] == (
        "Invalid value: 'x'. Supported values are: 'fine-tune', 'assistants', 'batch', "
        "'user_data', 'vision', and 'evals'."
    )


@covers(UPLOADS, "expires_after", "taken")
@covers("ExpiresAfter", "seconds", "taken", "limit")
async def test_the_file_of_an_upload_may_expire(world: World) -> None:
    """It counts from its completion."""
    for seconds in (HOUR, 30 * 24 * HOUR):
        after = {"anchor": "created_at", "seconds": seconds}
        upload = await created(world.http, expires_after=after)
        parts = await added(world.http, upload["id"], b"abcdef")
        file = answer_of(await completed(world.http, upload["id"], parts))["file"]
        assert file["expires_at"] == file["created_at"] + seconds
    for wrong, code in (
        ({"anchor": "created_at", "seconds": HOUR - 1}, "integer_below_min_value"),
        ({"anchor": "created_at", "seconds": 30 * 24 * HOUR + 1}, "integer_above_max_value"),
        ({"anchor": "now", "seconds": HOUR}, "invalid_value"),
    ):
        body = {**SMALL, "expires_after": wrong}
        assert error_of(await world.http.post("/v1/uploads", json=body))["code"] == code


@covers(CANCEL_UPLOAD, "answer upload_id", "taken")
async def test_a_cancelled_upload_takes_nothing_more(world: World) -> None:
    """Nor does a completed one; the error names the status."""
    upload = await created(world.http)
    url = f"/v1/uploads/{upload['id']}"
    parts = await added(world.http, upload["id"], b"abcdef")
    cancelled = answer_of(await world.http.post(f"{url}/cancel"))
    assert cancelled == {**upload, "status": "cancelled"}
    await over(world.http, upload["id"], parts, "cancelled")

    upload = await created(world.http)
    parts = await added(world.http, upload["id"], b"abcdef")
    answer_of(await completed(world.http, upload["id"], parts))
    await over(world.http, upload["id"], parts * 2, "completed")


async def over(http: httpx.AsyncClient, upload_id: str, parts: list[str], status: str) -> None:
    """Nothing can be done to an upload any more."""
    for verb, answer in (
        ("add a part to", await send(http, upload_id, b"abcdef")),
        ("complete", await completed(http, upload_id, parts)),
        ("cancel", await http.post(f"/v1/uploads/{upload_id}/cancel")),
    ):
        refused(answer, f"Cannot {verb} upload with status '{status}'.", None, None)


@covers(PARTS, "upload_id", "error")
@covers(COMPLETE, "upload_id", "error")
@covers(CANCEL_UPLOAD, "upload_id", "error")
async def test_another_projects_uploads_are_as_unknown_as_made_up_ones(world: World) -> None:
    """Whatever is asked of them."""

    def insert(tx: Any) -> Record:
        row: Record = create_upload(tx, "other", CreateUpload.model_validate(SMALL))
        return row

    foreign = await world.server.services.db.write(insert)
    for upload_id in (foreign.id, "upload_none"):
        for answer in (
            await send(world.http, upload_id, b"abcdef"),
            await completed(world.http, upload_id, []),
            await world.http.post(f"/v1/uploads/{upload_id}/cancel"),
        ):
            refused(answer, f"No such Upload object: {upload_id}", "id", None, 404)


@covers(PARTS, "data", "error")
async def test_a_part_is_a_form_with_data(world: World) -> None:
    """Nothing else, and not nothing."""
    upload = await created(world.http)
    url = f"/v1/uploads/{upload['id']}/parts"

    async def sent(*parts: bytes) -> httpx.Response:
        return await world.http.post(url, content=form(*parts), headers=FORM)

    data = part('name="data"', b"abc")
    refused(
        await sent(),
        "Missing required parameter: 'data'.",
        "data",
        "missing_required_parameter",
    )
    refused(await sent(data, field("a", "b")), "Unknown parameter: 'a'.", "a", "unknown_parameter")
    refused(await sent(part('name="data"', b"")), "File is empty.", None, None)
    answer = await world.http.post(url, json={"data": "abc"})
    refused(answer, "Could not parse multipart form", None, None)


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[LiveServer]:
    """A server that takes uploads of a hundred bytes in parts of forty."""
    settings: dict[str, Any] = {"files__max_upload_bytes": 100, "files__max_part_bytes": 40}
    async with live_server(tmp_path, clock=ManualClock(), **settings) as server:
        yield server


@pytest.mark.asyncio(loop_scope="function")
async def test_settings_bound_uploads(small: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their size, their parts' sizes and what these have together; and their number is bounded."""
    async with small.http() as http:
        refused(
            await http.post("/v1/uploads", json={**SMALL, "bytes": 101}),
            "Invalid 'bytes': integer above maximum value. "
            "Expected a value <= 100, but got 101 instead.",
            "bytes",
            "integer_above_max_value",
        )
        upload = (await created(http, bytes=100))["id"]
        error_of(await send(http, upload, b"x" * 41), 413)
        parts = await added(http, upload, b"x" * 40, b"y" * 40)
        refused(
            await send(http, upload, b"z" * 21),
            "The parts of an upload can have at most 100 bytes together.",
            None,
            None,
        )
        parts += await added(http, upload, b"z" * 20)
        monkeypatch.setattr("server.files.rows.MOST_PARTS", 3)
        message = "An upload can have at most 3 parts."
        refused(await send(http, upload, b"z"), message, None, None)
        assert answer_of(await completed(http, upload, parts))["file"]["bytes"] == 100
    assert len(blobs_in(small)) == 1


def blobs_in(server: LiveServer) -> list[Path]:
    """All blobs, and what is on its way."""
    blobs = server.settings.server.data_dir / "blobs"
    return [path for path in blobs.rglob("*") if path.is_file()]


@pytest.mark.asyncio(loop_scope="function")
async def test_an_upload_expires(tmp_path: Path) -> None:
    """After an hour: it takes nothing more, and the sweep removes its parts."""
    clock = ManualClock()
    async with live_server(tmp_path, clock=clock) as server, server.http() as http:
        upload = (await created(http))["id"]
        parts = await added(http, upload, b"abc", b"def")
        clock.advance(HOUR - 1)
        parts += await added(http, upload, b"def")
        clock.advance(1)
        await over(http, upload, parts, "expired")
        assert len(blobs_in(server)) == 2
        await server.services.files.sweep()
        assert blobs_in(server) == []
        await over(http, upload, parts, "expired")


@pytest.mark.asyncio(loop_scope="function")
async def test_an_upload_is_completed_once(small: LiveServer) -> None:
    """However many ask for it at the same time, and whoever cancels it meanwhile."""
    async with small.http() as http:
        for _ in range(5):
            upload = (await created(http))["id"]
            parts = await added(http, upload, b"abc", b"def")
            first, second, cancelled = await asyncio.gather(
                completed(http, upload, parts),
                completed(http, upload, parts),
                http.post(f"/v1/uploads/{upload}/cancel"),
            )
            assert (first.status_code, first.text) == (second.status_code, second.text)
            assert {first.status_code, cancelled.status_code} == {200, 400}
            for answer in (first, second, cancelled):
                answer_of(answer, answer.status_code)
            assert len(blobs_in(small)) == (first.status_code == 200)
            if first.status_code == 200:
                answer_of(await http.delete(f"/v1/files/{first.json()['file']['id']}"))
    assert blobs_in(small) == []


@pytest.mark.asyncio(loop_scope="function")
async def test_the_parts_of_an_upload_are_joined_once(
    small: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for it again meanwhile waits, and gets the same answer."""
    opened: list[str] = []
    open_ = BlobStore.open

    async def noted(store: BlobStore, digest: str) -> Reader:
        opened.append(digest)
        return await open_(store, digest)

    async with small.http() as http:
        upload = (await created(http))["id"]
        parts = await added(http, upload, b"abc", b"def")
        monkeypatch.setattr(BlobStore, "open", noted)
        answers = await asyncio.gather(*(completed(http, upload, parts) for _ in range(5)))
        assert len({answer_of(answer)["file"]["id"] for answer in answers}) == 1
    assert len(opened) == len(parts)


@pytest.mark.asyncio(loop_scope="function")
async def test_a_completion_may_be_sent_again(tmp_path: Path) -> None:
    """It has the same answer while there is the file, also of the next server; no other has."""
    md5 = hashlib.md5(b"abcdef").hexdigest()
    async with live_server(tmp_path) as server, server.http() as http:
        upload = (await created(http))["id"]
        parts = await added(http, upload, b"abc", b"def")
        done = await completed(http, upload, parts, md5=md5)
    async with live_server(tmp_path) as server, server.http() as http:
        assert (await completed(http, upload, parts, md5=md5)).text == done.text
        message = "Cannot complete upload with status 'completed'."
        for other in (parts[:1], parts[::-1], [*parts, parts[0]], []):
            refused(await completed(http, upload, other, md5=md5), message, None, None)
        refused(await completed(http, upload, parts, md5="0" * 32), message, None, None)
        answer_of(await http.delete(f"/v1/files/{answer_of(done)['file']['id']}"))
        refused(await completed(http, upload, parts, md5=md5), message, None, None)
    assert blobs_in(server) == []


@pytest.mark.asyncio(loop_scope="function")
async def test_an_upload_that_ends_while_it_is_joined_is_over(
    small: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are gone by then: the answer says why, and not that something is missing."""
    async with small.http() as http:
        upload = (await created(http))["id"]
        parts = await added(http, upload, b"abc", b"def")
        open_ = BlobStore.open

        async def too_late(store: BlobStore, digest: str) -> Reader:
            monkeypatch.undo()
            answer_of(await http.post(f"/v1/uploads/{upload}/cancel"))
            return await open_(store, digest)

        monkeypatch.setattr(BlobStore, "open", too_late)
        message = "Cannot complete upload with status 'cancelled'."
        refused(await completed(http, upload, parts), message, None, None)
    assert blobs_in(small) == []


async def test_the_sdk_uploads_in_chunks(world: World, tmp_path: Path) -> None:
    """Bytes or a path, in parts of any size, with a checksum."""
    content = bytes(range(256)) * 40
    path = tmp_path / "big.jsonl"
    path.write_bytes(content)
    checksum = hashlib.md5(content).hexdigest()
    async with world.server.sdk() as sdk:
        of_path = await sdk.uploads.upload_file_chunked(
            file=path, mime_type="text/jsonl", purpose="batch", part_size=1000, md5=checksum
        )
        of_bytes = await sdk.uploads.upload_file_chunked(
            file=content,
            filename="b.jsonl",
            bytes=len(content),
            mime_type="text/jsonl",
            purpose="batch",
        )
        for upload, name in ((of_path, "big.jsonl"), (of_bytes, "b.jsonl")):
            assert upload.status == "completed"
            assert upload.file is not None
            assert (upload.file.filename, upload.file.bytes) == (name, len(content))
            assert (await sdk.files.content(upload.file.id)).read() == content
        with pytest.raises(openai.BadRequestError, match="Cannot cancel upload"):
            await sdk.uploads.cancel(of_path.id)


async def test_the_sdk_gets_the_file_although_answers_are_lost(world: World) -> None:
    """It sends the completion again."""
    lost: list[bytes] = []

    def loses(head: bytes) -> bool:
        is_first = b"/complete " in head and not lost
        lost.extend([head] * is_first)
        return is_first

    async with (
        lossy_proxy(world.server.url, loses) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x") as sdk,
    ):
        upload = await sdk.uploads.upload_file_chunked(
            file=b"abcdef", filename="a.txt", bytes=6, mime_type="text/plain", purpose="vision"
        )
        assert lost
        assert upload.file is not None
        assert (await sdk.files.content(upload.file.id)).read() == b"abcdef"


@pytest.mark.asyncio(loop_scope="function")
async def test_uploads_count_in_what_a_project_may_have(tmp_path: Path) -> None:
    """Their parts do while they are pending, then the file does; one that is cancelled frees."""
    settings: dict[str, Any] = {"files__project_bytes": 10}
    async with live_server(tmp_path, **settings) as server, server.http() as http:
        full = "storage_limit_exceeded"
        assert error_of(await http.post("/v1/uploads", json={**SMALL, "bytes": 11}))["code"] == full
        upload, other = (await created(http))["id"], (await created(http))["id"]
        parts = await added(http, upload, b"abc", b"def")
        kept = blobs_in(server)
        assert error_of(await send(http, other, b"12345"))["code"] == full
        assert blobs_in(server) == kept
        await added(http, other, b"1234")
        assert answer_of(await completed(http, upload, parts))["file"]["bytes"] == 6
        assert error_of(await send(http, other, b"5"))["code"] == full
        answer_of(await http.post(f"/v1/uploads/{other}/cancel"))
        assert len((await created(http, bytes=4))["id"]) > 0
        assert error_of(await http.post("/v1/uploads", json={**SMALL, "bytes": 5}))["code"] == full


@pytest.mark.asyncio(loop_scope="function")
async def test_how_an_upload_has_ended_is_forgotten(tmp_path: Path) -> None:
    """A day after its time; one that is pending is not."""
    clock = ManualClock()
    async with live_server(tmp_path, clock=clock) as server, server.http() as http:
        upload = (await created(http))["id"]
        parts = await added(http, upload, b"abcdef")
        answer_of(await completed(http, upload, parts))
        clock.advance(25 * HOUR - 1)
        pending = (await created(http))["id"]
        await server.services.files.sweep()
        await over(http, upload, parts * 2, "completed")
        clock.advance(1)
        await server.services.files.sweep()
        refused(
            await http.post(f"/v1/uploads/{upload}/cancel"),
            f"No such Upload object: {upload}",
            "id",
            None,
            404,
        )
        answer_of(await http.post(f"/v1/uploads/{pending}/cancel"))
