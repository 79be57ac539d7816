"""A model on this machine: its template and dialect around an engine that knows only tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from server.chat.dialects import Dialect
from server.chat.template import ChatTemplate
from server.chat.turn import TurnParser
from server.chat.utf8 import Utf8Joiner
from server.chat.values import TurnDelta
from server.engine.protocol import Engine, Finished, Generation, PromptTooLong, Request, Sampling
from server.runs.prompt import Prompt, PromptBuilder
from server.runs.turns import ModelCall, PromptBudgetUnmet, TurnRequest


class LocalModel:
    """Takes turns on a started engine."""

    def __init__(self, engine: Engine, template: ChatTemplate, dialect: Dialect) -> None:
        self._engine = engine
        self._dialect = dialect
        self._prompts = PromptBuilder(engine, template, dialect)

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def context(self) -> int:
        return self._engine.info.context

    def turn(self, request: TurnRequest) -> LocalTurn:
        return LocalTurn(self._engine, self._dialect, self._prompts, request)


class LocalTurn:
    """Builds the prompt and has it continued when it is iterated."""

    def __init__(
        self, engine: Engine, dialect: Dialect, prompts: PromptBuilder, request: TurnRequest
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._prompts = prompts
        self._request = request
        self._cancelled = False
        self._prompt: Prompt | None = None
        self._generation: Generation | None = None
        self._tokens: list[int] = []
        self._finished: Finished | None = None

    @property
    def call(self) -> ModelCall | None:
        if self._prompt is None or self._generation is None:
            return None
        done = self._finished
        return ModelCall(
            fingerprint=self._engine.info.fingerprint,
            prompt_tokens=done.prompt_tokens if done else len(self._prompt.ids),
            completion_tokens=done.completion_tokens if done else len(self._tokens),
            cached_tokens=done.cached_tokens if done else 0,
            reasoning_tokens=0,
            finish_reason=done.reason if done else "error",
            token_ids=self._tokens,
        )

    def cancel(self) -> None:
        self._cancelled = True
        if self._generation is not None:
            self._generation.cancel()

    async def __aiter__(self) -> AsyncIterator[TurnDelta]:
        self._prompt = await self._prompts.build(self._request)
        if self._cancelled:
            return
        self._generation = self._engine.generate(self._engine_request(self._prompt))
        try:
            async for deltas in self._written(self._prompt, self._generation):
                for delta in deltas:
                    yield delta
        except PromptTooLong as error:
            raise PromptBudgetUnmet from error

    async def _written(
        self, prompt: Prompt, generation: Generation
    ) -> AsyncIterator[Sequence[TurnDelta]]:
        offered = [tool.name for tool in self._request.tools]
        parser = TurnParser(self._dialect, offered, in_reasoning=prompt.in_reasoning)
        joiner = Utf8Joiner()
        async for item in generation:
            if isinstance(item, Finished):
                self._finished = item
            else:
                self._tokens.extend(item.ids)
                yield parser.feed(joiner.feed(item.data))
        yield parser.feed(joiner.finish())
        yield parser.finish()

    def _engine_request(self, prompt: Prompt) -> Request:
        asked = self._request
        sampling = Sampling(temperature=asked.temperature, top_p=asked.top_p)
        return Request(prompt.ids, prompt.max_tokens, sampling, cache_scope=asked.cache_scope)
