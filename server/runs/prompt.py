"""A conversation to a prompt of a local model: as many of its newest units as the budget allows.

Truncation drops the oldest units, first of those before the question, then of those after it, such
as earlier tool calls; the instructions, the question and the newest unit always stay. Knows nothing
of rows.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b

from server.chat.dialects import Dialect
from server.chat.effort import effort_variables
from server.chat.telling import Telling, telling_of
from server.chat.template import ChatTemplate, TemplateError, TemplateStopped
from server.chat.values import ChatMessage, Piece, ToolSpec
from server.engine.protocol import Engine, Span
from server.engine.snapshots import common_prefix
from server.runs.remembered import Remembered
from server.runs.splice import splice
from server.runs.turns import (
    Budget,
    InvalidPrompt,
    PromptBudgetUnmet,
    TurnRequest,
    Unit,
)

# Characters that a token stands for at most, generously: what is longer than a prompt of such
# tokens need not be rendered to know that it does not fit.
LONGEST_TOKEN = 16
LANDMARK_EVERY = 8
MOST_TRIES = 5  # of half as many units each, where the template is stopped
REMEMBERED_HEADS = 64  # of instructions and tools, tokenized
REMEMBERED_COUNTS = 8192  # of units' tokens
REMEMBERED_FAILURES = 64  # at sets of functions


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text and as token ids, and the most tokens that may follow it.

    Its first `shared` tokens tell the instructions and the tools, with which others begin, too.
    `in_reasoning`: it ends inside reasoning, so that the turn begins there.
    """

    text: str
    ids: list[int]
    shared: int
    max_tokens: int
    in_reasoning: bool


