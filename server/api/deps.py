"""What endpoints ask for by type: the caller, the server's parts, and the beta header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from server import errors
from server.clock import Clock
from server.config import FilesSettings, StreamsSettings
from server.db.database import Database
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
from server.vector_stores.ingest import Ingestor
from server.vector_stores.searching import Searcher


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server."""

    db: Database
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
    clock: Clock
    streams: StreamsSettings
    file_settings: FilesSettings

    @property
    def lifecycle(self) -> Lifecycle:
        return self.executor.lifecycle


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Who calls: the project that owns what the call touches."""

    project: str


_LOCAL = CallerIdentity("default")


async def authenticate(_: Request) -> CallerIdentity:
    """The one place that decides who calls. No keys are kept yet: everybody is the local project.

    A server that can be reached from elsewhere has to be told so at its start.
    """
    return _LOCAL


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
