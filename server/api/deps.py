"""What endpoints ask for by type: the caller, the server's parts, and the beta header."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from server import errors
from server.access.keys import DEFAULT_PROJECT, Key, Keys
from server.access.limits import Allowance
from server.access.loopback import is_from_this_machine, is_to_this_machine
from server.access.scopes import allows, needed
from server.clock import Clock
from server.config import FilesSettings, StreamsSettings
from server.db.database import Database
from server.db.kept_answers import KeptAnswers
from server.engine.pool import ModelPool
from server.files.library import Library
from server.files.uploads import Uploads
from server.metrics import Metrics
from server.runs.completions import Completions
from server.runs.events import EventBus
from server.runs.executor import RunExecutor
from server.runs.lifecycle import Lifecycle
from server.runs.models import Catalog
from server.sandbox.values import Sandbox
from server.traces import Traces
from server.vector_stores.ingest import Ingestor
from server.vector_stores.searching import Searcher


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server."""

    db: Database
    keys: Keys
    bus: EventBus
    catalog: Catalog
    pool: ModelPool
    executor: RunExecutor
    completions: Completions
    files: Library
    uploads: Uploads
    ingestor: Ingestor
    searcher: Searcher
    sandbox: Sandbox
    metrics: Metrics
    traces: Traces
    clock: Clock
    streams: StreamsSettings
    file_settings: FilesSettings
    folder: Path  # of all data
    kept_answers: KeptAnswers

    @property
    def lifecycle(self) -> Lifecycle:
        return self.executor.lifecycle


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Who calls: the project that owns what the call touches, and what it may still take."""

    project: str
    allowance: Allowance


ORGANIZATION = "default"
MODELS_ALONE = frozenset({"/v1/chat/completions", "/v1/embeddings"})
ASKING_MODELS = MODELS_ALONE | {"/v1/threads/runs", "/v1/threads/{thread_id}/runs"}


async def authenticate(request: Request) -> CallerIdentity:
    """The one place that decides who calls, and whether the caller may do this, and now."""
    caller = _caller(request)
    request.state.project = caller.project  # told in the answer's headers
    allowance, route = caller.allowance, request.scope["route"].path
    if route in MODELS_ALONE:
        request.state.allowance = allowance  # this, too
    if route.startswith("/v1/"):
        allowance.take_request()
        if request.method == "POST" and route in ASKING_MODELS:
            allowance.require_tokens()
    return caller


def _caller(request: Request) -> CallerIdentity:
    """For as long as there are no keys everybody is the local project, whatever key he sends."""
    keys: Keys = request.app.state.services.keys
    if not keys.required:
        if not request.app.state.allow_open:
            _require_this_machine(request)
        return CallerIdentity(DEFAULT_PROJECT, keys.without)
    secret = _secret_of(request.headers.get("authorization", ""))
    if not secret:
        raise errors.no_key()
    key = keys.find(secret)
    if key is None:
        raise errors.wrong_key(secret)
    _require_match(request.headers.get("openai-organization"), ORGANIZATION, "organization")
    _require_match(request.headers.get("openai-project"), key.project, "project")
    _require_scope(request, key)
    return CallerIdentity(key.project, key.allowance)


def _require_this_machine(request: Request) -> None:
    """No page of another site may call, by its own origin or by a name that leads here."""
    host, origin = request.headers.get("host"), request.headers.get("origin")
    if host is not None and not is_to_this_machine(host):
        raise errors.not_from_here("Host")
    if origin is not None and not is_from_this_machine(origin):
        raise errors.not_from_here("Origin")


def _secret_of(header: str) -> str:
    """Of a bearer, or the password of a nameless user; empty where there is none."""
    kind, _, value = header.strip().partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            return "" if user else password
    return ""


def _require_match(named: str | None, wanted: str, kind: str) -> None:
    """Empty is not named: the SDKs send what their environment has."""
    if named and named != wanted:
        raise errors.mismatched(kind)


def _require_scope(request: Request, key: Key) -> None:
    route: str = request.scope["route"].path
    if not allows(key.scope, request.method, route):
        raise errors.missing_scope(needed(request.method, route))


async def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def require_beta(request: Request) -> None:
    """Assistants and threads are behind `OpenAI-Beta: assistants=v2`; a list of values is fine."""
    if request.headers.get("openai-beta") == "assistants=v2":
        return
    header = ",".join(request.headers.getlist("openai-beta"))
    values = {value.strip() for value in header.split(",")}
    if "assistants=v2" in values:
        return
    if "assistants=v1" in values:
        raise errors.InvalidRequest(
            "The v1 Assistants API is not served. Please set the header "
            "'OpenAI-Beta: assistants=v2'.",
            code="invalid_beta",
        )
    raise errors.InvalidRequest(
        "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try "
        "again by setting the header 'OpenAI-Beta: assistants=v2'.",
        code="invalid_beta",
    )


Caller = Annotated[CallerIdentity, Depends(authenticate)]
Server = Annotated[Services, Depends(services)]
Beta = Depends(require_beta)
