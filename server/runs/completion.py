"""One chat completion on its way: turns that belong to no thread, of which nothing is stored.

The turns are those that runs take, by the same models. Nobody but the client reads what they write,
so they end as soon as it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from server import errors, schemas
from server.chat.values import CallArguments, CallStarted, TextDelta, TurnDelta
from server.engine.pool import ModelPool
from server.engine.protocol import EngineError, EngineUnavailable, RateLimited
from server.ids import IdSource
from server.runs.models import Model
from server.runs.observer import Observer
from server.runs.turns import InvalidPrompt, ModelCall, PromptBudgetUnmet, Turn, TurnRequest

PATIENCE = 600.0  # seconds to wait for the model, for a client that went without our knowing
SHOWN_DIGITS = 10  # of a fingerprint
CUT_OFF: Mapping[str, schemas.ChatFinishReason] = {
    "length": "length",
    "content_filter": "content_filter",
}


@dataclass(slots=True)
class Call:
    """A function call, as far as it is written."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Choice:
    """One answer, as far as it is written. `full`: what its turn still writes is not wanted."""

    index: int
    parallel: bool
    text: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    full: bool = False
    cost: ModelCall | None = None  # known at its end

    @property
    def finish_reason(self) -> schemas.ChatFinishReason:
        """Why it ended, in the wire's word."""
        reason = self.cost.finish_reason if self.cost is not None else ""
        return CUT_OFF.get(reason, "tool_calls" if self.calls else "stop")

    def take(self, delta: TurnDelta, ids: IdSource) -> bool:
        """Grow by what the turn wrote; False if it has no place. Text after a call has none."""
        match delta:
            case TextDelta(text) if not self.calls:
                self.text.append(text)
                return True
            case CallStarted(index, name):
                self.full = index > 0 and not self.parallel
                if not self.full:
                    self.calls.append(Call(ids.new("call"), name))
                return not self.full
            case CallArguments(index, text) if index < len(self.calls):
                self.calls[index].arguments += text
                return True
        return False


@dataclass(frozen=True, slots=True)
class Written:
    """More of a choice; without a delta it has ended."""

    choice: Choice
    delta: TurnDelta | None


class Completion:
    """One request's choices while they are written: await `begun`, then iterate it once.

    Both raise WireError. Whoever has it closes it, whatever happened: that ends what is still
    being written. `asks` is called once the model is loaded.
    """

    def __init__(
        self,
        model: Model,
        pool: ModelPool,
        ids: IdSource,
        observer: Observer,
        asks: Callable[[], Sequence[TurnRequest]],
        when_closed: Callable[[Completion], None],
    ) -> None:
        self.id = ids.new("chatcmpl").replace("_", "-")
        self.choices: list[Choice] = []
        self.fingerprint = ""
        self._model = model
        self._pool = pool
        self._ids = ids
        self._observer = observer
        self._asks = asks
        self._when_closed = when_closed
        self._turns: list[Turn] = []
        self._writing: asyncio.Task[None] | None = None
        self._news = asyncio.Queue[Written | BaseException | None]()  # None: all is written
        self._first: Written | None = None

    async def begun(self) -> None:
        """Return once there is something to read."""
        self._writing = asyncio.create_task(self._write())
        self._writing.add_done_callback(self._tell_end)
        self._first = await self._hear()

    async def __aiter__(self) -> AsyncIterator[Written]:
        news = self._first
        while news is not None:
            yield news
            news = await self._hear()

    def break_off(self, error: errors.WireError) -> None:
        """Have whoever reads it read this."""
        self._news.put_nowait(error)

    def close(self) -> None:
        """End what is still being written, within a decode step. May be called twice."""
        for turn in self._turns:
            turn.cancel()
        if self._writing is not None:
            self._writing.cancel()
        self._when_closed(self)

    @property
    def usage(self) -> schemas.ChatUsage:
        """What all choices cost; the prompt is counted once, as the first one found it."""
        costs = [choice.cost for choice in self.choices if choice.cost is not None]
        completion = sum(cost.completion_tokens for cost in costs)
        return schemas.ChatUsage(
            prompt_tokens=costs[0].prompt_tokens,
            completion_tokens=completion,
            total_tokens=costs[0].prompt_tokens + completion,
            prompt_tokens_details=schemas.ChatPromptDetails(cached_tokens=costs[0].cached_tokens),
            completion_tokens_details=schemas.ChatCompletionDetails(
                reasoning_tokens=sum(cost.reasoning_tokens for cost in costs)
            ),
        )

    @property
    def tokens(self) -> int:
        """What it has taken so far, of prompts and answers."""
        calls = [turn.call for turn in self._turns]
        return sum(call.tokens for call in calls if call)

    async def _hear(self) -> Written | None:
        news = await self._news.get()
        if isinstance(news, BaseException):
            raise news
        return news

    async def _write(self) -> None:
        with _told(self._model):
            async with self._pool.using(self._model.id, PATIENCE):
                asked = self._asks()
                self.choices = [
                    Choice(index, each.parallel_tool_calls) for index, each in enumerate(asked)
                ]
                self._turns = [self._model.chat.turn(each) for each in asked]
                each = zip(self.choices, asked, self._turns, strict=True)
                await asyncio.gather(*(self._read(*parts) for parts in each))

    async def _read(self, choice: Choice, asked: TurnRequest, turn: Turn) -> None:
        with self._observer.call(self._model, asked, turn) as heard:
            async for delta in turn:
                heard()
                self._note_fingerprint(turn)
                if choice.take(delta, self._ids):
                    self._news.put_nowait(Written(choice, delta))
                elif choice.full:
                    turn.cancel()
        self._note_fingerprint(turn)
        choice.cost = turn.call
        if choice.cost is None:
            raise EngineError("The model did not answer.")
        self._news.put_nowait(Written(choice, None))

    def _note_fingerprint(self, turn: Turn) -> None:
        if not self.fingerprint and turn.call is not None:
            digest = hashlib.sha256(turn.call.fingerprint.encode()).hexdigest()
            self.fingerprint = f"fp_{digest[:SHOWN_DIGITS]}"

    def _tell_end(self, writing: asyncio.Task[None]) -> None:
        if not writing.cancelled():
            self._news.put_nowait(writing.exception())


@contextlib.contextmanager
def _told(model: Model) -> Iterator[None]:
    """What can go wrong with a turn, as it is told to the client."""
    try:
        yield
    except InvalidPrompt as problem:
        raise errors.InvalidRequest(str(problem), problem.param) from problem
    except PromptBudgetUnmet as problem:
        raise errors.context_exceeded(model.chat.context) from problem
    except EngineUnavailable as problem:
        raise errors.Unavailable(str(problem)) from problem
    except RateLimited as problem:
        raise errors.TooMany(str(problem)) from problem
    except EngineError as problem:
        raise errors.ServerFault(str(problem)) from problem
