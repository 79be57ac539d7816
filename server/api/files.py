"""`/v1/files`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from server import errors, schemas
from server.api.deps import Caller, Server
from server.api.download import Download
from server.api.multipart import FormLimits, Multipart, SentFile, checked
from server.api.respond import FILES, of_files
from server.api.route import WireRoute
from server.api.validation import to_old_words
from server.db.database import Tx
from server.db.stores import Slice
from server.files.rows import require_file

BINARY = {"type": "string", "format": "binary"}
NOT_FOR_DOWNLOAD = frozenset({"assistants", "user_data"})

router = APIRouter(prefix=FILES, route_class=WireRoute)


@router.post("", operation_id="createFile", response_model=schemas.File)
async def create(caller: Caller, server: Server, form: Multipart) -> Response:
    await server.files.require_room(caller.project)
    limits = FormLimits(server.file_settings.max_bytes, server.file_settings.silence)
    async with form.received("file", server.files.receive(), limits) as fields:
        body = checked(schemas.CreateFile, fields, to_old_words)
        sent: SentFile = body.file
        row = await server.files.add(
            caller.project, sent.content, sent.filename, body.purpose, body.lifetime()
        )
    return of_files(schemas.File.from_row(row))


@router.get("", operation_id="listFiles", response_model=schemas.FilePage)
async def page(
    query: Annotated[schemas.FilesQuery, Query()], caller: Caller, server: Server
) -> Response:
    return await server.db.read(lambda tx: _page(tx, caller.project, query))


@router.get("/{file_id}", operation_id="retrieveFile", response_model=schemas.File)
async def retrieve(file_id: str, caller: Caller, server: Server) -> Response:
    row = await server.db.read(lambda tx: require_file(tx, caller.project, file_id))
    return of_files(schemas.File.from_row(row))


@router.delete("/{file_id}", operation_id="deleteFile", response_model=schemas.FileDeleted)
async def delete(file_id: str, caller: Caller, server: Server) -> Response:
    await server.files.delete(caller.project, file_id)
    return of_files(schemas.FileDeleted(id=file_id))


@router.get(
    "/{file_id}/content",
    operation_id="downloadFile",
    response_class=Response,
    responses={200: {"content": {Download.media_type: {"schema": BINARY}}}},
)
async def content(file_id: str, caller: Caller, server: Server) -> Response:
    row = await server.db.read(lambda tx: require_file(tx, caller.project, file_id))
    if row.purpose in NOT_FOR_DOWNLOAD and not server.file_settings.download_all:
        raise errors.not_for_download(row.purpose)
    source = await server.files.open(row)
    return Download(source, row.bytes, row.filename)


def _page(tx: Tx, project: str, query: schemas.FilesQuery) -> Response:
    """Written in the thread that reads: there may be ten thousand files."""
    part = Slice(query.limit, query.order, query.after)
    found = tx.files.kept(project, part, tx.now, query.purpose)
    files = [schemas.File.from_row(row) for row in found.rows]
    return of_files(schemas.FilePage.of(files, found.has_more))
