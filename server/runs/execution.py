"""One claimed run, driven through one model turn to its next durable state.

Text is published as it is written, each delta after the commit that announced its object, and what
was published is what is stored. Whoever wants the run to end leaves an `Interrupt`; the engine then
has a moment for its last words and is not waited for any longer. A write is never cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

from server.chat.citations import Part, Source
from server.chat.links import Link, Links
from server.chat.values import CallArguments, CallStarted, TextDelta, TurnDelta
from server.db.database import Database, DatabaseBusy, DatabaseClosed, DatabaseFull, Tx
from server.db.stores import Record
from server.engine.protocol import EndpointLost, EngineCrashed, EngineError, RateLimited
from server.ids import IdSource
from server.runs.calls import Calls, Told
from server.runs.context import Asked, CompletionBudgetSpent, ContextBuilder, TooManyRounds
from server.runs.deltas import FileLink, StepDeltas
from server.runs.events import EventBus
from server.runs.models import Model
from server.runs.observer import Observer
from server.runs.open_message import OpenMessage
from server.runs.progress import Ending, Progress, Said
from server.runs.room import room_for_answers
from server.runs.state import Claim, RunMoved
from server.runs.turns import InvalidPrompt, ModelCall, PromptBudgetUnmet, Turn
from server.schemas import RunStatus
from server.tools.tool import Scene, ToolFailed
from server.tools.toolbox import Toolbox, own_tools

log = logging.getLogger(__name__)

T = TypeVar("T")
Interrupt = Literal["cancelled", "expired", "queued"]

SERVER_ERROR = {"code": "server_error", "message": "Sorry, something went wrong."}
FILTERED = {"code": "server_error", "message": "A content filter ended the answer."}
LAST_WORDS = 0.25  # seconds that an engine has to answer an interrupt, and to say what was spent
MAX_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How often its worker may die before a run fails, and how often the server may restart it."""

    worker_deaths: int
    restarts: int


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
        tools: Toolbox,
        observer: Observer,
        at_rest: Callable[[], AbstractContextManager[None]],
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
        self._tools = tools
        self._observer = observer
        self._steps = observer.steps()
        self._at_rest = at_rest
        self._limits = limits
        self._interrupt: asyncio.Future[Interrupt] = asyncio.get_running_loop().create_future()
        self._writing = asyncio.Lock()
        self._asked: Asked | None = None
        self._turn: Turn | None = None
        self._message: OpenMessage | None = None
        self._step: StepDeltas | None = None
        self._calls = Calls(own_tools(run.tools))
        self._kept: dict[str, str | None] = {}  # by name: files that answers lead to

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
            ending = await self._take_turns()
        except RunMoved:
            ending = None
        except (DatabaseBusy, DatabaseFull):
            ending = self._unwritten()
        except Exception:  # the edge: whatever it is, the run must not stay open
            log.exception("run_failed")
            ending = self._failed(SERVER_ERROR)
        try:
            return await self._end(ending)
        except RunMoved:
            log.info("run_taken_away")
            self._progress.taken_away(self._run, self._call())
            return None
        finally:
            self._steps.end()

    async def _take_turns(self) -> Ending | None:
        """Model calls, for as long as the server itself can answer all that they call."""
        while (ending := await self._take_turn()) is None and self._calls:
            if self._interrupt.done():
                break
            try:
                if not await self._answer_calls():
                    break
            except ToolFailed as error:
                return self._failed(_error("server_error", error))
        return ending

    async def _take_turn(self) -> Ending | None:
        """One model call. None means that the calls it wrote have to be answered."""
        problem = self._tools.problem(self._run.tools)
        if problem is not None:
            return self._failed({"code": "server_error", "message": problem})
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
        self._asked = await self._context.build(self._run, self._model)
        if self._interrupt.done():
            return
        self._turn = self._model.chat.turn(self._asked.request)
        with self._observer.call(self._model, self._asked.request, self._turn) as heard:
            try:
                async for delta in self._turn:
                    heard()
                    await self._say(delta)
            finally:
                self._turn.cancel()
        if not self._interrupt.done():
            await self._say_rest()

    async def _say(self, delta: TurnDelta) -> None:
        if self._interrupt.done():
            return
        match delta:
            case TextDelta(text):
                if self._message is None:
                    await self._begin_message()
                await self._say_text(text)
            case CallStarted(index, name):
                await self._start_call(index, name)
            case CallArguments(index, text):
                self._tell_calls(self._calls.feed(index, text))

    async def _begin_message(self) -> None:
        """None after a call: the tool step that is open waits for its outputs."""
        if self._step is None:
            row = await self._write(lambda tx: self._progress.begin_message(tx, self._claim))
            self._steps.begin("message_creation", row.id)
            asked = self._asked
            assert asked is not None, "the model was asked before it spoke"
            message = OpenMessage(row, self._citable, Links(asked.files), asked.figures)
            self._message = message
            for figure in message.figures() if not self._interrupt.done() else ():
                self._bus.publish(self.run_id, figure)

    @property
    def _citable(self) -> Sequence[Source] | None:
        """The passages that this turn's text may cite, if it may: JSON may not."""
        if self._asked is None or self._asked.request.response_format is not None:
            return None
        return self._asked.sources

    async def _say_text(self, text: str) -> None:
        """Text after a call has no message, and no place."""
        if self._message is not None:
            await self._say_parts(self._message, self._message.writer.feed(text))

    async def _say_rest(self) -> None:
        """What was held back because it might have become a mark; an empty text at least."""
        message = self._message
        if message is not None:
            rest: list[Part] = message.writer.finish()
            await self._say_parts(message, rest if rest or not message.is_silent else [""])

    async def _say_parts(self, message: OpenMessage, parts: Sequence[Part]) -> None:
        for part in parts:
            told = await self._followed(part) if isinstance(part, Link) else part
            if self._interrupt.done():
                return
            self._bus.publish(self.run_id, message.delta(told))

    async def _followed(self, link: Link) -> str | FileLink:
        """A link with the file that it leads to, made at its first mention; else its text."""
        if link.name not in self._kept:
            file_id = await self._tools.keep(self._run, link.name)
            if file_id is not None and self._interrupt.done():  # it is not told any more
                self._tools.drop(self._run, file_id)
                file_id = None
            self._kept[link.name] = file_id
        file_id = self._kept[link.name]
        return link.text if file_id is None else FileLink(link.text, file_id)

    async def _start_call(self, index: int, name: str) -> None:
        if index > 0 and not self._run.parallel_tool_calls:
            return self._stop_writing()
        if self._step is None:
            await self._say_rest()
            if self._interrupt.done():
                return None
            await self._write(self._open_calls)
        if not self._interrupt.done():
            self._tell_calls([self._calls.start(self._ids.new("call"), name)])
        return None

    def _tell_calls(self, told: Iterable[Told]) -> None:
        """Text before the first call has no step, and no place."""
        for index, more in told:
            if self._step is not None:
                self._bus.publish(self.run_id, self._step.call(index, more))

    def _open_calls(self, tx: Tx) -> None:
        said = self._said()
        if said is not None:
            self._progress.end_message(tx, self._claim, said)
        step = self._progress.begin_calls(tx, self._claim)
        tx.after_commit(lambda: self._calls_opened(step.id))

    def _calls_opened(self, step_id: str) -> None:
        self._step, self._message = StepDeltas(step_id), None
        self._steps.begin("tool_calls", step_id)

    async def _answer_calls(self) -> bool:
        """Run the server's own tools; whether that was all, and the next turn may follow.

        Raises ToolFailed, RunMoved.
        """
        with self._at_rest():
            answering = asyncio.create_task(self._answer())
            await asyncio.wait((answering, self._interrupt), return_when=asyncio.FIRST_COMPLETED)
        if self._interrupt.done():
            answering.cancel()
            await asyncio.wait((answering,))
            if not answering.cancelled():
                answering.exception()  # what it failed of does not matter any more
            return False
        answering.result()
        cost = self._call()
        if self._calls.waits or cost is None:
            return False
        calls = self._calls.stored
        end = partial(self._progress.end_calls, claim=self._claim, calls=calls, cost=cost)
        await self._write(end)
        self._steps.end()
        self._asked = self._turn = self._message = self._step = None
        self._calls = Calls(own_tools(self._run.tools))
        self._kept.clear()
        return True

    async def _answer(self) -> None:
        """Have each tool answer its calls. What is told is kept, also if the run ends meanwhile."""
        self._tell_calls(self._calls.finish())
        own = list(self._calls.own())
        if not own:
            return
        scene = await self._scene(sum(len(each.calls) for each in own))
        for each in own:
            answers = self._tools.answer(each.kind, each.calls, each.tool, scene)
            with self._steps.tool(each.kind, each.calls):
                async with aclosing(answers):
                    async for answer in answers:
                        if self._interrupt.done():
                            return
                        self._tell_calls(self._calls.answered(answer))

    async def _scene(self, calls: int) -> Scene:
        asked, cost = self._asked, self._call()
        assert asked is not None, "the model was asked before it called"
        assert cost is not None, "it wrote the calls"
        room = await room_for_answers(asked.request, cost, self._count)
        context, failures = asked.request.budget.context, asked.failures
        return Scene(self._run, context, room // calls, self._count, failures)

    async def _count(self, text: str) -> int:
        """Tokens, also where the worker has just died: the next turn will tell of that."""
        try:
            return await self._model.chat.count(text)
        except EngineError:
            return len(text) // 2

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
            await self._say_rest()
        return Ending("completed", call)

    def _cut_off(self) -> Ending:
        in_call = self._step is not None
        error = {
            "code": "server_error",
            "message": "The answer ended inside a tool call.",
        }
        return Ending(
            "incomplete",
            self._call(),
            incomplete_reason="max_completion_tokens",
            unfinished_call=in_call,
            error=error if in_call else None,
        )

    def _failed(self, error: dict[str, str]) -> Ending:
        return Ending("failed", self._call(), error=error)

    def _crashed(self, error: dict[str, str]) -> Ending:
        """Queued again, unless too many workers have died under this run."""
        log.warning("worker_died")
        if self._run.worker_deaths + 1 >= self._limits.worker_deaths:
            return self._failed(error)
        return Ending("queued", self._call(), error=error, worker_deaths=1)

    def _unwritten(self) -> Ending:
        """Queued again, when that can be written, unless the database has failed it too often."""
        log.warning("run_delayed")
        if self._run.restarts >= self._limits.restarts:
            return self._failed(SERVER_ERROR)
        return Ending("queued", self._call(), error=SERVER_ERROR, restarts=1)

    async def _end(self, ending: Ending | None) -> RunStatus:
        """Write how the claim ends. An interrupt that commits first changes what is written.

        A database that cannot write now is waited for, and what it can never write is left away:
        the run must not stay open.
        """
        delay = 0.1
        without_call = partial(self._write_fault, keeps_text=True)
        less_and_less = [partial(self._write_fault, keeps_text=False), without_call]
        write: Callable[..., RunStatus] = self._write_end
        while True:
            interrupt = self._interrupted
            try:
                return await self._db.write(partial(write, ending=ending, interrupt=interrupt))
            except RunMoved:
                if self._interrupted is interrupt:
                    raise
            except (DatabaseBusy, DatabaseFull):
                log.warning("end_delayed")
                await asyncio.sleep(delay)
                delay = min(2 * delay, MAX_DELAY)
            except DatabaseClosed:
                raise
            except Exception:
                if not less_and_less:
                    raise
                log.exception("end_refused")
                write = less_and_less.pop()

    def _write_end(self, tx: Tx, ending: Ending | None, interrupt: Interrupt | None) -> RunStatus:
        if interrupt is not None:
            ending = self._ended_by(interrupt)
        if ending is not None:
            if self._calls:
                self._progress.keep_calls(tx, self._claim, self._calls.stored)
            self._progress.end(tx, self._claim, replace(ending, said=self._said()))
            return ending.to
        cost = self._call()
        if not self._calls or cost is None:
            raise RunMoved(self.run_id)
        self._progress.require_action(tx, self._claim, self._calls.stored, cost)
        return "requires_action"

    def _write_fault(
        self, tx: Tx, ending: Ending | None, interrupt: Interrupt | None, *, keeps_text: bool
    ) -> RunStatus:
        """The end for one that is refused: without calls and what they cost, or without a word."""
        to: RunStatus = interrupt or "failed"
        said = self._said() if keeps_text else None
        self._progress.end(tx, self._claim, Ending(to, None, said, error=SERVER_ERROR))
        return to

    def _ended_by(self, why: Interrupt) -> Ending:
        to: RunStatus = why
        error = SERVER_ERROR if why == "queued" else None
        return Ending(to, self._call(), error=error)

    def _said(self) -> Said | None:
        """The open message as its streams have it; None if there is none."""
        return None if self._message is None else self._message.said()

    def _call(self) -> ModelCall | None:
        """What the model call cost so far; None if there was none."""
        return None if self._turn is None else self._turn.call


def _error(code: str, error: Exception) -> dict[str, str]:
    return {"code": code, "message": str(error)}