class PromptBuilder:
    """Builds one model's prompts. Remembers tokens of what is in many of them."""

    def __init__(self, engine: Engine, template: ChatTemplate, dialect: Dialect) -> None:
        self._engine = engine
        self._template = template
        self._dialect = dialect
        self._telling = telling_of(template, dialect)
        self._failed: deque[bytes] = deque(maxlen=REMEMBERED_FAILURES)  # at which functions
        self._counts = Remembered(self._count, most=REMEMBERED_COUNTS, known_by=_digest)
        tokenize: Callable[[tuple[Span, ...]], Awaitable[list[int]]] = engine.tokenize
        self._heads = Remembered(tokenize, most=REMEMBERED_HEADS)

    async def build(self, request: TurnRequest) -> Prompt:
        """The prompt of a turn. Raises PromptBudgetUnmet, InvalidPrompt, EngineError.

        A form that it has no room for is not told: the answer is held to it all the same.
        """
        try:
            return await self._built(request)
        except PromptBudgetUnmet:
            if request.response_format is None:
                raise
            return await self._built(replace(request, response_format=None))

    async def _built(self, request: TurnRequest) -> Prompt:
        budget = request.budget
        kept = newest_within(request.units, budget)
        if request.units and not kept:
            raise PromptBudgetUnmet
        while True:
            kept, pieces = await self._told(kept, request)
            ids = await self._engine.tokenize(self._spliced(pieces, request))
            if len(ids) <= budget.prompt_limit:
                return Prompt(
                    "".join(piece.text for piece in pieces),
                    ids,
                    await self._shared(tuple(_head(pieces, kept, request)), ids),
                    budget.room_after(len(ids)),
                    self._dialect.opens_reasoning(pieces),
                )
            fewer = await self._shortened(kept, len(ids), budget)
            if len(fewer) == len(kept):
                raise PromptBudgetUnmet
            kept = fewer

    def _spliced(self, pieces: Sequence[Piece], request: TurnRequest) -> list[Span]:
        info = self._engine.info
        return splice(
            pieces,
            [turn for turn in request.written if turn.fingerprint == info.fingerprint],
            turn_ends=info.turn_ends,
            dialect=self._dialect,
            tools=request.tools,
            markers=info.markers,
        )

    async def _shared(self, head: tuple[Span, ...], ids: list[int]) -> int:
        """How many tokens it makes at the beginning of the prompt."""
        own = await self._heads.of(head) if head else []
        # What follows may have changed the last token, and must not decide where others begin.
        return max(0, common_prefix(own, ids) - 1)

    async def _told(
        self, units: Sequence[Unit], request: TurnRequest, tries: int = MOST_TRIES
    ) -> tuple[Sequence[Unit], Sequence[Piece]]:
        """As many of the units as the template tells before it is stopped, and the prompt of them.

        Some templates take a time that grows with the square of how many messages there are.
        """
        try:
            messages = conversation(request.instructions, units)
            return units, await self._rendered(messages, request)
        except TemplateStopped as error:
            fewer = newer_half(units)
            if len(fewer) == len(units) or tries <= 1:
                raise InvalidPrompt(str(error)) from error
        return await self._told(fewer, request, tries - 1)

    async def _rendered(
        self, messages: Sequence[ChatMessage], request: TurnRequest
    ) -> Sequence[Piece]:
        """The prompt. Functions at which the template fails are told in words, from then on."""
        in_words = replace(self._telling, tools=False)
        if self._has_failed_at(request.tools):
            return await self._rendered_by(in_words, messages, request)
        try:
            return await self._rendered_by(self._telling, messages, request)
        except InvalidPrompt:
            if request.tools and self._telling.tools:
                with suppress(InvalidPrompt):
                    pieces = await self._rendered_by(in_words, messages, request)
                    self._failed.append(_digest(repr(request.tools)))
                    return pieces
            raise

    def _has_failed_at(self, tools: Sequence[ToolSpec]) -> bool:
        return bool(tools and self._failed) and _digest(repr(tools)) in self._failed

    async def _rendered_by(
        self, telling: Telling, messages: Sequence[ChatMessage], request: TurnRequest
    ) -> Sequence[Piece]:
        template = self._template
        told, tools = telling.told(messages, request.tools, request.response_format)
        effort = effort_variables(request.reasoning_effort, template.variables, template.source)
        try:
            return await asyncio.to_thread(template.render, told, tools, extra=effort)
        except TemplateStopped:
            raise
        except TemplateError as error:
            raise InvalidPrompt(str(error)) from error

    async def _shortened(
        self, units: Sequence[Unit], tokens: int, budget: Budget
    ) -> Sequence[Unit]:
        """Fewer units: without the oldest that seem to make up what `tokens` has over the limit.

        What the template adds is taken to be the same for each unit and for the instructions, so
        the prompt may still be too long after it. Where none can be left out, all are there.
        """
        counts = [await self._counts.of(_text_of(unit)) for unit in units]
        added = max(0, tokens - sum(counts)) // (len(units) + 1)
        return shortened(units, [count + added for count in counts], tokens, budget)

    async def _count(self, text: str) -> int:
        return len(await self._engine.tokenize([Span(text, is_template=False)]))


def _digest(text: str) -> bytes:
    """What tells a text from others, since texts may be long. A lone surrogate is a character."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _head(pieces: Sequence[Piece], units: Sequence[Unit], request: TurnRequest) -> list[Span]:
    """What others' prompts begin with, too: nothing of it is this thread's alone."""
    own, common = request.instructions or "", request.common_instructions
    if own == common:
        return _before_content(pieces, units[0][0].content) if units else []
    if common.strip() and own.startswith(common):
        for place, piece in enumerate(pieces):
            if not piece.is_template and piece.text.startswith(common.strip()):
                before = [Span(p.text, p.is_template) for p in pieces[:place]]
                return [*before, Span(common.strip(), is_template=False)]
    return []


def _before_content(pieces: Sequence[Piece], content: str) -> list[Span]:
    """The pieces before the first that holds this content; none if it is not told as it is."""
    for place, piece in enumerate(pieces):
        if not piece.is_template and content.strip() and piece.text.strip() == content.strip():
            return [Span(before.text, before.is_template) for before in pieces[:place]]
    return []


def conversation(instructions: str | None, units: Sequence[Unit]) -> list[ChatMessage]:
    """The messages of a prompt, in their order."""
    system = [ChatMessage("system", instructions)] if instructions else []
    return [*system, *(message for unit in units for message in unit)]


def question_in(units: Sequence[Unit]) -> int:
    """The place of what the run answers: the user's newest message, or else the newest unit."""
    places = (place for place, unit in enumerate(units) if unit[0].role == "user")
    return max(places, default=len(units) - 1)


