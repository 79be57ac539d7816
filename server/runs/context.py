"""Rows to what a model is asked: the conversation as its run sees it, and what it may take."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from server.chat.citations import Source, as_written
from server.chat.values import ChatMessage, ToolCall, ToolSpec
from server.db.database import Database, Tx
from server.db.stores import Record
from server.runs.models import Model
from server.runs.prompt import newest_within
from server.runs.turns import Budget, InvalidPrompt, SamplingOptions, TurnRequest, Unit, WrittenTurn
from server.schemas import JsonObject
from server.tools.tool import Offer, Recalled
from server.tools.toolbox import KINDS, name_of, own_tools

MOST_LINKED = 2000  # files, those that were there before first and then the newest
NO_TOOLS: Final[Mapping[str, ToolSpec]] = {}
NO_NOTES: Final[Mapping[str, str]] = {}

Recollection = Mapping[str, Recalled]  # stored calls of the server's own tools, by their ids
Placed = tuple[int, Unit]  # with the `seq` of the message that it is, or came after


class CompletionBudgetSpent(Exception):
    """The run's earlier turns wrote as many tokens as it may write."""


class TooManyRounds(Exception):
    """The run calls tools again and again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run's next turn is asked with.

    `sources` are the passages that may be cited: the run's own, or if it has not searched yet,
    those that its conversation shows; None where nothing was or can be searched. `files` are the
    names of those that may be linked to; `figures`, ids of files, come before the next words.
    `failures` counts the run's answered steps that failed.
    """

    request: TurnRequest
    sources: Sequence[Source] | None
    files: Sequence[str]
    figures: Sequence[str]
    failures: int


class ContextBuilder:
    """Loads what a run's next turn is asked with."""

    def __init__(self, db: Database, *, completion_cap: int, tool_rounds: int) -> None:
        self._db = db
        self._completion_cap = completion_cap
        self._tool_rounds = tool_rounds

    async def build(self, run: Record, model: Model) -> Asked:
        """The run's next turn. Raises CompletionBudgetSpent, TooManyRounds, InvalidPrompt."""
        return await self._db.read(lambda tx: self._asked(tx, run, model))

    def _asked(self, tx: Tx, run: Record, model: Model) -> Asked:
        budget = self._budget(tx, run, model)
        choice = self._choice(tx, run)
        messages, steps = _spoken(tx, run, limit=budget.context)
        offers = {
            tool["type"]: KINDS[tool["type"]].offer(tx, run, name, messages)
            for name, tool in own_tools(run.tools).items()
        }
        recalled = _recalled(steps)
        placed = _merged(messages, steps, run, model.id, recalled, _notes(offers.values()))
        # What an endpoint is sent is text.
        written = [] if model.local is None else written_turns(tx, run.thread_id, placed, budget)
        assistant = tx.assistants.by_id(run.assistant_id)
        common = assistant.instructions if assistant is not None else None
        request = TurnRequest(
            run.instructions,
            [unit for _, unit in placed],
            budget,
            tools=tool_specs(run.tools, choice, {kind: o.spec for kind, o in offers.items()}),
            must_call=choice not in (None, "auto", "none"),
            parallel_tool_calls=run.parallel_tool_calls,
            response_format=asked_format(run.response_format),
            reasoning_effort=run.reasoning_effort,
            temperature=run.temperature,
            top_p=run.top_p,
            options=SamplingOptions(**(run.x_sampling or {})),
            common_instructions=common or "",
            cache_scope=run.project_id,
            cache_owner=run.thread_id,
            written=written,
        )
        own = [step for step in steps if step.run_id == run.id]
        offered = [name for offer in offers.values() for name in offer.files]
        left = (name for call in reversed([*recalled.values()]) for name in call.files)
        return Asked(
            request,
            _citable(tx, run, own, steps, recalled, offers.values()),
            [*islice(dict.fromkeys(chain(offered, left)), MOST_LINKED)],
            _not_shown(tx, run, messages, own, recalled),
            sum(step.status == "failed" for step in own),
        )

    def _budget(self, tx: Tx, run: Record, model: Model) -> Budget:
        spent = tx.turns.spent_by_run(run.id)
        own = run.max_completion_tokens
        completion = self._completion_cap if own is None else own - spent.completion
        if completion <= 0:
            raise CompletionBudgetSpent
        prompt = run.max_prompt_tokens and max(0, run.max_prompt_tokens - spent.prompt)
        return Budget(prompt, completion, model.chat.context)

    def _choice(self, tx: Tx, run: Record) -> Any:
        """Of tools. One that forces a call does so until there was one."""
        rounds = tx.steps.rounds(run.id)
        if rounds >= self._tool_rounds:
            raise TooManyRounds(f"The run called tools {rounds} times and came to no answer.")
        return run.tool_choice if run.tool_choice == "none" or not rounds else "auto"


