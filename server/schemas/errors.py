"""The body of every error."""

from __future__ import annotations

from server.schemas.common import Shown


class Error(Shown):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Shown):
    """An error on the wire; the same object is the data of a stream's `error` event."""

    error: Error


class ErrorDetail(Shown):
    """What went wrong, said once more."""

    message: str
    code: str | None


class FileErrorBody(ErrorBody):
    """An error of the files' endpoints."""

    detail: ErrorDetail
