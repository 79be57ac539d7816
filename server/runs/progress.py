"""What an execution writes while it holds a claim; each verb is one unit and carries the fence.

A verb raises RunMoved when the run was cancelled, expired, deleted or claimed again meanwhile.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from server.db.database import Tx
from server.db.stores import Record
from server.runs.announce import Announcer
from server.runs.calls import details_of
from server.runs.lifecycle import Lifecycle, close_answered, close_step
from server.runs.state import Claim, RunMoved, move
from server.runs.turns import ModelCall
from server.schemas import JsonObject, RunStatus, image_part, text_part

Charge = Callable[[str | None, int], None]  # the id of a key, and tokens that a model took

MESSAGE_REASON = {
    "incomplete": "max_tokens",
    "cancelled": "run_cancelled",
    "expired": "run_expired",
    "failed": "run_failed",
    "queued": "run_failed",
}
STEP_STATUS: dict[RunStatus, RunStatus] = {"incomplete": "completed", "queued": "failed"}


@dataclass(frozen=True, slots=True)
class Said:
    """The open message: its row as it was begun, and its text, None before the first word.

    Annotations are as they are stored; figures are the ids of files.
    """

    message: Record
    text: str | None
    annotations: Sequence[JsonObject] = ()
    figures: Sequence[str] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether no part of it was told."""
        return self.text is None and not self.figures


@dataclass(frozen=True, slots=True)
class Ending:
    """How a claim ends: the run's next status, and what is written with it."""

    to: RunStatus
    call: ModelCall | None
    said: Said | None = None
    incomplete_reason: str | None = None
    error: dict[str, str] | None = None
    worker_deaths: int = 0
    restarts: int = 0
    unfinished_call: bool = False
    message_reason: str | None = None  # why the message is incomplete, if not for the run's status


class Progress:
    """The writes of executions. What models took is charged to the run's key once it is durable."""

    def __init__(self, announce: Announcer, lifecycle: Lifecycle, charge: Charge) -> None:
        self._announce = announce
        self._lifecycle = lifecycle
        self._charge = charge

    def begin_message(self, tx: Tx, claim: Claim) -> Record:
        """Open a message step and its empty message, which is returned."""
        run = held(tx, claim)
        message_id = tx.ids.new("msg")
        details = {
            "type": "message_creation",
            "message_creation": {"message_id": message_id},
        }
        self._begin_step(tx, run, details)
        message = tx.messages.insert(_empty_message(tx, run, message_id))
        self._announce.message(tx, message, new=True)
        return message

    def end_message(self, tx: Tx, claim: Claim, said: Said) -> None:
        """Complete the open message and its step in mid-turn; the usage is the last step's."""
        run = held(tx, claim)
        self._close_message(tx, claim.run_id, "completed", said)
        self._close_step(tx, run, "completed")

    def begin_calls(self, tx: Tx, claim: Claim) -> Record:
        """Open a tool step; its calls are filled in when the turn is over."""
        return self._begin_step(tx, held(tx, claim), details_of([]))

    def end_calls(self, tx: Tx, claim: Claim, calls: Sequence[JsonObject], cost: ModelCall) -> None:
        """Close the open tool step, whose calls were all answered here, in mid-claim."""
        run = held(tx, claim)
        step = close_answered(tx, self._called(tx, run, cost), calls)
        self._announce.step(tx, step, with_content=run.shows_results)

    def require_action(
        self, tx: Tx, claim: Claim, calls: Sequence[JsonObject], cost: ModelCall
    ) -> None:
        """End the claim: the run waits for the outputs of these calls, and the step stays open.

        Calls of the server's own tools are among them with their answers.
        """
        step = self._called(tx, held(tx, claim), cost)
        tx.steps.update(step.seq, {"step_details": details_of(calls)})
        waiting = [_asked(call) for call in calls if call["type"] == "function"]
        action = {
            "type": "submit_tool_outputs",
            "submit_tool_outputs": {"tool_calls": waiting},
        }
        run = move(
            tx, claim.run_id, "in_progress", "requires_action", claim, required_action=action
        )
        self._announce.run(tx, run)

    def keep_calls(self, tx: Tx, claim: Claim, calls: Sequence[JsonObject]) -> None:
        """What was told of the calls of the open tool step, which ends in their middle."""
        step = tx.steps.in_progress(claim.run_id)
        if step is not None and step.type == "tool_calls":
            tx.steps.update(step.seq, {"step_details": details_of(calls)})

    def _called(self, tx: Tx, run: Record, cost: ModelCall) -> Record:
        """The open tool step, once what its calls cost is recorded."""
        step = tx.steps.in_progress(run.id)
        assert step is not None, "the tool step is open"
        self._record(tx, run, step.id, cost)
        return step

    def end(self, tx: Tx, claim: Claim, ending: Ending) -> None:
        """End the claim: the open message, then its step, then the run."""
        run = held(tx, claim, also_cancelling=ending.to in ("cancelled", "expired"))
        if ending.call is not None:
            step = tx.steps.in_progress(run.id)
            self._record(tx, run, step.id if step else None, ending.call)
        self._close_message(tx, run.id, ending.to, ending.said, ending.message_reason)
        status = STEP_STATUS.get(ending.to, ending.to)
        self._close_step(tx, run, "failed" if ending.unfinished_call else status, ending)
        self._announce.run(tx, self._ended(tx, run, claim, ending))

    def _ended(self, tx: Tx, run: Record, claim: Claim, ending: Ending) -> Record:
        if ending.to == "queued":
            counts = {
                "worker_deaths": run.worker_deaths + ending.worker_deaths,
                "restarts": run.restarts + ending.restarts,
            }
            return move(tx, run.id, "in_progress", "queued", claim, **counts)
        changes: dict[str, Any] = {}
        if ending.incomplete_reason is not None:
            changes["incomplete_details"] = {"reason": ending.incomplete_reason}
        if ending.error is not None and ending.to == "failed":
            changes["last_error"] = ending.error
        return self._lifecycle.finish(tx, run, ending.to, claim, **changes)

    def taken_away(self, run: Record, cost: ModelCall | None) -> None:
        """What a model took for a run that has no claim any more, or is no more."""
        if cost is not None:
            self._charge(run.api_key_id, cost.tokens)

    def _begin_step(self, tx: Tx, run: Record, details: dict[str, Any]) -> Record:
        step = tx.steps.insert(
            {
                "id": tx.ids.new("step"),
                "project_id": run.project_id,
                "thread_id": run.thread_id,
                "run_id": run.id,
                "created_at": tx.now,
                "assistant_id": run.assistant_id,
                "type": details["type"],
                "status": "in_progress",
                "expires_at": run.expires_at,
                "step_details": details,
                "metadata": {},
                "after_message": tx.messages.newest_seq(run.thread_id),
            }
        )
        self._announce.step(tx, step, new=True)
        return step

    def _close_message(
        self, tx: Tx, run_id: str, to: RunStatus, said: Said | None, reason: str | None = None
    ) -> None:
        """Close the open message; one that was deleted since, to those who read of it only."""
        message = tx.messages.in_progress(run_id)
        changes = _closing(tx, to, said, reason)
        begun = said.message if said is not None else message
        if begun is not None and (said is None or said.is_nothing):
            self._announce.no_words(tx, begun)
        if message is not None:
            self._announce.message(tx, tx.messages.update(message.seq, changes))
        elif said is not None:
            self._announce.lost_message(tx, said.message, changes)

    def _close_step(self, tx: Tx, run: Record, to: RunStatus, ending: Ending | None = None) -> None:
        step = tx.steps.in_progress(run.id)
        if step is not None:
            error = ending.error if ending is not None and to == "failed" else None
            closed = close_step(tx, step, to, last_error=error)
            self._announce.step(tx, closed, with_content=run.shows_results)

    def _record(self, tx: Tx, run: Record, step_id: str | None, cost: ModelCall) -> None:
        tx.after_commit(partial(self._charge, run.api_key_id, cost.tokens))
        tx.turns.insert(
            {
                "run_id": run.id,
                "step_id": step_id,
                "ordinal": tx.turns.spent_by_run(run.id).turns,
                "created_at": tx.now,
                "model_fingerprint": cost.fingerprint,
                "prompt_tokens": cost.prompt_tokens,
                "completion_tokens": cost.completion_tokens,
                "cached_tokens": cost.cached_tokens,
                "reasoning_tokens": cost.reasoning_tokens,
                "finish_reason": cost.finish_reason,
                "token_ids": array("i", cost.token_ids).tobytes(),
                "prompt_length": cost.prompt_length,
                "prompt_digest": cost.prompt_digest,
                "text": cost.text,
            }
        )