def placed_units(tx: Tx, run: Record, model_id: str, *, limit: int) -> list[Placed]:
    """The thread as the run sees it, oldest first. At most `limit` messages can fit a context."""
    messages, steps = _spoken(tx, run, limit=limit)
    return _merged(messages, steps, run, model_id, _recalled(steps))


def _spoken(tx: Tx, run: Record, *, limit: int) -> tuple[Sequence[Record], Sequence[Record]]:
    """The messages, and the steps whose calls were answered."""
    strategy = run.truncation_strategy
    if strategy["type"] == "last_messages":
        limit = min(limit, strategy["last_messages"])
    messages = tx.messages.spoken(run.thread_id, run.id, limit)
    first = messages[0].seq if messages else 0
    return messages, tx.steps.answered_calls(run.thread_id, first)


def written_turns(
    tx: Tx, thread_id: str, placed: Sequence[Placed], budget: Budget
) -> list[WrittenTurn]:
    """What the model wrote after the oldest unit that the prompt can have in it."""
    kept = newest_within([unit for _, unit in placed], budget)
    if not kept:
        return []
    oldest = next(seq for seq, unit in placed if unit is kept[0])
    turns = tx.turns.written_since(thread_id, oldest, budget.context)
    return [_written(turn) for turn in turns]


def _notes(offers: Iterable[Offer]) -> dict[str, str]:
    """What tools add to messages, by the messages' ids."""
    return {message: note for offer in offers for message, note in offer.notes.items()}


def _merged(
    messages: Sequence[Record],
    steps: Sequence[Record],
    run: Record,
    model_id: str,
    recalled: Recollection,
    notes: Mapping[str, str] = NO_NOTES,
) -> list[Placed]:
    """Messages and answered calls as they came; text and calls of one turn are one unit."""
    places = [((m.seq, 0, 0), m) for m in messages]
    places += [((s.after_message, 1, s.seq), s) for s in steps]
    units: list[Placed] = []
    before: Record | None = None
    for (seq, *_), row in sorted(places, key=lambda place: place[0]):
        if hasattr(row, "step_details"):
            words = units.pop()[1][0].content if _same_turn(before, row) else ""
            units.append((seq, _call_unit(row, run, words, recalled)))
        else:
            said = [message_text(row, model_id), notes.get(row.id, "")]
            units.append((seq, (ChatMessage(row.role, "\n\n".join(filter(None, said))),)))
        before = row
    return units


def _same_turn(before: Record | None, step: Record) -> bool:
    """The model's words just before its calls: an assistant's message of the same run."""
    return (
        before is not None and not hasattr(before, "step_details") and before.run_id == step.run_id
    )


def _call_unit(step: Record, run: Record, said: str, recalled: Recollection) -> Unit:
    answered = [
        _answered(call, run, recalled.get(call["id"])) for call in step.step_details["tool_calls"]
    ]
    asked = tuple(call for call, _ in answered)
    answers = (
        ChatMessage("tool", output, tool_call_id=call.id, name=call.name)
        for call, output in answered
    )
    return (ChatMessage("assistant", said, tool_calls=asked), *answers)


def _answered(call: JsonObject, run: Record, recalled: Recalled | None) -> tuple[ToolCall, str]:
    """A call as the model wrote it, and what it was told."""
    if recalled is None:
        function = call["function"]
        asked = ToolCall(call["id"], function["name"], function["arguments"])
        return asked, function["output"] or ""
    name = name_of(call["type"], run.tools)
    return ToolCall(call["id"], name, recalled.arguments), recalled.output