def shortened(
    units: Sequence[Unit], sizes: Sequence[int], tokens: int, budget: Budget
) -> Sequence[Unit]:
    """The newest units of those that make up so many tokens, cut where the cut can stay.

    A run's own limit is used up to its last token, the context's with some to spare.
    """
    spare = budget.prompt_limit // 4 if budget.prompt is None else 0
    return _without(units, sizes, tokens - budget.prompt_limit, spare)


def newer_half(units: Sequence[Unit]) -> Sequence[Unit]:
    """Half of several units at most, if so many can go, cut where the cut can stay."""
    left = len(units) // 2
    return _without(units, [1] * len(units), len(units) - left, left // 4)


def _without(
    units: Sequence[Unit], sizes: Sequence[int], excess: int, spare: int
) -> Sequence[Unit]:
    """The units without the oldest that make up `excess`, and up to a landmark within `spare`.

    The question is left; what follows it, but for the newest, goes when all before it has gone.
    """
    after = question_in(units) + 1
    earlier = _cut(units[:after], sizes[:after], excess, spare)
    excess -= sum(sizes[: after - len(earlier)])
    if excess <= 0:
        return [*earlier, *units[after:]]
    return [*earlier, *_cut(units[after:], sizes[after:], excess, spare)]


def _cut(units: Sequence[Unit], sizes: Sequence[int], excess: int, spare: int) -> Sequence[Unit]:
    kept = without_oldest(units, sizes, excess)
    return from_landmark(kept, sizes[len(units) - len(kept) :], spare)


def without_oldest(units: Sequence[Unit], counts: Sequence[int], excess: int) -> Sequence[Unit]:
    """The units without the oldest that make up `excess`; the newest is always left."""
    for position, count in enumerate(counts[:-1]):
        excess -= count
        if excess <= 0:
            return units[position + 1 :]
    return units[-1:]


def from_landmark(units: Sequence[Unit], sizes: Sequence[int], spare: int) -> Sequence[Unit]:
    """The units from the first landmark on, if that costs at most `spare` more tokens.

    What is kept of a prompt is of use only if the next one begins alike. A conversation that is cut
    at any unit begins with another one at each turn; which units are landmarks does not change.
    """
    for position, size in enumerate(sizes[:-1]):
        if _is_landmark(units[position]):
            return units[position:]
        spare -= size
        if spare < 0:
            break
    return units


def _is_landmark(unit: Unit) -> bool:
    """One in eight, by what they say (content-defined chunking: Muthitacharoen et al. 2001)."""
    return zlib.crc32(_text_of(unit).encode("utf-8", "surrogatepass")) % LANDMARK_EVERY == 0


def _text_of(unit: Unit) -> str:
    """All that is said in it."""
    return "\n".join(message.content for message in unit)


def newest_within(units: Sequence[Unit], budget: Budget) -> Sequence[Unit]:
    """The newest units that the prompt may hold beside the question, as far as characters tell.

    None if even the question and the newest unit are too many.
    """
    if not units:
        return units
    question, newest = question_in(units), len(units) - 1
    left = budget.prompt_limit * LONGEST_TOKEN
    left -= sum(_characters(units[place]) for place in {question, newest})
    if left < 0:
        return []
    for place in range(newest - 1, -1, -1):
        left -= _characters(units[place]) if place != question else 0
        if left < 0:
            rest = units[place + 1 :]
            return rest if place < question else [units[question], *rest]
    return units


def _characters(unit: Unit) -> int:
    return sum(len(message.content) for message in unit)
