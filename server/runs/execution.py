"""One claimed run, driven through one model turn to its next durable state.

Text is published as it is written, each delta after the commit that announced its object, and what
was published is what is stored. Whoever wants the run to end leaves an `Interrupt`; the engine then
has a moment for its last words and is not waited for any longer. A write is never cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, TypeVar

from server.chat.values import CallArguments, CallStarted, TextDelta, ToolCall, TurnDelta
from server.db.database import Database, DatabaseBusy, DatabaseFull, Tx
from server.db.stores import Record
from server.engine.protocol import EndpointLost, EngineCrashed, EngineError, RateLimited
from server.ids import IdSource
from server.runs.context import CompletionBudgetSpent, ContextBuilder, TooManyRounds
from server.runs.deltas import MessageDeltas, StepDeltas
from server.runs.events import EventBus
from server.runs.models import Model
from server.runs.progress import Ending, Progress, Said
from server.runs.state import Claim, RunMoved
from server.runs.turns import InvalidPrompt, ModelCall, PromptBudgetUnmet, Turn
from server.schemas import RunStatus

log = logging.getLogger(__name__)

T = TypeVar("T")
Interrupt = Literal["cancelled", "expired", "queued"]

SERVER_ERROR = {"code": "server_error", "message": "Sorry, something went wrong."}
FILTERED = {"code": "server_error", "message": "A content filter ended the answer."}
BUILT_TOOLS = frozenset({"function"})
LAST_WORDS = 0.25  # seconds that an engine has to answer an interrupt, and to say what was spent
MAX_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How often a run is queued again after its worker died before it fails."""

    worker_deaths: int


@dataclass(slots=True)
class _Message:
    """The open message while it is written; `row` as it was begun."""

    row: Record
    deltas: MessageDeltas
    text: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Call:
    """A function call while it is written."""

    id: str
    name: str
    arguments: str = ""


