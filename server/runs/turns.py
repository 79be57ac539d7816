"""What a run needs of a model: its next turn of a conversation, as the model writes it.

Values of the conversation go in, text and calls come out. Whether tokens, a template or another
server are behind it is the model's own affair: `local` and `upstream` implement this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.chat.values import ChatMessage, ToolSpec, TurnDelta

Unit = tuple[ChatMessage, ...]


class PromptBudgetUnmet(Exception):
    """Even the instructions, the question and the newest unit are more tokens than allowed."""


class InvalidPrompt(Exception):
    """The request holds something that this model cannot take. `param` is where, as chat has it."""

    def __init__(self, problem: str, param: str = "messages") -> None:
        super().__init__(problem)
        self.param = param


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens this turn may still take. `prompt` is the run's own limit, None if it has none.

    A prompt that is `whole` is taken as it is or refused: the answer gets what it leaves.
    """

    prompt: int | None
    completion: int
    context: int
    whole: bool = False

    @property
    def reserve(self) -> int:
        """What of the context is left to the answer, however long the conversation is."""
        return min(self.completion, self.context // 4)

    @property
    def prompt_limit(self) -> int:
        """The longest prompt."""
        room = self.context - (1 if self.whole else self.reserve)
        return room if self.prompt is None else min(room, self.prompt)

    def room_after(self, prompt: int) -> int:
        """The most tokens that may follow a prompt of so many."""
        return max(1, min(self.completion, self.context - prompt))


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """What a model wrote, `token_ids` for `text`, after a prompt of so many characters."""

    fingerprint: str
    prompt_length: int
    prompt_digest: str
    text: str
    token_ids: Sequence[int]
    complete: bool  # it ended by itself, not by a limit or a cancellation


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How tokens are chosen beyond temperature and top_p. None is the model's default.

    `logit_bias` is by token id; one of `stop` ends the turn before it is said.
    """

    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: Sequence[str] = ()
    logit_bias: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A conversation whose next turn is asked for.

    `units` are kept or dropped whole, oldest first: a message, or an assistant's calls with their
    outputs. The instructions, the user's newest message and the newest unit always stay.
    """

    instructions: str | None
    units: Sequence[Unit]
    budget: Budget
    tools: Sequence[ToolSpec] = ()
    must_call: bool = False
    parallel_tool_calls: bool = True
    response_format: Mapping[str, Any] | None = None  # None is plain text
    reasoning_effort: str | None = None
    temperature: float | None = None  # None is the model's own
    top_p: float | None = None
    options: SamplingOptions = SamplingOptions()
    common_instructions: str = ""  # the part of the instructions that is not this thread's alone
    cache_scope: str = ""  # turns share what is cached of prompts only within one scope
    cache_owner: str = ""  # and what is not shared is kept for this owner's next turn
    written: Sequence[WrittenTurn] = ()  # earlier turns of the conversation


@dataclass(frozen=True, slots=True)
class ModelCall:
    """What one model call cost, and the tokens it wrote. Counts are tokens.

    `finish_reason` is stop, tool_calls, length, content_filter, cancelled, or error while it has
    none.
    """

    fingerprint: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    finish_reason: str
    token_ids: Sequence[int]
    prompt_length: int = 0  # characters; 0 if what was written cannot be given back
    prompt_digest: str = ""
    text: str = ""

    @property
    def tokens(self) -> int:
        """What a key is charged for."""
        return self.prompt_tokens + self.completion_tokens


class Turn(Protocol):
    """One turn on its way: iterate it once, to its end or to an error.

    Raises PromptBudgetUnmet, InvalidPrompt, EngineError.
    """

    def __aiter__(self) -> AsyncIterator[TurnDelta]: ...

    @property
    def call(self) -> ModelCall | None:
        """What it has cost so far; None before the model was asked."""
        ...

    def cancel(self) -> None:
        """End it soon; what is written already may still arrive. May be called twice."""
        ...


class ChatModel(Protocol):
    """A model that takes turns. Sizes in tokens; `slots` turns are taken at once."""

    @property
    def slots(self) -> int: ...

    @property
    def context(self) -> int:
        """The most tokens of a prompt and its answer together."""
        ...

    def turn(self, request: TurnRequest) -> Turn: ...

    async def count(self, text: str) -> int:
        """How many tokens a text is, or seems to be. Raises EngineError."""
        ...

    def forget(self, owner: str) -> None:
        """Keep nothing of what this owner's turns held."""
        ...
