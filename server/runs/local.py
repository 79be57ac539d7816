"""A model on this machine: its template and dialect around an engine that knows only tokens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final

from server.chat.answers import answer_form, callable_beside
from server.chat.choice import dialect_for
from server.chat.dialects import Dialect
from server.chat.grammar import turn_grammar, words_grammar
from server.chat.stops import StopStrings
from server.chat.template import ChatTemplate, TemplateError
from server.chat.turn import TurnParser
from server.chat.utf8 import Utf8Joiner
from server.chat.values import ToolSpec, TurnDelta
from server.engine.protocol import (
    Embeddings,
    Engine,
    EngineUnavailable,
    Finished,
    Generation,
    GrammarRefused,
    InvalidRequest,
    ModelInfo,
    PromptTooLong,
    Request,
    Sampling,
    Span,
    Tokens,
)
from server.engine.sizing import Demand, Fit
from server.runs.prompt import Prompt, PromptBuilder
from server.runs.splice import digest_of
from server.runs.turns import InvalidPrompt, ModelCall, PromptBudgetUnmet, TurnRequest, Unit

log = logging.getLogger(__name__)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

OPTIONAL = (
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


UNENFORCEABLE: Final = (
    "The output cannot be held to the schemas that were given: they leave no value, or are too "
    "much together."
)


class LocalModel:
    """Takes turns, or makes vectors, while it is loaded. How it is talked to is known only then."""

    def __init__(
        self, engine: Engine, defaults: Sampling | None = None, dialect: Dialect | None = None
    ) -> None:
        self.is_known = False  # whether its file could be looked at: what follows
        self.embeds = False  # whether it makes vectors
        self.ranks = False  # or only tells how well texts answer a query
        self._engine = engine
        self._defaults = defaults or Sampling()
        self._chosen = dialect  # None is what its template shows
        self._dialect: Dialect | None = None
        self._prompts: PromptBuilder | None = None

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def context(self) -> int:
        return self._engine.info.context

    @property
    def trouble(self) -> str | None:
        return self._engine.trouble

    async def measure(self) -> Demand:
        demand = await self._engine.measure()
        self.is_known = True
        self.embeds, self.ranks = demand.embeds and not demand.ranks, demand.ranks
        return demand

    async def load(self, fit: Fit | None) -> None:
        """Raises EngineUnavailable, also for a chat template that is broken."""
        await self._engine.start(fit)
        if self._engine.info.embedding:
            return
        try:
            await asyncio.to_thread(self._learn_to_talk, self._engine.info)
        except TemplateError as error:
            await self._engine.stop()
            path = self._engine.info.path
            reason = f"the chat template of {path} cannot be used: {error}"
            raise EngineUnavailable(reason) from error
        except BaseException:  # nobody would know of its worker
            await self._engine.stop()
            raise

    async def unload(self) -> None:
        await self._engine.stop()
        self._dialect = self._prompts = None

    def turn(self, request: TurnRequest) -> LocalTurn:
        if self._dialect is None or self._prompts is None:
            raise EngineUnavailable("The model is not loaded, or it writes no text.")
        return LocalTurn(self._engine, self._dialect, self._prompts, self._defaults, request)

    async def embed(
        self,
        texts: Sequence[str | list[int]],
        project: str,
        most: int,
        charge: Callable[[int], None],
    ) -> Embeddings:
        """Only if it `embeds`. Raises Unreadable, EngineError."""
        return await self._engine.embed(texts, most=most, charge=charge, project=project)

    async def count(self, text: str) -> int:
        return len(await self._engine.tokenize([Span(text, is_template=False)]))

    def forget(self, owner: str) -> None:
        self._engine.forget(owner)

    def _learn_to_talk(self, info: ModelInfo) -> None:
        source = info.chat_template or CHATML
        template = ChatTemplate(source, bos=info.bos, eos=info.eos, control=info.markers)
        if not template.supports_words:
            raise TemplateError("It tells nothing of what the user says.")
        self._dialect = dialect_for(template, self._chosen)
        self._prompts = PromptBuilder(self._engine, template, self._dialect)


def sampling_of(request: TurnRequest, defaults: Sampling) -> Sampling:
    """How a turn's tokens are chosen: as it was asked, else as the model usually does."""
    options = request.options
    given = {name: getattr(options, name) for name in OPTIONAL}
    given |= {"temperature": request.temperature, "top_p": request.top_p}
    return replace(
        defaults,
        logit_bias=tuple((int(token), bias) for token, bias in options.logit_bias.items()),
        **{name: value for name, value in given.items() if value is not None},
    )


def _called(units: Sequence[Unit]) -> list[ToolSpec]:
    """The functions that a conversation has calls of."""
    calls = (call for unit in units for message in unit for call in message.tool_calls)
    return [ToolSpec(name) for name in dict.fromkeys(call.name for call in calls)]