def held(tx: Tx, claim: Claim, *, also_cancelling: bool = False) -> Record:
    """The run, if the claim still holds and nobody asked to end it. Raises RunMoved."""
    run = tx.runs.by_id(claim.run_id)
    wanted = ("in_progress", "cancelling") if also_cancelling else ("in_progress",)
    if run is None or run.fence != claim.fence or run.status not in wanted:
        raise RunMoved(claim.run_id)
    return run


def _empty_message(tx: Tx, run: Record, message_id: str) -> dict[str, Any]:
    return {
        "id": message_id,
        "project_id": run.project_id,
        "thread_id": run.thread_id,
        "created_at": tx.now,
        "assistant_id": run.assistant_id,
        "run_id": run.id,
        "status": "in_progress",
        "role": "assistant",
        "content": [],
        "attachments": [],
        "metadata": {},
    }


def _closing(tx: Tx, to: RunStatus, said: Said | None, reason: str | None) -> dict[str, Any]:
    """What the end of its run, or of its part of a turn, changes in the open message."""
    changes: dict[str, Any] = {"status": "completed", "completed_at": tx.now}
    if to != "completed":
        details = {"reason": reason or MESSAGE_REASON[to]}
        changes = {"status": "incomplete", "incomplete_at": tx.now, "incomplete_details": details}
    content: list[JsonObject] = []
    if said is not None:
        content += (image_part(file_id) for file_id in said.figures)
        if said.text is not None:
            text = {"value": said.text, "annotations": list(said.annotations)}
            content.append({"type": "text", "text": text})
    changes["content"] = content or [text_part("")]  # as it would be if it had been told
    return changes


def _asked(call: JsonObject) -> JsonObject:
    """A function call as its client is asked to make it: without an output."""
    function = {name: call["function"][name] for name in ("name", "arguments")}
    return {"id": call["id"], "type": "function", "function": function}
