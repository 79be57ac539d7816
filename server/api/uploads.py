"""`/v1/uploads`: files in parts."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from server import schemas
from server.api.deps import Caller, Server
from server.api.multipart import FormLimits, Multipart, SentFile, checked
from server.api.respond import wire
from server.api.route import WireRoute
from server.api.validation import to_openai

router = APIRouter(prefix="/v1/uploads", route_class=WireRoute)


@router.post("", operation_id="createUpload", response_model=schemas.Upload)
async def create(body: schemas.CreateUpload, caller: Caller, server: Server) -> Response:
    row = await server.uploads.create(caller.project, body)
    return wire(schemas.Upload.from_row(row))


@router.post("/{upload_id}/parts", operation_id="addUploadPart", response_model=schemas.UploadPart)
async def add_part(upload_id: str, caller: Caller, server: Server, form: Multipart) -> Response:
    await server.uploads.require_open(caller.project, upload_id)
    limits = FormLimits(server.file_settings.max_part_bytes, server.file_settings.silence)
    async with form.received("data", server.files.receive(), limits) as fields:
        sent: SentFile = checked(schemas.AddUploadPart, fields, to_openai).data
        row = await server.uploads.add_part(caller.project, upload_id, sent.content)
    return wire(schemas.UploadPart.from_row(row))


@router.post("/{upload_id}/complete", operation_id="completeUpload", response_model=schemas.Upload)
async def complete(
    upload_id: str, body: schemas.CompleteUpload, caller: Caller, server: Server
) -> Response:
    done = await server.uploads.complete(caller.project, upload_id, body)
    shown = schemas.Upload.from_row(done.upload)
    return wire(shown.model_copy(update={"file": schemas.File.from_row(done.file)}))


@router.post("/{upload_id}/cancel", operation_id="cancelUpload", response_model=schemas.Upload)
async def cancel(upload_id: str, caller: Caller, server: Server) -> Response:
    row = await server.uploads.cancel(caller.project, upload_id)
    return wire(schemas.Upload.from_row(row))