class LocalTurn:
    """Builds the prompt and has it continued when it is iterated."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        prompts: PromptBuilder,
        defaults: Sampling,
        request: TurnRequest,
    ) -> None:
        self._engine = engine
        self._dialect = dialect
        self._prompts = prompts
        self._defaults = defaults
        self._request = request
        self._form = answer_form(request.response_format)
        self._tools = request.tools  # that can be called beside the form
        self._cancelled = False
        self._prompt: Prompt | None = None
        self._generation: Generation | None = None
        self._parser: TurnParser  # once it is known where the turn begins
        self._stops = StopStrings(request.options.stop)
        self._joiner = Utf8Joiner()
        self._loose = False  # whether the engine refused a grammar of all schemas
        self._tokens: list[int] = []
        self._text: list[str] = []
        self._reasoning_tokens = 0
        self._finished: Finished | None = None

    @property
    def call(self) -> ModelCall | None:
        if self._prompt is None or self._generation is None:
            return None
        done, stopped = self._finished, self._stops.found
        # The tokens of a string that ended the turn were written, but are no part of it.
        prompt = "" if stopped else self._prompt.text
        return ModelCall(
            fingerprint=self._engine.info.fingerprint,
            prompt_tokens=done.prompt_tokens if done else len(self._prompt.ids),
            completion_tokens=done.completion_tokens if done and not stopped else len(self._tokens),
            cached_tokens=done.cached_tokens if done else 0,
            reasoning_tokens=self._reasoning_tokens,
            finish_reason=self._finish_reason,
            token_ids=self._tokens,
            prompt_length=len(prompt),
            prompt_digest=digest_of(prompt),
            text="".join(self._text),
        )

    @property
    def _finish_reason(self) -> str:
        if self._stops.found:
            return "stop"
        if self._finished is None:
            return "error"
        # A model may end its turn in the middle of a call, which is of no use then.
        cut_off = self._finished.reason == "stop" and self._parser.unfinished_call
        return "length" if cut_off else self._finished.reason

    def cancel(self) -> None:
        self._cancelled = True
        if self._generation is not None:
            self._generation.cancel()

    async def __aiter__(self) -> AsyncIterator[TurnDelta]:
        prompt = self._prompt = await self._prompts.build(self._request)
        if self._form is not None and not self._request.must_call:
            self._tools = await asyncio.to_thread(
                callable_beside, self._form, self._dialect, self._tools
            )
        self._parser = TurnParser(
            self._dialect,
            self._tools,
            in_reasoning=prompt.in_reasoning,
            has_form=self._form is not None,
        )
        generation = await self._begun(prompt)
        while generation is not None:
            try:
                async for item in generation:
                    for delta in self._heard(item):
                        yield delta
                generation = None
            except PromptTooLong as error:
                raise PromptBudgetUnmet from error
            except GrammarRefused as error:
                log.warning("grammar_refused")  # what it says quotes the schema
                if self._loose or self._tokens:
                    raise InvalidPrompt(UNENFORCEABLE, self._held_to) from error
                self._loose = True
                generation = await self._begun(prompt)
            except InvalidRequest as error:
                param = "logit_bias" if self._request.options.logit_bias else "messages"
                raise InvalidPrompt(str(error), param) from error
        rest = self._parser.feed(self._read(self._joiner.finish()))
        rest += self._parser.finish()
        for delta in (*self._stops.before(rest), *self._stops.finish()):
            yield delta

    async def _begun(self, prompt: Prompt) -> Generation | None:
        """Held to its schemas or, where the engine cannot, only to those that are strict."""
        grammar = await self._grammar(prompt)
        if self._cancelled:
            return None
        self._generation = self._engine.generate(self._engine_request(prompt, grammar))
        return self._generation

    async def _grammar(self, prompt: Prompt) -> str:
        asked, tags = self._request, self._engine.info.tags
        if not self._tools and self._form is None:
            called = _called(asked.units)
            if not called or self._loose:
                return ""
            return await asyncio.to_thread(
                words_grammar, self._dialect, called, in_reasoning=prompt.in_reasoning, tags=tags
            )
        return await asyncio.to_thread(
            turn_grammar,
            self._dialect,
            self._tools,
            must_call=asked.must_call,
            parallel=asked.parallel_tool_calls,
            form=self._form,
            in_reasoning=prompt.in_reasoning,
            tags=tags,
            loose=self._loose,
        )

    @property
    def _held_to(self) -> str:
        """The parameter with the schemas that also a loose grammar holds to."""
        asked = self._request
        strict = any(tool.strict for tool in asked.tools)
        return "response_format" if asked.response_format and not strict else "tools"

    def _heard(self, item: Tokens | Finished) -> Sequence[TurnDelta]:
        if isinstance(item, Finished):
            self._finished = item
            return ()
        if self._stops.found:  # what it wrote before it heard of it
            return ()
        self._tokens.extend(item.ids)
        reasoned = self._parser.in_reasoning
        deltas = self._parser.feed(self._read(self._joiner.feed(item.data)))
        if reasoned or self._parser.in_reasoning:
            self._reasoning_tokens += len(item.ids)
        return self._up_to_stop(deltas)

    def _up_to_stop(self, deltas: Sequence[TurnDelta]) -> Sequence[TurnDelta]:
        """The deltas before a string that ends the turn; more than these need not be written."""
        told = list(self._stops.before(deltas))
        if self._stops.found and self._generation is not None:
            self._generation.cancel()
        return told

    def _read(self, text: str) -> str:
        self._text.append(text)
        return text

    def _engine_request(self, prompt: Prompt, grammar: str) -> Request:
        asked = self._request
        sampling = sampling_of(asked, self._defaults)
        return Request(
            prompt.ids,
            prompt.max_tokens,
            sampling,
            cache_scope=asked.cache_scope,
            cache_owner=asked.cache_owner,
            shared_tokens=prompt.shared,
            grammar=grammar,
        )
