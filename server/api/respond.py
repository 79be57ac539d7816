"""Wire objects as HTTP answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.responses import Response

from server import schemas
from server.db.stores import Page, Record

FILES = "/v1/files"
POLL_AFTER = {"openai-poll-after-ms": "100"}

M = TypeVar("M", bound=schemas.Shown)


def wire(
    body: BaseModel | dict[str, Any],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    end: bytes = b"",
) -> Response:
    """A JSON answer in the hosted API's form."""
    head = dict(headers) if headers else None
    return Response(schemas.pretty(body) + end, status, head, "application/json")


def of_files(
    body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The same as the files' endpoints have it, with a newline at its end."""
    return wire(body, status, headers, b"\n")


def showing(
    model: type[M], headers: Mapping[str, str] | None = None
) -> Callable[[Record], Response]:
    """From a row to its answer."""
    return lambda row: wire(model.from_row(row), headers=headers)


def listed(model: type[M], page: Page) -> Response:
    """A page of rows as a list object."""
    shown = [model.from_row(row) for row in page.rows]
    return wire(schemas.ListPage[M].of(shown, page.has_more))
