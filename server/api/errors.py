"""Every error as OpenAI's error object. Only here has an error an HTTP status."""

from __future__ import annotations

import logging
import math

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from server import errors, schemas
from server.api.context import answer_headers, request_id_of
from server.api.respond import FILES, of_files, wire
from server.api.validation import to_openai
from server.db.database import DatabaseBusy, DatabaseClosed, DatabaseFull
from server.db.stores import UnknownCursor
from server.files.blobs import StorageFull

log = logging.getLogger(__name__)

STATUS: dict[type[errors.WireError], int] = {
    errors.InvalidRequest: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.Gone: 410,
    errors.TooLarge: 413,
    errors.TooSlow: 400,
    errors.TooMany: 429,
    errors.HeadTooLarge: 431,
    errors.ClientGone: 499,  # nginx's, for the log and the metrics
    errors.ServerFault: 500,
    errors.Unavailable: 503,
}
LISTED = {
    "assistants": "assistant",
    "messages": "message",
    "threads": "thread",
    "runs": "run",
    "steps": "run step",
    "vector_stores": "vector store",
    "files": "file",
}
GIVE_UP = {"x-should-retry": "false"}  # a command that the SDKs obey
HANG_UP = {"connection": "close"}


def handle_errors(app: FastAPI) -> None:
    """Install the handlers."""
    app.add_exception_handler(errors.WireError, _wire_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UnknownCursor, _unknown_cursor)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DatabaseBusy, _busy)
    app.add_exception_handler(DatabaseClosed, _busy)
    app.add_exception_handler(DatabaseFull, _full)
    app.add_exception_handler(StorageFull, _full)
    app.add_exception_handler(Exception, _fault)


def error_response(
    request: Request, error: errors.WireError, headers: dict[str, str] | None = None
) -> Response:
    """The answer that the request gets; those of the files' endpoints say it twice."""
    body, status = error_body(error), STATUS[type(error)]
    if f"{request.url.path}/".startswith(f"{FILES}/"):
        detail = schemas.ErrorDetail(message=error.message, code=error.code)
        return of_files(schemas.FileErrorBody(error=body.error, detail=detail), status, headers)
    return wire(body, status, headers)


def error_body(error: errors.WireError) -> schemas.ErrorBody:
    told = schemas.Error(message=error.message, type=error.type, param=error.param, code=error.code)
    return schemas.ErrorBody(error=told)


def refusal(error: errors.WireError) -> Response:
    """The answer, where it does not depend on the request."""
    return wire(error_body(error), STATUS[type(error)])


async def _wire_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.WireError)
    return error_response(request, error, _headers_of(error))


def _headers_of(error: errors.WireError) -> dict[str, str] | None:
    if isinstance(error, errors.TooMany | errors.Unavailable) and error.retry_after is not None:
        return {"retry-after": str(math.ceil(error.retry_after))}
    return HANG_UP if isinstance(error, errors.TooSlow) else None


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(request, to_openai(error.errors()))


async def _unknown_cursor(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnknownCursor)
    if request.url.path == FILES:
        return error_response(request, errors.no_such_file(error.object_id))
    kind = LISTED[request.url.path.rstrip("/").rsplit("/", 1)[-1]]
    return error_response(request, errors.no_such(kind, error.object_id))


async def _http(request: Request, error: Exception) -> Response:
    """What the router itself refuses: a URL or a method that does not exist."""
    assert isinstance(error, HTTPException)
    called = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        hint = "(HINT: Perhaps you meant to use a different HTTP method?)"
        message = f"Not allowed to {request.method} on {request.url.path}. {hint}"
        refusal = errors.MethodNotAllowed(message, code="method_not_supported")
        return error_response(request, refusal, {"allow": ", ".join(sorted(_methods(request)))})
    message = (
        f"Unknown request URL: {called}. Please check the URL for typos, or see the docs at "
        "https://platform.openai.com/docs/api-reference/."
    )
    return error_response(request, errors.NotFound(message, code="unknown_url"))


def _methods(request: Request) -> set[str]:
    """What the URL can be called with. The router names only what its first route takes."""
    routes = (route for route in request.app.routes if isinstance(route, Route))
    return {
        method
        for route in routes
        if route.methods and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    }


async def _busy(request: Request, _: Exception) -> Response:
    return await _wire_error(request, errors.database_is_busy())


async def _full(request: Request, _: Exception) -> Response:
    """Permanent until somebody makes room, so the SDKs need not repeat it at once."""
    full = errors.Unavailable("The server's disk is full; nothing was written.")
    return error_response(request, full, GIVE_UP)


async def _fault(request: Request, error: Exception) -> Response:
    """A fault of ours, answered outside of `RequestContext`. Starlette raises it on afterwards."""
    request_id = request_id_of(request.scope)
    log.error("request_failed", exc_info=error, extra={"request_id": request_id})
    fault = errors.ServerFault(
        "The server had an error processing your request. Sorry about that! You can retry your "
        f"request. (Please look for the request ID {request_id} in the server's log.)"
    )
    answer = error_response(request, fault)
    answer.raw_headers += answer_headers(request.scope)
    return answer
