"""A model behind an OpenAI-compatible chat endpoint: the conversation goes there as it is.

The endpoint has the tokenizer, so a prompt is as long as it is estimated to be. One that the
endpoint finds too long is shortened and sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from server.chat.completions import JsonObject, message_body, tools_body
from server.chat.values import TurnDelta
from server.engine.chunks import Usage
from server.engine.protocol import PromptRefused, PromptTooLong
from server.engine.upstream import Answer, ChatEndpoint
from server.runs.answer import AnswerReader
from server.runs.estimate import TokenEstimate, size_of, size_of_tools
from server.runs.prompt import conversation, newer_half, shortened
from server.runs.turns import Budget, InvalidPrompt, ModelCall, PromptBudgetUnmet, TurnRequest, Unit

log = logging.getLogger(__name__)

NOTHING: Final[tuple[object, ...]] = (None, (), [], {})  # of what a run leaves to the endpoint

LimitField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """What the endpoint's model takes; `limit_field` is what it calls the most tokens to write."""

    slots: int
    context: int
    limit_field: LimitField = "max_tokens"


class UpstreamModel:
    """Takes turns at an endpoint: at most `slots` at once, while more than that wait.

    What it learns of the model's tokens holds for all of them.
    """

    def __init__(self, endpoint: ChatEndpoint, limits: UpstreamLimits) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._estimate = TokenEstimate()
        self._free = asyncio.Semaphore(limits.slots)

    @property
    def slots(self) -> int:
        return self._limits.slots

    @property
    def context(self) -> int:
        return self._limits.context

    def turn(self, request: TurnRequest) -> UpstreamTurn:
        field = self._limits.limit_field
        return UpstreamTurn(self._endpoint, field, self._estimate, self._free, request)

    async def count(self, text: str) -> int:
        return self._estimate.tokens(len(text.encode("utf-8", "replace")))

    def forget(self, owner: str) -> None:
        """Nothing of a conversation is kept here."""


class UpstreamTurn:
    """Sends the conversation when it is iterated."""

    def __init__(
        self,
        endpoint: ChatEndpoint,
        limit_field: LimitField,
        estimate: TokenEstimate,
        free: asyncio.Semaphore,
        request: TurnRequest,
    ) -> None:
        self._endpoint = endpoint
        self._limit_field = limit_field
        self._estimate = estimate
        self._free = free
        self._request = request
        self._cancelled = False
        self._answer: Answer | None = None
        self._reader: AnswerReader | None = None
        self._size = 0  # of the prompt, in bytes

    @property
    def call(self) -> ModelCall | None:
        reader = self._reader
        if reader is None:
            return None
        usage = reader.usage or self._estimated(reader)
        return ModelCall(
            fingerprint=f"upstream:{self._endpoint.model}:{reader.fingerprint or ''}",
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            finish_reason=reader.finish_reason or ("cancelled" if self._cancelled else "error"),
            token_ids=(),
        )

    def _estimated(self, reader: AnswerReader) -> Usage:
        return Usage(
            prompt_tokens=self._estimate.tokens(self._size),
            completion_tokens=self._estimate.tokens(reader.written),
        )

    def cancel(self) -> None:
        self._cancelled = True
        if self._answer is not None:
            self._answer.cancel()

    async def __aiter__(self) -> AsyncIterator[TurnDelta]:
        async with self._free:
            async for delta in self._taken():
                yield delta

    async def _taken(self) -> AsyncIterator[TurnDelta]:
        units = self._fitting()
        while not self._cancelled:
            try:
                async for delta in self._asked(units):
                    yield delta
                return
            except PromptRefused as error:
                raise InvalidPrompt(str(error)) from error
            except PromptTooLong as error:
                if self._reader is not None and self._reader.written:
                    self._reader.finish_reason = "length"  # the context is full in mid-answer
                    return
                fewer = newer_half(units)
                if len(fewer) == len(units):
                    raise PromptBudgetUnmet from error
                self._estimate.was_too_low()
                units = fewer
                log.info("prompt_shortened", extra={"model": self._endpoint.model})

    def _fitting(self) -> Sequence[Unit]:
        """The newest units that are estimated to fit. Raises PromptBudgetUnmet.

        Only the run's own limit is held to where even the newest alone seems too long: whether it
        fits the context, the endpoint knows better.
        """
        budget, units = self._request.budget, self._request.units
        tokens = self._tokens(units)
        if tokens <= budget.prompt_limit:
            return units
        sizes = [self._estimate.tokens(size_of(unit)) for unit in units]
        kept = shortened(units, sizes, tokens, budget)
        if budget.prompt is not None and self._tokens(kept) > budget.prompt:
            raise PromptBudgetUnmet
        return kept

    def _tokens(self, units: Sequence[Unit]) -> int:
        return self._estimate.tokens(self._size_with(units))

    def _size_with(self, units: Sequence[Unit]) -> int:
        messages = conversation(self._request.instructions, units)
        return size_of(messages) + size_of_tools(self._request.tools)

    async def _asked(self, units: Sequence[Unit]) -> AsyncIterator[TurnDelta]:
        """The answer to so much of the conversation. The model was asked once a chunk is there."""
        self._size = self._size_with(units)
        reader = AnswerReader()
        self._answer = self._endpoint.ask(self._body(units))
        async for chunk in self._answer:
            self._reader = reader
            for delta in reader.read(chunk):
                yield delta
        if not self._cancelled:
            reader.finish_reason = reader.finish_reason or "stop"
        for delta in reader.finish():
            yield delta
        if reader.usage is not None:
            self._estimate.learn(self._size, reader.usage.prompt_tokens)

    def _body(self, units: Sequence[Unit]) -> JsonObject:
        asked = self._request
        messages = conversation(asked.instructions, units)
        wanted = {
            "response_format": asked.response_format,
            "reasoning_effort": asked.reasoning_effort,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            **asdict(asked.options),
        }
        return {
            "messages": [message_body(message) for message in messages],
            self._limit_field: _room(asked.budget, self._estimate.tokens(self._size)),
            **tools_body(
                asked.tools, must_call=asked.must_call, parallel=asked.parallel_tool_calls
            ),
            **{name: value for name, value in wanted.items() if value not in NOTHING},
        }


def _room(budget: Budget, prompt: int) -> int:
    """The most tokens to write; the reserve, where the estimate leaves less than that."""
    return max(budget.reserve, budget.room_after(prompt))
