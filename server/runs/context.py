"""Rows to a prompt: which turns of the conversation the model sees, within the token budget.

The conversation is a list of units that are kept or dropped whole: a message, or an assistant's
calls with their outputs. Truncation drops the oldest units; the instructions and the newest unit
always stay.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.chat.values import ChatMessage, ToolCall, ToolSpec
from server.db.database import Database, Tx
from server.db.stores import Record
from server.engine.protocol import Span
from server.runs.models import Model

Unit = tuple[ChatMessage, ...]

# Characters that a token stands for at most, generously: what is longer than a prompt of such
# tokens need not be rendered to know that it does not fit.
LONGEST_TOKEN = 16


class PromptBudgetUnmet(Exception):
    """Even the instructions and the newest turn alone are more tokens than allowed."""


class CompletionBudgetSpent(Exception):
    """The run's earlier turns wrote as many tokens as it may write."""


class InvalidPrompt(Exception):
    """The conversation holds something that this model cannot take."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as token ids, the most tokens that may follow it, and whether it opens reasoning."""

    ids: list[int]
    max_tokens: int
    in_reasoning: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens this turn may still take. `prompt` is the run's own limit, None if it has none."""

    prompt: int | None
    completion: int
    context: int

    @property
    def prompt_limit(self) -> int:
        """The longest prompt; at least a token of the context is left for the answer."""
        room = self.context - min(self.completion, self.context // 4)
        return room if self.prompt is None else min(room, self.prompt)


class ContextBuilder:
    """Builds prompts. Keeps the token counts of texts that it has seen, newest used last."""

    def __init__(self, db: Database, *, completion_cap: int, remembered: int = 8192) -> None:
        self._db = db
        self._completion_cap = completion_cap
        self._remembered = remembered
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def build(self, run: Record, model: Model) -> Prompt:
        """The prompt for the run's next turn.

        Raises PromptBudgetUnmet, CompletionBudgetSpent, InvalidPrompt, TemplateError, EngineError.
        """
        budget, units = await self._db.read(lambda tx: self._load(tx, run, model))
        if budget.completion <= 0:
            raise CompletionBudgetSpent
        system = _system(run.instructions)
        tools = tool_specs(run.tools, run.tool_choice)
        kept = newest_within(units, budget.prompt_limit * LONGEST_TOKEN)
        if units and not kept:
            raise PromptBudgetUnmet
        while True:
            messages = [*system, *(message for unit in kept for message in unit)]
            pieces = await asyncio.to_thread(model.template.render, messages, tools)
            ids = await model.engine.tokenize([Span(p.text, p.is_template) for p in pieces])
            if len(ids) <= budget.prompt_limit:
                room = budget.context - len(ids)
                in_reasoning = model.dialect.opens_reasoning(pieces)
                return Prompt(ids, max(1, min(budget.completion, room)), in_reasoning)
            if len(kept) <= 1:
                raise PromptBudgetUnmet
            kept = await self._shortened(kept, len(ids), budget.prompt_limit, model)

    def _load(self, tx: Tx, run: Record, model: Model) -> tuple[Budget, list[Unit]]:
        context = model.engine.info.context
        spent = tx.turns.spent_by_run(run.id)
        own = run.max_completion_tokens
        completion = self._completion_cap if own is None else own - spent.completion
        prompt = run.max_prompt_tokens and max(0, run.max_prompt_tokens - spent.prompt)
        budget = Budget(prompt, completion, context)
        return budget, conversation_units(tx, run, model.id, limit=context)

    async def _shortened(
        self, units: list[Unit], tokens: int, limit: int, model: Model
    ) -> list[Unit]:
        """Fewer units: without the oldest that seem to make up what `tokens` has over `limit`.

        What the template adds is taken to be the same for each unit and for the instructions, so
        the prompt may still be too long after it. The newest unit is always left.
        """
        counts = [await self._count(unit, model) for unit in units]
        added = max(0, tokens - sum(counts)) // (len(units) + 1)
        for position, count in enumerate(counts[:-1]):
            tokens -= count + added
            if tokens <= limit:
                return units[position + 1 :]
        return units[-1:]

    async def _count(self, unit: Unit, model: Model) -> int:
        text = "\n".join(message.content for message in unit)
        key = (model.engine.info.fingerprint, text)
        if key not in self._counts:
            self._counts[key] = len(await model.engine.tokenize([Span(text, is_template=False)]))
            if len(self._counts) > self._remembered:
                self._counts.popitem(last=False)
        self._counts.move_to_end(key)
        return self._counts[key]


def newest_within(units: list[Unit], characters: int) -> list[Unit]:
    """The newest units with so many characters in all."""
    left = characters
    for position in range(len(units) - 1, -1, -1):
        left -= _characters(units[position])
        if left < 0:
            return units[position + 1 :]
    return units


def _characters(unit: Unit) -> int:
    return sum(len(message.content) for message in unit)


def conversation_units(tx: Tx, run: Record, model_id: str, *, limit: int) -> list[Unit]:
    """The thread as the run sees it, oldest first. At most `limit` messages can fit a context."""
    strategy = run.truncation_strategy
    if strategy["type"] == "last_messages":
        limit = min(limit, strategy["last_messages"])
    messages = tx.messages.spoken(run.thread_id, run.id, limit)
    first = messages[0].seq if messages else 0
    steps = tx.steps.answered_calls(run.thread_id, first)
    return _merged(messages, steps, model_id)


def _merged(messages: Sequence[Record], steps: Sequence[Record], model_id: str) -> list[Unit]:
    """Messages and answered calls as they came; text and calls of one turn are one unit."""
    places = [((m.seq, 0, 0), m) for m in messages]
    places += [((s.after_message, 1, s.seq), s) for s in steps]
    units: list[Unit] = []
    before: Record | None = None
    for _, row in sorted(places, key=lambda place: place[0]):
        if hasattr(row, "step_details"):
            said = units.pop()[0] if _same_turn(before, row) else None
            units.append(_call_unit(row, said.content if said else ""))
        else:
            units.append((ChatMessage(row.role, message_text(row, model_id)),))
        before = row
    return units


def _same_turn(before: Record | None, step: Record) -> bool:
    """The model's words just before its calls: an assistant's message of the same run."""
    return (
        before is not None and not hasattr(before, "step_details") and before.run_id == step.run_id
    )


def _call_unit(step: Record, said: str) -> Unit:
    calls = step.step_details["tool_calls"]
    asked = tuple(
        ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls
    )
    answers = (
        ChatMessage(
            "tool",
            c["function"]["output"] or "",
            tool_call_id=c["id"],
            name=c["function"]["name"],
        )
        for c in calls
    )
    return (ChatMessage("assistant", said, tool_calls=asked), *answers)


def message_text(message: Record, model_id: str) -> str:
    """The text parts of a message. Raises InvalidPrompt for a part that the model cannot see."""
    texts = []
    for part in message.content:
        if part["type"] != "text":
            raise InvalidPrompt(
                f"The model '{model_id}' cannot see images: message {message.id} "
                f"has a part of type '{part['type']}'."
            )
        texts.append(part["text"]["value"])
    return "\n".join(texts)


def tool_specs(tools: Sequence[dict[str, Any]], choice: Any) -> list[ToolSpec]:
    """The functions that the model is told of: all, none, or the one that was chosen by name."""
    functions = [tool["function"] for tool in tools if tool["type"] == "function"]
    if choice == "none":
        return []
    if isinstance(choice, dict) and choice["type"] == "function":
        functions = [f for f in functions if f["name"] == choice["function"]["name"]]
    return [
        ToolSpec(f["name"], f.get("description"), f.get("parameters"), bool(f.get("strict")))
        for f in functions
    ]


def _system(instructions: str | None) -> list[ChatMessage]:
    return [ChatMessage("system", instructions)] if instructions else []
