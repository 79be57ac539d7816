"""Files and uploads, and the form that a file comes in."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from server.schemas.common import PLAIN_INTEGER, Given, JsonObject, Shown

Purpose = Literal["fine-tune", "assistants", "batch", "user_data", "vision", "evals"]
ShownPurpose = Literal[
    "assistants",
    "assistants_output",
    "batch",
    "batch_output",
    "evals",
    "fine-tune",
    "fine-tune-results",
    "user_data",
    "vision",
]
Binary = Annotated[Any, WithJsonSchema({"type": "string", "format": "binary"})]

DAY = 24 * 3600
BATCH_LIFETIME = 30 * DAY


class ExpiresAfter(Given):
    """When a file expires."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=30 * DAY)]


def _counted(value: Any) -> Any:
    """Forms have texts only."""
    seconds = value.get("seconds") if isinstance(value, dict) else None
    if isinstance(seconds, str) and re.fullmatch("-?[0-9]{1,18}", seconds):
        return {**value, "seconds": int(seconds)}
    return value


class CreateFile(Given):
    """The form of `POST /files`. What stands for the file is whatever has its bytes."""

    file: Binary
    purpose: Purpose
    expires_after: Annotated[ExpiresAfter, BeforeValidator(_counted)] | None = None

    def lifetime(self) -> int | None:
        """Seconds, or None for ever."""
        return lifetime_of(self.purpose, self.expires_after)


def lifetime_of(purpose: Purpose, expires_after: ExpiresAfter | None) -> int | None:
    """Files for batches expire unless told otherwise, all others do not."""
    if expires_after is not None:
        return expires_after.seconds
    return BATCH_LIFETIME if purpose == "batch" else None


class FilesQuery(BaseModel):
    """Which page of the files. A limit of 0 gives an empty page."""

    purpose: str | None = None
    limit: Annotated[int, Field(ge=0, le=10_000), PLAIN_INTEGER] = 10_000
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class File(Shown):
    """A file."""

    object: Literal["file"] = "file"
    id: str
    purpose: ShownPurpose
    filename: str
    bytes: int
    created_at: int
    expires_at: int | None
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class FilePage(Shown):
    """A page of files, whose keys have an order of their own."""

    object: Literal["list"] = "list"
    data: list[File]
    has_more: bool
    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, data: list[File], has_more: bool) -> FilePage:
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return cls.model_construct(
            object="list", data=data, has_more=has_more, first_id=first, last_id=last
        )


class FileDeleted(Shown):
    """The answer to deleting a file."""

    object: Literal["file"] = "file"
    deleted: bool = True
    id: str


class CreateUpload(Given):
    """The body of `POST /uploads`."""

    bytes: Annotated[int, Field(ge=1)]
    filename: Annotated[str, Field(max_length=4096)]  # as long as a form's can be
    mime_type: str
    purpose: Purpose
    expires_after: ExpiresAfter | None = None

    def stored(self) -> JsonObject:
        """The columns that a client decides on."""
        return {
            "bytes": self.bytes,
            "filename": self.filename,
            "mime_type": self.mime_type,
            "purpose": self.purpose,
            "lifetime": lifetime_of(self.purpose, self.expires_after),
        }


class AddUploadPart(Given):
    """The form of `POST /uploads/{upload_id}/parts`."""

    data: Binary


class CompleteUpload(Given):
    """The body of `POST /uploads/{upload_id}/complete`."""

    part_ids: Annotated[list[str], Field(fail_fast=True)]
    md5: str = ""


class Upload(Shown):
    """An upload; it has a file once it is completed."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    filename: str
    purpose: ShownPurpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    expires_at: int
    file: File | None = None


class UploadPart(Shown):
    """A part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