class RunExecution:
    """Drives one claim. Owned by the event loop; `drive` is its one task."""

    def __init__(
        self,
        run: Record,
        claim: Claim,
        model: Model,
        *,
        db: Database,
        bus: EventBus,
        ids: IdSource,
        progress: Progress,
        context: ContextBuilder,
        limits: Limits,
    ) -> None:
        self.run_id: str = run.id
        self._run = run
        self._claim = claim
        self._model = model
        self._db = db
        self._bus = bus
        self._ids = ids
        self._progress = progress
        self._context = context
        self._limits = limits
        self._interrupt: asyncio.Future[Interrupt] = asyncio.get_running_loop().create_future()
        self._writing = asyncio.Lock()
        self._turn: Turn | None = None
        self._message: _Message | None = None
        self._step: StepDeltas | None = None
        self._calls: list[_Call] = []

    def interrupt(self, why: Interrupt) -> None:
        """End the run within a moment, whatever the engine does. The first reason stands."""
        if not self._interrupt.done():
            self._interrupt.set_result(why)
            self._stop_writing()

    @property
    def _interrupted(self) -> Interrupt | None:
        return self._interrupt.result() if self._interrupt.done() else None

    async def drive(self) -> RunStatus | None:
        """From the claim to the run's next state, which is returned; None if it was taken away."""
        try:
            ending = await self._take_turn()
        except RunMoved:
            ending = None
        except Exception:  # the edge: whatever it is, the run must not stay open
            log.exception("run_failed", extra={"run_id": self.run_id})
            ending = self._failed(SERVER_ERROR)
        try:
            return await self._end(ending)
        except RunMoved:
            log.info("run_taken_away", extra={"run_id": self.run_id})
            return None

    async def _take_turn(self) -> Ending | None:
        """One model call. None means that the calls it wrote have to be answered."""
        unbuilt = [tool["type"] for tool in self._run.tools if tool["type"] not in BUILT_TOOLS]
        if unbuilt:
            return self._failed(_unbuilt(unbuilt[0]))
        try:
            await self._generate()
        except CompletionBudgetSpent:
            return Ending("incomplete", None, incomplete_reason="max_completion_tokens")
        except TooManyRounds as error:
            return self._failed(_error("server_error", error))
        except InvalidPrompt as error:
            return self._failed(_error("invalid_prompt", error))
        except PromptBudgetUnmet:
            return Ending("incomplete", None, incomplete_reason="max_prompt_tokens")
        except EndpointLost as error:
            return self._crashed(_error("server_error", error))
        except EngineCrashed:
            return self._crashed(SERVER_ERROR)
        except RateLimited as error:
            return self._failed(_error("rate_limit_exceeded", error))
        except EngineError as error:
            return self._failed(_error("server_error", error))
        return await self._completed()

    async def _generate(self) -> None:
        """The whole model call; after an interrupt no more of it than comes in a moment."""
        reading = asyncio.create_task(self._read())
        await asyncio.wait((reading, self._interrupt), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((reading,), timeout=LAST_WORDS)
        async with self._writing:
            reading.cancel()
        await asyncio.wait((reading,))
        if not reading.cancelled():
            reading.result()

    async def _read(self) -> None:
        request = await self._context.build(self._run, self._model)
        if self._interrupt.done():
            return
        self._turn = self._model.chat.turn(request)
        try:
            async for delta in self._turn:
                await self._say(delta)
        finally:
            self._turn.cancel()

    async def _say(self, delta: TurnDelta) -> None:
        if self._interrupt.done():
            return
        match delta:
            case TextDelta(text):
                if self._message is None:
                    await self._begin_message()
                self._say_text(text)
            case CallStarted(index, name):
                await self._start_call(index, name)
            case CallArguments(index, text):
                self._say_arguments(index, text)

    async def _begin_message(self) -> None:
        """None after a call: the tool step that is open waits for its outputs."""
        if self._step is None:
            row = await self._write(lambda tx: self._progress.begin_message(tx, self._claim))
            self._message = _Message(row, MessageDeltas(row.id))

    def _say_text(self, text: str) -> None:
        """Text after a call has no message, and no place."""
        if self._message is not None and not self._interrupt.done():
            self._message.text.append(text)
            self._bus.publish(self.run_id, self._message.deltas.text(text))

    async def _start_call(self, index: int, name: str) -> None:
        if index > 0 and not self._run.parallel_tool_calls:
            return self._stop_writing()
        if self._step is None:
            await self._write(self._open_calls)
        if not self._interrupt.done():
            call = _Call(self._ids.new("call"), name)
            self._calls.append(call)
            assert self._step is not None
            self._bus.publish(self.run_id, self._step.started(index, call.id, name))
        return None

    def _open_calls(self, tx: Tx) -> None:
        said = self._said()
        if said is not None:
            self._progress.end_message(tx, self._claim, said)
        step = self._progress.begin_calls(tx, self._claim)
        tx.after_commit(lambda: self._calls_opened(step.id))

    def _calls_opened(self, step_id: str) -> None:
        self._step, self._message = StepDeltas(step_id), None

    def _say_arguments(self, index: int, text: str) -> None:
        if self._step is not None and index < len(self._calls):
            self._calls[index].arguments += text
            self._bus.publish(self.run_id, self._step.arguments(index, text))

    async def _write(self, work: Callable[[Tx], T]) -> T:
        """One unit of work; whoever gives up the reading waits for it."""
        async with self._writing:
            return await self._db.write(work)

    def _stop_writing(self) -> None:
        """Enough: the run shall end, or the one call a turn that was asked for is there."""
        if self._turn is not None:
            self._turn.cancel()

    async def _completed(self) -> Ending | None:
        """What the end of the turn means for the run."""
        if self._interrupt.done():
            return None
        call = self._call()
        if call is not None and call.finish_reason == "length":
            return self._cut_off()
        if call is not None and call.finish_reason == "content_filter":
            return replace(self._failed(FILTERED), message_reason="content_filter")
        if self._calls:
            return None
        if self._message is None:
            await self._begin_message()
            self._say_text("")
        return Ending("completed", call, self._said())

    def _cut_off(self) -> Ending:
        in_call = self._step is not None
        error = {
            "code": "server_error",
            "message": "The answer ended inside a tool call.",
        }
        return Ending(
            "incomplete",
            self._call(),
            self._said(),
            incomplete_reason="max_completion_tokens",
            unfinished_call=in_call,
            error=error if in_call else None,
        )

    def _failed(self, error: dict[str, str]) -> Ending:
        return Ending("failed", self._call(), self._said(), error=error)

    def _crashed(self, error: dict[str, str]) -> Ending:
        """Queued again, unless too many workers have died under this run."""
        log.warning("worker_died", extra={"run_id": self.run_id, "reason": error["message"]})
        if self._run.worker_deaths + 1 >= self._limits.worker_deaths:
            return self._failed(error)
        return Ending("queued", self._call(), self._said(), error=error, worker_deaths=1)

    async def _end(self, ending: Ending | None) -> RunStatus:
        """Write how the claim ends. An interrupt that commits first changes what is written.

        A database that cannot write now is waited for: the run must not stay open.
        """
        delay = 0.1
        while True:
            interrupt = self._interrupted
            try:
                return await self._db.write(
                    partial(self._write_end, ending=ending, interrupt=interrupt)
                )
            except RunMoved:
                if self._interrupted is interrupt:
                    raise
            except (DatabaseBusy, DatabaseFull):
                log.warning("end_delayed", extra={"run_id": self.run_id})
                await asyncio.sleep(delay)
                delay = min(2 * delay, MAX_DELAY)

    def _write_end(self, tx: Tx, ending: Ending | None, interrupt: Interrupt | None) -> RunStatus:
        if interrupt is not None:
            ending = self._ended_by(interrupt)
        if ending is not None:
            self._progress.end(tx, self._claim, ending)
            return ending.to
        cost = self._call()
        if not self._calls or cost is None:
            raise RunMoved(self.run_id)
        calls = [ToolCall(call.id, call.name, call.arguments) for call in self._calls]
        self._progress.require_action(tx, self._claim, calls, cost)
        return "requires_action"

    def _ended_by(self, why: Interrupt) -> Ending:
        to: RunStatus = why
        error = SERVER_ERROR if why == "queued" else None
        return Ending(to, self._call(), self._said(), error=error)

    def _said(self) -> Said | None:
        """The open message as its streams have it; None if there is none."""
        if self._message is None:
            return None
        return Said(self._message.row, "".join(self._message.text) if self._message.text else None)

    def _call(self) -> ModelCall | None:
        """What the model call cost so far; None if there was none."""
        return None if self._turn is None else self._turn.call


def _error(code: str, error: Exception) -> dict[str, str]:
    return {"code": code, "message": str(error)}


def _unbuilt(tool: str) -> dict[str, str]:
    return {
        "code": "server_error",
        "message": f"The tool '{tool}' is not available on this server.",
    }
