"""An engine that says what it is told to, for tests and for benchmarks of all but the model.

Its vocabulary is one token a byte and a few special tokens, so token counts are plain to see. Owned
by the loop it is used on.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from server.engine.protocol import (
    Embeddings,
    EngineCrashed,
    EngineError,
    EngineUnavailable,
    Finished,
    FinishReason,
    GrammarRefused,
    ModelInfo,
    PromptTooLong,
    Request,
    Span,
    Tokens,
    Unreadable,
)
from server.engine.sizing import Demand, Fit, Footprint
from server.engine.stats import EngineStats
from server.engine.vectors import normalised

CHAT_TEMPLATE: Final = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
{{- 'You may call these functions:\\n<tools>\\n' }}
{%- for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}
{{- '</tools>\\nTo call one, write:\\n' }}
{{- '<tool_call>\\n{"name": <name>, "arguments": <arguments>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
{{- '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.role != 'system' or not loop.first %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": ' + call.function.name | tojson + ', "arguments": ' }}
{%- if call.function.arguments is string %}{{ call.function.arguments }}
{%- else %}{{ call.function.arguments | tojson }}{% endif %}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

SPECIALS: Final = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)
END_OF_TURN: Final = 256 + SPECIALS.index("<|im_end|>")
_MARKERS: Final = {text: 256 + number for number, text in enumerate(SPECIALS)}
DEFAULT_ANSWER: Final = "Hello! How can I help you today?"

SCRIPTED_MODEL: Final = ModelInfo(
    name="scripted",
    description="Says what it is told to.",
    path="scripted.gguf",
    size=0,
    parameters=0,
    context=8192,
    vocabulary=256 + len(SPECIALS),
    chat_template=CHAT_TEMPLATE,
    bos="",
    eos="<|im_end|>",
    turn_ends=("<|im_end|>",),
    fingerprint="scripted",
    markers=_MARKERS,
    tags=_MARKERS,
)

_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")
_WORDS = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class _Answer:
    pieces: tuple[Tokens, ...]
    finish: FinishReason = "stop"
    pause_after: int | None = None
    error: EngineError | None = None
    error_after: int = 0


class ScriptedEngine:
    """Answers from a queue, one queued answer a generation; a fixed greeting when it is empty."""

    def __init__(
        self,
        *,
        slots: int = 16,
        info: ModelInfo = SCRIPTED_MODEL,
        takes: int = 0,
        ranks: bool = False,
    ) -> None:
        self.requests: list[Request] = []
        self.prompts: list[str] = []  # the same, as text
        self.paused = asyncio.Event()  # a generation waits for resume()
        self.read_for: list[str] = []  # projects, whenever one has texts read
        self.forgotten: list[str] = []
        self.started = False
        self.loads = 0  # how often it was started
        self.loading = asyncio.Event()  # it is being started, and waits for resume()
        self.unusable: str | None = None  # why it cannot be loaded, if it cannot
        self.slow_to_load = False
        self.trouble: str | None = None  # why its worker is being replaced, if it is
        self._slots = slots
        self._free = asyncio.Semaphore(slots)
        self._info = info
        self._takes = takes  # bytes, when it is loaded
        self._ranks = ranks
        self._answers: deque[_Answer] = deque()
        self._held: list[asyncio.Event] = []
        self._answering = asyncio.Event()
        self._answering.set()
        self._stats = EngineStats()

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def stats(self) -> EngineStats:
        return self._stats

    async def measure(self) -> Demand:
        takes = Footprint(weights=self._takes, cell=0, slot=0, fixed=0)
        context, size = self._info.context, self._info.embedding
        path = Path(self._info.path)
        return Demand(
            path,
            takes,
            self._slots,
            context,
            context,
            snapshots=0,
            dimensions=size,
            ranks=self._ranks,
        )

    async def identify(self) -> str:
        return self._info.fingerprint

    async def start(self, fit: Fit | None = None) -> None:
        self.loads += 1
        if self.slow_to_load:
            self.loading.set()
            await self._resumed()
            self.loading.clear()
        if self.unusable is not None:
            raise EngineUnavailable(self.unusable)
        self.started = True

    async def stop(self) -> None:
        self.started = False
        self.resume()

    async def tokenize(self, spans: Sequence[Span]) -> list[int]:
        await self.answering()
        return [
            token
            for span in spans
            for token in span.ids or encode(span.text, special=span.is_template)
        ]

    async def token_ends(self, text: str) -> list[int]:
        await self.answering()
        sizes = (len(character.encode("utf-8", "replace")) for character in text)
        return [end for end, size in enumerate(sizes, 1) for _ in range(size)]

    def generate(self, request: Request) -> ScriptedGeneration:
        self.requests.append(request)
        self.prompts.append(decode(request.prompt).decode("utf-8", "replace"))
        answer = self._answers.popleft() if self._answers else _Answer(_pieces(DEFAULT_ANSWER))
        return ScriptedGeneration(self, request, answer)

    async def embed(
        self,
        texts: Sequence[str | list[int]],
        *,
        cut: bool = False,
        most: int | None = None,
        charge: Callable[[int], None] | None = None,
        project: str = "",
    ) -> Embeddings:
        """Vectors that tell how often each letter is in a text."""
        self.read_for.append(project)
        await self.answering()
        rows = [list(text.encode()) if isinstance(text, str) else text for text in texts]
        for index, row in enumerate(rows):
            if not all(0 <= token < self._info.vocabulary for token in row):
                raise Unreadable(f"Text {index} has a token that the model does not know.")
        if most is not None and sum(map(len, rows)) > most:
            raise Unreadable(f"The texts have more than {most} tokens together.")
        if cut:
            rows = [row[: self._info.context] for row in rows]
        counts = [np.bincount(row, minlength=self._info.vocabulary) for row in rows]
        if charge is not None:
            for row in rows:
                charge(len(row))
        vectors = [normalised(count.astype(np.float32)) for count in counts]
        return Embeddings(vectors, sum(map(len, rows)))

    async def rank(self, query: str, texts: Sequence[str], *, project: str = "") -> list[float]:
        """The share of the query's words that stand in a text."""
        self.read_for.append(project)
        await self.answering()
        asked = {*query.lower().split()}
        return [len(asked & {*text.lower().split()}) / max(1, len(asked)) for text in texts]

    def forget(self, owner: str) -> None:
        self.forgotten.append(owner)

    def says(
        self,
        text: str = "",
        *,
        pause_after: int | None = None,
        pieces: Sequence[str | bytes] | None = None,
        finish: FinishReason = "stop",
    ) -> None:
        """Queue an answer: `text` word by word, or exactly these `pieces`, one `Tokens` each.

        With `pause_after=n` it sets `paused` after n pieces and waits for `resume()`.
        """
        cut = _pieces(text) if pieces is None else tuple(map(_piece, pieces))
        self._answers.append(_Answer(cut, finish, pause_after))

    def calls(self, name: str, arguments: Mapping[str, object] | str) -> None:
        """Queue an answer that is one function call, written as the template's models write it."""
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        call = f'{{"name": {json.dumps(name)}, "arguments": {written}}}'
        self.says(f"<tool_call>\n{call}\n</tool_call>")

    def crashes(self, after: int = 0, *, text: str = DEFAULT_ANSWER) -> None:
        """Queue a death of the worker, after so many pieces of `text`."""
        self.fails(EngineCrashed("The model's worker died."), after=after, text=text)

    def fails(self, error: EngineError, after: int = 0, *, text: str = DEFAULT_ANSWER) -> None:
        """Queue any failure, after so many pieces of `text`."""
        self._answers.append(_Answer(_pieces(text), error=error, error_after=after))

    def freeze(self) -> None:
        """Answer nothing from now on, not even a cancel, until `resume()`."""
        self._answering.clear()

    async def answering(self) -> None:
        """Return when the engine is not frozen."""
        await self._answering.wait()

    def resume(self) -> None:
        """Let everything that is paused or frozen go on."""
        self._answering.set()
        self.paused.clear()
        held, self._held = self._held, []
        for release in held:
            release.set()

    async def _resumed(self) -> None:
        release = asyncio.Event()
        self._held.append(release)
        await release.wait()

    async def hold(self, release: asyncio.Event) -> None:
        self._held.append(release)
        self.paused.set()
        await release.wait()

    def count(self, **more: int) -> None:
        changes = {name: getattr(self._stats, name) + extra for name, extra in more.items()}
        self._stats = replace(self._stats, **changes)

    @property
    def free(self) -> asyncio.Semaphore:
        return self._free


