"""What the two processes say to each other, and how it is framed on their socket.

A frame is a length and a JSON array of the message's name and fields: the worker runs a library
that reads files from anywhere, so nothing it sends is ever executed, as unpickling would. What is
sent for every token is a named tuple, whose fields travel without their names; all else is sent
seldom, and is an object.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Final, Literal, NamedTuple

import orjson

from server.engine.protocol import EngineError, ModelInfo, Request, Sampling, Span
from server.engine.settings import EngineSettings

FailureKind = Literal["too_long", "invalid", "grammar"]

MAX_FRAME: Final = 1 << 28
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Load:
    """To the worker, first of all: become this model."""

    path: str
    name: str
    description: str
    settings: EngineSettings
    cache: str | None = None  # the folder below which its snapshots are


@dataclass(frozen=True, slots=True)
class Generate:
    """To the worker: continue this prompt, under this number."""

    number: int
    request: Request


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the worker: end this generation, or what is left of this Embed or Rank.

    Unknown numbers are those that ended already.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Tokenize:
    """To the worker: the ids of this text, under this number."""

    number: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Locate:
    """To the worker: where the tokens of this text end, under this number."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Forget:
    """To the worker: keep nothing of this owner's requests."""

    owner: str


@dataclass(frozen=True, slots=True)
class Stop:
    """To the worker: free everything and exit."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """From the worker: ready."""

    info: ModelInfo
    slots: int
    pace: float = 0.0  # as in Embedded


@dataclass(frozen=True, slots=True)
class Refused:
    """From the worker: this model cannot be served, and why."""

    reason: str


class Token(NamedTuple):
    """One token of one generation. `text` holds its bytes as Latin-1, which JSON can carry."""

    number: int
    id: int
    text: str


class End(NamedTuple):
    """One generation ended."""

    number: int
    reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Failure(NamedTuple):
    """One generation could not be served."""

    number: int
    kind: FailureKind
    reason: str


class Step(NamedTuple):
    """From the worker, once per decode step: all that happened to all sequences."""

    tokens: tuple[Token, ...]
    ends: tuple[End, ...]
    failures: tuple[Failure, ...]
    live: int
    waiting: int
    seconds: float
    cells: int = 0
    saved_bytes: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tokenized:
    """From the worker: the answer to Tokenize."""

    number: int
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Located:
    """From the worker: the answer to Locate, in characters."""

    number: int
    ends: list[int]


@dataclass(frozen=True, slots=True)
class Embed:
    """To the worker: the vectors of these texts, or of these token ids, under this number.

    `cut` says to read no more of a text than the model can, `most` how many tokens all of them
    may have together. The requests of a `project` have its turns.
    """

    number: int
    texts: tuple[str | list[int], ...]
    cut: bool = False
    most: int | None = None
    project: str = ""


@dataclass(frozen=True, slots=True)
class Rank:
    """To the worker: how well each of these texts answers the query, under this number.

    It takes its turn as an Embed does.
    """

    number: int
    query: str
    texts: tuple[str, ...]
    project: str = ""


@dataclass(frozen=True, slots=True)
class Embedded:
    """From the worker: the vector of one text of an Embed, as base64, and its tokens.

    Of a text of a Rank it has one number, 0..1. `last` says that the whole message is answered,
    `pace` how many seconds a token takes.
    """

    number: int
    index: int
    vector: str
    tokens: int
    last: bool
    pace: float = 0.0


@dataclass(frozen=True, slots=True)
class Unread:
    """From the worker: the answer to a question whose text it cannot read, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """From the worker: nothing more comes of an Embed or a Rank that was cancelled."""

    number: int


ToWorker = Load | Generate | Cancel | Tokenize | Locate | Forget | Stop | Embed | Rank
FromWorker = Loaded | Refused | Step | Tokenized | Located | Embedded | Unread | Dropped
Message = ToWorker | FromWorker


class MalformedFrame(Exception):
    """The peer sent something that is no message."""


class Unsendable(EngineError):
    """What no message can hold: half of a surrogate pair, a number beyond 64 bits."""


def well_formed(text: str) -> str:
    """The text as Unicode: what JSON's escapes can say besides is replaced."""
    return text.encode("utf-8", "replace").decode()


def encode(message: Message) -> bytes:
    """Raises Unsendable."""
    try:
        body = orjson.dumps((type(message).__name__, message), default=_unnamed)
    except orjson.JSONEncodeError as error:
        raise Unsendable(f"This cannot be sent to the model: {error}.") from error
    return _LENGTH.pack(len(body)) + body


class FrameDecoder:
    """Bytes as they arrive to whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        self._buffer += data
        messages = []
        while self._buffer and (body := self._next_body()) is not None:
            messages.append(_decode(body))
        return messages

    def _next_body(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME:
            raise MalformedFrame(f"a frame of {length} bytes")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return body


def _unnamed(value: object) -> tuple[object, ...]:
    if isinstance(value, tuple):
        return tuple(value)
    raise TypeError(f"{type(value).__name__} is no part of a message")


def _decode(body: bytes) -> Message:
    try:
        name, fields = orjson.loads(body)
        message: Message = _READERS[name](fields)
        return message
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedFrame(repr(error)) from error


def _load(fields: dict[str, Any]) -> Load:
    settings = fields["settings"]
    shares = {"tensor_split": tuple(settings["tensor_split"])}
    return Load(**fields | {"settings": EngineSettings(**settings | shares)})


def _generate(fields: dict[str, Any]) -> Generate:
    request = fields["request"]
    bias = tuple((token, value) for token, value in request["sampling"]["logit_bias"])
    request["sampling"] = Sampling(**request["sampling"] | {"logit_bias": bias})
    return Generate(fields["number"], Request(**request))


def _tokenize(fields: dict[str, Any]) -> Tokenize:
    spans = (Span(**span | {"ids": tuple(span["ids"])}) for span in fields["spans"])
    return Tokenize(fields["number"], tuple(spans))


def _loaded(fields: dict[str, Any]) -> Loaded:
    info = fields["info"]
    model = ModelInfo(**info | {"turn_ends": tuple(info["turn_ends"])})
    return Loaded(model, fields["slots"], fields["pace"])


def _step(fields: list[Any]) -> Step:
    tokens, ends, failures, *state = fields
    return Step(
        tuple(starmap(Token, tokens)),
        tuple(starmap(End, ends)),
        tuple(starmap(Failure, failures)),
        *state,
    )


_READERS: Final[dict[str, Any]] = {
    "Load": _load,
    "Generate": _generate,
    "Cancel": lambda fields: Cancel(**fields),
    "Tokenize": _tokenize,
    "Locate": lambda fields: Locate(**fields),
    "Forget": lambda fields: Forget(**fields),
    "Stop": lambda fields: Stop(**fields),
    "Loaded": _loaded,
    "Refused": lambda fields: Refused(**fields),
    "Step": _step,
    "Tokenized": lambda fields: Tokenized(**fields),
    "Located": lambda fields: Located(**fields),
    "Embed": lambda fields: Embed(**fields | {"texts": tuple(fields["texts"])}),
    "Rank": lambda fields: Rank(**fields | {"texts": tuple(fields["texts"])}),
    "Embedded": lambda fields: Embedded(**fields),
    "Unread": lambda fields: Unread(**fields),
    "Dropped": lambda fields: Dropped(**fields),
}