def _recalled(steps: Sequence[Record]) -> Recollection:
    """Of all calls of these steps, in order."""
    calls = (call for step in steps for call in step.step_details["tool_calls"])
    return {
        call["id"]: KINDS[call["type"]].recalled(call) for call in calls if call["type"] in KINDS
    }


def _calls_of(steps: Sequence[Record], recalled: Recollection) -> Iterator[Recalled]:
    """Of these steps, the calls of the server's own tools."""
    calls = (call for step in steps for call in step.step_details["tool_calls"])
    return (recalled[call["id"]] for call in calls if call["id"] in recalled)


def _citable(
    tx: Tx,
    run: Record,
    own: Sequence[Record],
    steps: Sequence[Record],
    recalled: Recollection,
    offers: Iterable[Offer],
) -> list[Source] | None:
    """The passages that the run may cite; None if no passage has to do with it."""
    if not any(offer.cites for offer in offers) and not any(c.sources for c in recalled.values()):
        return None
    return _shown(tx, run, own, recalled) or _shown(tx, run, steps, recalled)


def _shown(tx: Tx, run: Record, steps: Sequence[Record], recalled: Recollection) -> list[Source]:
    """The passages of these steps whose files are still there."""
    sources = [source for call in _calls_of(steps, recalled) for source in call.sources]
    there = tx.files.among(run.project_id, {source.file_id for source in sources}, tx.now)
    return [source for source in sources if source.file_id in there]


def _not_shown(
    tx: Tx,
    run: Record,
    messages: Sequence[Record],
    own: Sequence[Record],
    recalled: Recollection,
) -> list[str]:
    """The figures of the run's steps that none of its messages has followed, if still there."""
    said = max((message.seq for message in messages if message.run_id == run.id), default=0)
    since = [step for step in own if step.after_message >= said]
    figures = [figure for call in _calls_of(since, recalled) for figure in call.figures]
    there = tx.files.among(run.project_id, figures, tx.now)
    return [figure for figure in figures if figure in there]


def message_text(message: Record, model_id: str) -> str:
    """The text parts of a message. Raises InvalidPrompt for a part that the model cannot see.

    The figures in front of a run's own answers were told where they were drawn.
    """
    texts = []
    for part in message.content:
        if part["type"] == "image_file" and message.run_id is not None:
            continue
        if part["type"] != "text":
            raise InvalidPrompt(
                f"The model '{model_id}' cannot see images: message {message.id} "
                f"has a part of type '{part['type']}'."
            )
        text = part["text"]
        texts.append(as_written(text["value"]) if text["annotations"] else text["value"])
    return "\n".join(texts)


def tool_specs(
    tools: Sequence[JsonObject], choice: Any, own: Mapping[str, ToolSpec] = NO_TOOLS
) -> list[ToolSpec]:
    """The tools that the model is told of: all, none, or the one that was chosen."""
    if choice == "none":
        return []
    if isinstance(choice, dict) and choice["type"] != "function":
        return [own[choice["type"]]]
    functions = [tool["function"] for tool in tools if tool["type"] == "function"]
    if isinstance(choice, dict):
        own = NO_TOOLS
        functions = [f for f in functions if f["name"] == choice["function"]["name"]]
    specs = [
        ToolSpec(f["name"], f.get("description"), f.get("parameters"), bool(f.get("strict")))
        for f in functions
    ]
    return [*own.values(), *specs]


def _written(turn: Record) -> WrittenTurn:
    return WrittenTurn(
        fingerprint=turn.model_fingerprint,
        prompt_length=turn.prompt_length,
        prompt_digest=turn.prompt_digest,
        text=turn.text,
        token_ids=array("i", turn.token_ids).tolist(),
        complete=turn.finish_reason == "stop",
    )


def asked_format(stored: Any) -> dict[str, Any] | None:
    """The form that the answer must have; None if any text will do."""
    return stored if isinstance(stored, dict) and stored["type"] != "text" else None