class ScriptedGeneration:
    """One answer on its way."""

    def __init__(self, engine: ScriptedEngine, request: Request, answer: _Answer) -> None:
        self._engine = engine
        self._request = request
        self._answer = answer
        self._cancelled = False
        self._release = asyncio.Event()

    def cancel(self) -> None:
        self._cancelled = True
        self._release.set()

    async def __aiter__(self) -> AsyncIterator[Tokens | Finished]:
        if not self._engine.started:
            raise EngineUnavailable("The engine is not running.")
        if len(self._request.prompt) >= self._engine.info.context:
            raise PromptTooLong(_too_long(len(self._request.prompt), self._engine.info.context))
        async with self._engine.free:
            self._engine.count(live=1, prompt_tokens=len(self._request.prompt))
            try:
                async for event in self._speak():
                    yield event
            finally:
                self._engine.count(live=-1)

    async def _speak(self) -> AsyncIterator[Tokens | Finished]:
        written = 0
        for number, piece in enumerate(self._answer.pieces):
            await self._arrive(number)
            if self._cancelled:
                break
            ids = piece.ids[: self._room(written)]
            written += len(ids)
            if ids:
                self._engine.count(steps=1, generated_tokens=len(ids))
                yield Tokens(ids, decode(ids))
            if self._room(written) == 0:
                yield self._finished("length", written)
                return
        else:
            await self._arrive(len(self._answer.pieces))
        reason = "cancelled" if self._cancelled else self._answer.finish
        yield self._finished(reason, written + (reason == "stop"))

    async def _arrive(self, number: int) -> None:
        """Just before piece `number`: where a script pauses, dies, or lets others run."""
        await asyncio.sleep(0)
        if self._answer.pause_after == number and not self._cancelled:
            await self._engine.hold(self._release)
        await self._engine.answering()
        if self._answer.error is not None and number >= self._answer.error_after:
            self._engine.count(refused_grammars=isinstance(self._answer.error, GrammarRefused))
            raise self._answer.error

    def _room(self, written: int) -> int:
        spare = self._engine.info.context - len(self._request.prompt)
        return max(0, min(self._request.max_tokens, spare) - written)

    def _finished(self, reason: FinishReason, written: int) -> Finished:
        return Finished(reason, len(self._request.prompt), written, cached_tokens=0)


def encode(text: str, *, special: bool) -> list[int]:
    """A byte is its own token; special tokens are recognised only when asked for."""
    if not special:
        return list(text.encode("utf-8", "replace"))
    ids: list[int] = []
    for part in _SPECIAL.split(text):
        ids += [256 + SPECIALS.index(part)] if part in SPECIALS else part.encode("utf-8", "replace")
    return ids


def decode(ids: Sequence[int]) -> bytes:
    return b"".join(
        bytes((token,)) if token < 256 else SPECIALS[token - 256].encode() for token in ids
    )


def _pieces(text: str) -> tuple[Tokens, ...]:
    return tuple(map(_piece, _WORDS.findall(text)))


def _piece(written: str | bytes) -> Tokens:
    if isinstance(written, bytes):
        return Tokens(tuple(written), written)
    return Tokens(tuple(encode(written, special=True)), written.encode())


def _too_long(tokens: int, context: int) -> str:
    return f"The prompt has {tokens} tokens; the model's context holds {context}."
