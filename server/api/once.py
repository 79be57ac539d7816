"""POSTs that take effect once, however often they are sent.

A request with an `Idempotency-Key` is answered in the unit of work that does what it asks for: both
are kept, or neither is. The one writer runs units one after the other, so a repetition that comes
while the first is under way waits for it. Without a key, what an SDK marks as a retry is matched to
what its request has made in its thread; that is up to the verbs, which are told of the `attempt`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, Final, TypeVar

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from server import errors
from server.api.deps import services
from server.api.errors import refusal
from server.api.refusals import caller_of, digest, fingerprint, number_of
from server.db.database import Database, Tx
from server.db.kept_answers import KeptAnswers
from server.db.stores import Record
from server.runs.attempt import Attempt

KEY: Final = "idempotency-key"
LONGEST_KEY: Final = 255
REPLAYED: Final = {"idempotent-replayed": "true"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is a stream: of what it is about nothing but the id is kept."""

    object_id: str
    replayed: bool = False


Answer = Response | Streamed


class Posting:
    """One sending of a POST. `attempt` is for verbs that know their own retries."""

    def __init__(
        self, db: Database, kept: KeptAnswers, key: str | None, attempt: Callable[[], Attempt]
    ) -> None:
        self._db = db
        self._answers = kept
        self._key = key
        self._attempt = attempt

    @cached_property
    def attempt(self) -> Attempt:
        """Known once the request's body was read."""
        return self._attempt()

    async def answer(
        self, project: str, work: Callable[[Tx], T], show: Callable[[T], Response]
    ) -> Response:
        """Do the work in a unit, and show what came of it. Raises what the work raises."""
        answer = await self.answer_or_stream(project, work, show)
        assert isinstance(answer, Response), "a stream is the answer to nothing else"
        return answer

    async def answer_or_stream(
        self, project: str, work: Callable[[Tx], T], show: Callable[[T], Answer]
    ) -> Answer:
        """The same where clients may ask for a stream."""
        _ = self.attempt  # now, on the loop: the writer's thread has better things to do
        if self._key is None:
            return show(await self._db.write(work))
        key = self._key
        return await self._db.write(lambda tx: self._once(tx, project, key, work, show))

    def _once(
        self, tx: Tx, project: str, key: str, work: Callable[[Tx], T], show: Callable[[T], Answer]
    ) -> Answer:
        kept = self._answers.find(tx, project, key)
        if kept is not None:
            return self._replayed(kept)
        try:
            answer = show(tx.wholly(work))
        except (errors.InvalidRequest, errors.NotFound) as error:
            answer = refusal(error)
        request = {"request_hash": self.attempt.request_hash}
        self._answers.keep(tx, project, key, {**request, **_columns(answer)})
        return answer

    def _replayed(self, kept: Record) -> Answer:
        if kept.request_hash != self.attempt.request_hash:
            raise errors.key_used_otherwise()
        if kept.object_id is not None:
            return Streamed(kept.object_id, replayed=True)
        return Response(kept.response, kept.status_code, REPLAYED, "application/json")


def _columns(answer: Answer) -> dict[str, object]:
    if isinstance(answer, Streamed):
        return {"object_id": answer.object_id, "status_code": 200, "response": b""}
    status, body = answer.status_code, bytes(answer.body)
    return {"object_id": None, "status_code": status, "response": body}


async def posting(request: Request) -> Posting:
    """Raises InvalidRequest for a key that cannot be one."""
    server = await services(request)
    key = request.headers.get(KEY)
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise errors.not_a_key(LONGEST_KEY, len(key))
    key_of_caller = None if key is None else digest(caller_of(request), key.encode())
    return Posting(server.db, server.kept_answers, key_of_caller, partial(_attempt, request))


def _attempt(request: Request) -> Attempt:
    asked = fingerprint(request)
    repeats_nothing = KEY in request.headers or request.app.state.refusals.knows(asked)
    return Attempt(asked, 0 if repeats_nothing else number_of(request))


Once = Annotated[Posting, Depends(posting)]
