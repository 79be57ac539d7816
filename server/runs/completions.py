"""All chat completions of the server: how they begin, and how they end when it does."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from server import errors, schemas
from server.access.limits import Allowance
from server.engine.pool import ModelPool
from server.ids import IdSource
from server.runs.chat_request import conversation_of, require_sense, turn_requests
from server.runs.completion import Completion
from server.runs.models import Catalog, Model
from server.runs.observer import Observer


class Completions:
    """Owned by the event loop. `completion_cap` holds where the client sets no limit."""

    def __init__(
        self,
        catalog: Catalog,
        pool: ModelPool,
        ids: IdSource,
        observer: Observer,
        *,
        completion_cap: int,
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._ids = ids
        self._observer = observer
        self._completion_cap = completion_cap
        self._open: dict[Completion, Allowance] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._stopping = False

    @property
    def open(self) -> int:
        """How many are not closed."""
        return len(self._open)

    def create(
        self, project: str, body: schemas.CreateChatCompletion, allowance: Allowance
    ) -> Completion:
        """What was asked, to be begun and closed. Raises WireError for a request without sense.

        It is within the caller's allowance, to which its tokens are charged when it is closed.
        """
        if self._stopping:
            raise errors.shutting_down()
        require_sense(body)
        model = self._require(body.model)
        messages = conversation_of(body)
        asks = partial(turn_requests, body, messages, project, model, self._completion_cap)
        completion = Completion(model, self._pool, self._ids, self._observer, asks, self._closed)
        allowance.begin_completion()
        self._open[completion] = allowance
        self._none_open.clear()
        return completion

    async def stop(self, grace: float) -> None:
        """Begin no more; let those that are open end for `grace` seconds, then break them off."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._none_open.wait()
        for completion in self._open:
            completion.break_off(errors.shutting_down())

    def _require(self, name: str) -> Model:
        model = self._catalog.resolve(name)
        if model is None:
            raise errors.no_such_model(name)
        if model.embeds:
            raise errors.makes_embeddings_only(name)
        if model.ranks:
            raise errors.only_ranks(name)
        return model

    def _closed(self, completion: Completion) -> None:
        allowance = self._open.pop(completion, None)
        if allowance is not None:
            allowance.end_completion(completion.tokens)
        if not self._open:
            self._none_open.set()
