"""Routes that read the arguments of their endpoints themselves.

FastAPI declares and describes a route. Its general way to an endpoint's arguments, which knows of
forms, cookies, generators and overrides, takes longer than all else that a short request needs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction, signature
from typing import Any, Final

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from server import logs
from server.api.azure import deployment_of
from server.api.body import EMPTY, BodyLimits, parse, read
from server.api.deps import authenticate
from server.api.refusals import Refusals

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

ABOUT: Final = ("thread_id", "run_id")  # what log lines tell of a request's path
AN_ID: Final = re.compile("(thread|run)_[A-Za-z0-9]{24}")  # anything else may be somebody's words
LONG: Final = 2**16  # bytes of a body that is checked beside the event loop: it may take a second


class WireRoute(APIRoute):
    """A route whose body is JSON within the limits of `app.state.body_limits`.

    `app.state.refusals` learns of POSTs that were refused for now.

    A body is JSON whatever its content type says, and no body at all is an empty object. The
    endpoint is async, takes what `Arguments` knows and returns a response.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        super().__init__(path, endpoint, **more)
        self._slashes = path.count("/")
        self._end = path.rpartition("}")[2]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As always. Most routes of a URL's way have another shape, which is seen at a glance."""
        path: str = scope["path"]
        if path.count("/") != self._slashes or not path.endswith(self._end):
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> Handler:
        endpoint, arguments = self.endpoint, Arguments(self.dependant)
        if not iscoroutinefunction(endpoint) or arguments.names != {
            *signature(endpoint).parameters
        }:
            raise TypeError(f"{endpoint} is not async, or takes more than {arguments.names}")

        posts = self.methods == {"POST"}

        async def handle(request: Request) -> Response:
            path = request.path_params
            logs.note(**{n: path[n] for n in ABOUT if n in path and AN_ID.fullmatch(path[n])})
            refusals: Refusals = request.app.state.refusals
            try:
                answer: Response = await endpoint(**await arguments.of(request))
            except Exception as error:
                if posts:
                    await refusals.note(request, error)
                raise
            if posts:
                refusals.forget(request)
            del request.state.body  # the request may last, as a stream
            return answer

        return handle


class Arguments:
    """Strings of the path, queries, headers, one body, and what its dependencies find.

    A dependency is an async function of the request. The caller comes first: who may not call at
    all has nothing read, and is told no more. Then come those that find nothing and only refuse.
    While the endpoint works, the body as it came is the request's `state.body`.
    """

    def __init__(self, wanted: Dependant) -> None:
        found = [(needed.name, _function_of_request(needed)) for needed in wanted.dependencies]
        self._found = sorted(found, key=_turn)
        self._path = [_name_of_string(field) for field in wanted.path_params]
        self._query = wanted.query_params
        self._headers = wanted.header_params
        self._body = wanted.body_params[0] if wanted.body_params else None

    @property
    def names(self) -> set[str]:
        fields = [*self._query, *self._headers, *([self._body] if self._body else [])]
        found = {name for name, _ in self._found if name}
        return found | {*self._path} | {field.name for field in fields}

    async def of(self, request: Request) -> dict[str, Any]:
        """Raises what a dependency raises, or RequestValidationError with all that is wrong."""
        values: dict[str, Any] = {}
        for name, find in self._found:
            found = await find(request)
            if name:
                values[name] = found
        text = request.state.body = await _text(request) if self._body else b""
        body = parse(text, request.app.state.body_limits.depth) if self._body else None
        if body is not None and (deployment := deployment_of(request.scope)):
            body.setdefault("model", deployment)
        for name in self._path:
            values[name] = request.path_params[name]
        faults: list[Any] = []
        if self._query:
            given, wrong = request_params_to_args(self._query, request.query_params)
            values.update(given)
            faults += wrong
        if self._headers:
            given, wrong = request_params_to_args(self._headers, request.headers)
            values.update(given)
            faults += wrong
        if self._body:
            given, wrong = await _checked(self._body, body, len(text))
            values[self._body.name] = given
            faults += wrong
        if faults:
            raise RequestValidationError(faults)
        return values


def _turn(dependency: tuple[str | None, Callable[..., Any]]) -> tuple[bool, bool]:
    name, find = dependency
    return find is not authenticate, name is not None


async def _text(request: Request) -> bytes:
    limits: BodyLimits = request.app.state.body_limits
    return await read(request, limits) or EMPTY


async def _checked(field: ModelField, body: Any, length: int) -> tuple[Any, list[Any]]:
    if length < LONG:
        return field.validate(body, loc=("body",))
    return await asyncio.to_thread(field.validate, body, loc=("body",))


def _name_of_string(field: ModelField) -> str:
    if field.field_info.annotation is not str:
        raise TypeError(f"the path's {field.name} is not a string")
    return field.name


def _function_of_request(needed: Dependant) -> Callable[[Request], Coroutine[Any, Any, Any]]:
    if needed.call is None or not needed.request_param_name or needed.dependencies:
        raise TypeError(f"{needed.call} is not a function of the request alone")
    return needed.call
