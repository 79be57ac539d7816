"""Clients of Azure OpenAI, as `AzureOpenAI` of OpenAI's SDKs: the same API at other paths.

There a path begins with `/openai`, names the model of a request that asks one alone
(`/openai/deployments/{name}/chat/completions`), and a version of the API in its query; the key is
in a header of its own (Azure OpenAI's REST reference, "Authentication" and "REST API versioning").
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "/openai/"
WITHIN: Final = re.compile(rb"/openai/(?:deployments/([^/]+)/|v1/)?")
ASKS_A_MODEL: Final = frozenset({b"chat/completions", b"embeddings"})
VERSION: Final = re.compile(rb"(?:^|&)api-version=[^&]*")
KEY, AUTHORIZATION, BETA = b"api-key", b"authorization", b"openai-beta"


class AzurePaths:
    """Has requests to Azure's paths answered as those to OpenAI's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            _translate(scope)
        await self._app(scope, receive, send)


def deployment_of(scope: Scope) -> str | None:
    """The model that the path names, for a body that names none."""
    found: str | None = scope["state"].get("deployment")
    return found


def _translate(scope: Scope) -> None:
    """In place: layers further out look at the route that is found by it."""
    raw: bytes = scope["raw_path"]
    if (found := WITHIN.match(raw)) is None:  # its first letters are spelled in an odd way
        return
    rest = raw[found.end() :]
    scope["raw_path"] = b"/v1/" + rest
    scope["path"] = unquote(scope["raw_path"].decode("ascii"))
    scope["query_string"] = VERSION.sub(b"", scope["query_string"]).removeprefix(b"&")
    if found[1] and rest in ASKS_A_MODEL:
        scope.setdefault("state", {})["deployment"] = unquote(found[1].decode("ascii"))
    scope["headers"] = _headers(scope["headers"])


def _headers(given: list[Any]) -> list[Any]:
    """With the key where OpenAI's is, and the beta's header, which Azure's API does not have."""
    names = dict(given)
    more = [] if BETA in names else [(BETA, b"assistants=v2")]
    if KEY in names and AUTHORIZATION not in names:
        more.append((AUTHORIZATION, b"Bearer " + names[KEY]))
    return [*given, *more]
