"""What a run needs of an engine; implemented by the worker's client and by the scripted engine.

Works on token ids and bytes. Joining bytes to text is the caller's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from server.engine.sizing import Demand, Fit
from server.engine.stats import EngineStats
from server.engine.vectors import Vector

FinishReason = Literal["stop", "length", "cancelled"]


class EngineError(Exception):
    """The engine could not do what was asked."""


class EngineCrashed(EngineError):
    """The worker died while it held this request."""


class EndpointLost(EngineCrashed):
    """An endpoint failed while it answered; the text says how, for the user."""


class EngineUnavailable(EngineError):
    """The model cannot be loaded, or its worker does not come up."""


class Unreadable(EngineError):
    """Texts that are not turned into tokens, or vectors: too much, or no use; it says which."""


class InvalidRequest(EngineError):
    """A token that was asked for is not in the model's vocabulary."""


class GrammarRefused(InvalidRequest):
    """The grammar that was asked for is of no use, or not from here on."""


class PromptTooLong(EngineError):
    """The prompt alone does not fit the model's context."""


class PromptRefused(EngineError):
    """An endpoint does not take this request."""


class RateLimited(EngineError):
    """An endpoint takes no more requests for now."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the file says of the model. Sizes in bytes, `context` in tokens a sequence may have."""

    name: str
    description: str
    path: str
    size: int
    parameters: int
    context: int
    vocabulary: int
    chat_template: str | None
    bos: str
    eos: str
    turn_ends: Sequence[str]  # the tokens that end a turn, as they are spelled
    fingerprint: str  # identifies file and load parameters
    embedding: int = 0  # the length of its vectors; 0: it writes, and has none
    # Tokens by their spelling: what no text may turn into, and of these what no text ever is.
    markers: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Text to tokenize. Special tokens are recognised only where `is_template` is true.

    Where `ids` are given, they stand for the text.
    """

    text: str
    is_template: bool
    ids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    `temperature` 0 is greedy; `top_k` 0 is the whole vocabulary. `seed` makes a repetition likely,
    not certain: what else is decoded in the same step changes the rounding. Presence and frequency
    penalties are OpenAI's, `repetition_penalty` the factor of Keskar et al. 2019 (1 is none).
    `logit_bias` are pairs of a token's id and what is added to its logit.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 40
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Sequence[tuple[int, float]] = ()


TRANSIENT: Final = "~"  # what owners have whose name begins with this goes to no disk


@dataclass(frozen=True, slots=True)
class Request:
    """One model call: continue `prompt` by at most `max_tokens` tokens.

    Nothing is shared between scopes. Within one, what is kept of a prompt for later belongs to its
    owner, but for the first `shared_tokens`, which others are expected to begin with, too.
    Where there is a `grammar`, in llguidance's variant of Lark, nothing else is said than what it
    allows.
    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling
    cache_scope: str = ""
    cache_owner: str = ""
    shared_tokens: int = 0
    grammar: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one or more decode steps: their ids and the bytes they stand for."""

    ids: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a generation; nothing follows it.

    Counts are tokens; end-of-turn tokens are counted.
    """

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vector of each text, of length 1, and how many tokens the texts had."""

    vectors: list[Vector]
    tokens: int


class Generation(Protocol):
    """One running model call: iterate it to its `Finished`, or to an `EngineError`."""

    def __aiter__(self) -> AsyncIterator[Tokens | Finished]: ...

    def cancel(self) -> None:
        """End within one decode step. May be called twice.

        `Finished("cancelled", …)` still arrives.
        """
        ...


class Engine(Protocol):
    """One model. `slots` sequences decode together; more generations than that wait."""

    @property
    def slots(self) -> int: ...

    @property
    def info(self) -> ModelInfo: ...

    @property
    def stats(self) -> EngineStats: ...

    @property
    def trouble(self) -> str | None:
        """Why it cannot answer at once, although it was started; None if it can."""
        ...

    async def measure(self) -> Demand:
        """What the model would take. Raises EngineUnavailable if its file is of no use."""
        ...

    async def identify(self) -> str:
        """A digest of its files, on which its vectors depend. Raises EngineUnavailable."""
        ...

    async def start(self, fit: Fit | None = None) -> None:
        """Load the model. Raises EngineUnavailable with a sentence for the user.

        Without a `fit` it takes of the memory what it likes. After `stop` it can be started again.
        """
        ...

    async def stop(self) -> None: ...

    async def tokenize(self, spans: Sequence[Span]) -> list[int]: ...

    async def token_ends(self, text: str) -> list[int]:
        """For each token of a text, the offset in characters at which it ends.

        One that ends inside a character ends where the character does. Where a vocabulary does not
        keep text as it is (lower case, no accents), an offset is right where words end.
        """
        ...

    def generate(self, request: Request) -> Generation: ...

    def forget(self, owner: str) -> None:
        """Keep nothing of what this owner's requests held, in memory or on disk.

        What is on disk of a model that is not loaded is `CacheFolder`'s to remove.
        """
        ...

    async def embed(
        self,
        texts: Sequence[str | list[int]],
        *,
        cut: bool = False,
        most: int | None = None,
        charge: Callable[[int], None] | None = None,
        project: str = "",
    ) -> Embeddings:
        """Of a model whose `info.embedding` is not 0. Raises Unreadable, EngineError.

        With `cut`, of a text that is longer than the model reads only the beginning is read. `most`
        is how many tokens all of them may have together. Projects take turns; what is asked for
        none of them has turns of its own.
        `charge` is told of each text's tokens when it was read, whatever becomes of the others.
        """
        ...

    async def rank(self, query: str, texts: Sequence[str], *, project: str = "") -> list[float]:
        """How well each text answers the query, 0..1, as far as the model reads both.

        Of a model whose `measure()` says that it `ranks`. Raises EngineError.
        """
        ...
