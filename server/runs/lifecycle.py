"""The verbs of a run, each inside one unit of work: what callers, sweep and executor do to it.

What an execution writes while it holds a claim is in `progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from server import errors, schemas, traces
from server.access.limits import AT_ONCE_RETRY, EVERYBODY, Allowance
from server.config import BusyPolicy
from server.db.database import Tx
from server.db.stores import Record
from server.runs import conversation
from server.runs.announce import Announcer
from server.runs.attempt import UNMARKED, Attempt
from server.runs.calls import details_of, failure_of
from server.runs.conversation import Place
from server.runs.events import EventBus
from server.runs.models import Catalog
from server.runs.state import Claim, RunMoved, move
from server.runs.usage import wire_usage
from server.schemas import JsonObject, RunStatus
from server.vector_stores.resources import note_use, require_resources

INSTRUCTIONS_JOINT = "\n\n"
MOST_AT_ONCE = 32  # others wait for a unit of work to end


class Signals(Protocol):
    """What the executor is told once a verb is durable. Called on the loop."""

    def queued(self, run_id: str, seconds_left: float) -> None:
        """A run waits to be claimed; it expires in so many seconds."""
        ...

    def cancel(self, run_id: str) -> None:
        """A run that is being executed shall end."""
        ...

    def over(self, run_id: str) -> None:
        """A run has ended without an execution, or was deleted."""
        ...

    def forget(self, project: str, thread_id: str) -> None:
        """A thread was deleted: nothing that was kept of it may stay."""
        ...


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run whose tool outputs were submitted, and the step that has them."""

    run: Record
    step_id: str


class Lifecycle:
    """Creates, claims, resumes, cancels and expires runs, and what waits for their ends.

    `expires_after` is in seconds. No run is created where `project_queue` of its project wait to be
    begun, for a model or for their threads, or `queue` of all. `busy_policy` holds where neither a
    request nor its project has one; so many runs and messages as `busy_waiting` may wait in a
    thread.
    """

    def __init__(
        self,
        bus: EventBus,
        catalog: Catalog,
        signals: Signals,
        *,
        expires_after: int,
        project_queue: int,
        queue: int,
        busy_policy: BusyPolicy,
        busy_waiting: int,
    ) -> None:
        self._bus = bus
        self._catalog = catalog
        self._signals = signals
        self._announce = Announcer(bus)
        self._expires_after = expires_after
        self._project_queue = project_queue
        self._queue_length = queue
        self._busy_policy = busy_policy
        self._busy_waiting = busy_waiting

    def add_message(
        self,
        tx: Tx,
        project: str,
        thread_id: str,
        body: schemas.CreateMessage,
        attempt: Attempt = UNMARKED,
        busy: BusyPolicy | None = None,
    ) -> Record:
        """Append a message of the caller's. A retry gets the one that it has made.

        Raises no_such, thread_is_locked, too_many_wait, no_such_file, not_for_retrieval,
        too_many_files_of_thread.
        """
        found = _require(tx, project, thread_id)
        if (made := attempt.message(tx, thread_id)) is not None:
            return made
        place = self._place(tx, project, thread_id, found, busy, errors.thread_is_locked)
        return conversation.insert_message(
            tx, project, thread_id, body, place, attempt.request_hash
        )

    def create(
        self,
        tx: Tx,
        project: str,
        thread_id: str,
        body: schemas.CreateRun,
        allowance: Allowance,
        attempt: Attempt = UNMARKED,
        busy: BusyPolicy | None = None,
        *,
        shows_results: bool = False,
    ) -> Record:
        """Queue a run on a thread, with its additional messages, within the caller's allowance.

        A retry gets the one that it has made. Its events tell the texts that searches found if it
        `shows_results`.

        Raises no_such, thread_has_active_run, too_many_wait, no_such_tool,
        no_tools_to_choose_from, model_not_found, makes_embeddings_only, only_ranks,
        nothing_to_answer, no_such_file, not_for_retrieval, too_many_files_of_thread,
        queue_is_full, too_many_at_once.
        """
        found = _require(tx, project, thread_id)
        if (made := attempt.run(tx, thread_id)) is not None:
            return made
        assistant = conversation.require_assistant(tx, project, body.assistant_id)
        more = body.additional_messages or ()
        refusal, new = errors.thread_has_active_run, 1 + len(more)
        place = self._place(tx, project, thread_id, found, busy, refusal, new)
        conversation.insert_messages(tx, project, thread_id, more, place)
        own = {"shows_results": shows_results, "request_hash": attempt.request_hash}
        run = self._insert(
            tx, project, thread_id, assistant, body, allowance, held=place.held, **own
        )
        self._queue(tx, run)
        return run

    def create_with_thread(
        self, tx: Tx, project: str, body: schemas.CreateThreadAndRun, allowance: Allowance
    ) -> Record:
        """A new thread and a run on it, in one go. Raises as `create`, and no_such_vector_store."""
        assistant = conversation.require_assistant(tx, project, body.assistant_id)
        require_resources(tx, project, body.tool_resources)
        thread = conversation.create_thread(tx, project, body.thread)
        run = self._insert(tx, project, thread.id, assistant, body, allowance, with_thread=True)
        self._announce.thread(tx, thread, run.id)
        self._queue(tx, run)
        return run

    def submit_outputs(
        self,
        tx: Tx,
        project: str,
        thread_id: str,
        run_id: str,
        body: schemas.SubmitToolOutputs,
        attempt: Attempt = UNMARKED,
    ) -> Resumed:
        """Give the outputs of all calls that the run waits for, and queue it again.

        A retry of what was submitted changes nothing. Its events follow what the bus has noted by
        the step's id. Raises no_such, no_outputs_accepted, wrong_outputs.
        """
        run = conversation.require_run(tx, project, thread_id, run_id)
        if attempt.is_retry and (before := _step_with(tx, run_id, body)) is not None:
            return Resumed(run, before.id)
        if run.status != "requires_action":
            raise errors.no_outputs_accepted(run.status)
        outputs = _outputs(run, body)
        step = tx.steps.in_progress(run_id)
        assert step is not None, "a run that requires action has an open step"
        tx.after_commit(partial(self._bus.note, run_id, step.id))
        answered = _answered(tx, step, outputs)
        self._announce.step(tx, answered, with_content=run.shows_results)
        queued = move(tx, run_id, "requires_action", "queued", required_action=None)
        self._announce.run(tx, queued)
        self._wake(tx, queued)
        self.settle_model(tx, run_id)
        return Resumed(queued, step.id)

    def cancel(
        self,
        tx: Tx,
        project: str,
        thread_id: str,
        run_id: str,
        attempt: Attempt = UNMARKED,
    ) -> Record:
        """Begin to cancel; the answer is the `cancelling` run. Raises no_such, cannot_cancel.

        A run that nobody executes is cancelled in the same unit. A retry gets a run that was
        cancelled as it is.
        """
        run = conversation.require_run(tx, project, thread_id, run_id)
        if attempt.is_retry and run.status in ("cancelling", "cancelled"):
            return run
        if run.status not in ("queued", "in_progress", "requires_action"):
            raise errors.cannot_cancel(run.status)
        cancelling = move(tx, run_id, run.status, "cancelling", required_action=None)
        self._announce.run(tx, cancelling)
        if run.status == "in_progress":
            tx.after_commit(partial(self._signals.cancel, run_id))
        else:
            self.end(tx, cancelling, "cancelled")
        return cancelling

    def delete_thread(self, tx: Tx, project: str, thread_id: str) -> Record:
        """Delete a thread; its active run and those that wait are stopped, their streams end."""
        active = tx.runs.active_in_thread(thread_id)
        stopped = [*([active] if active is not None else ()), *tx.runs.held(thread_id)]
        thread = conversation.delete_thread(tx, project, thread_id)
        tx.after_commit(partial(self._signals.forget, project, thread_id))
        why = f"Thread {thread_id} was deleted."
        for run in stopped:
            tx.after_commit(partial(self._signals.cancel, run.id))
            tx.after_commit(partial(self._signals.over, run.id))
            tx.after_commit(partial(self._bus.break_off, run.id, why))
        return thread

    def claim(
        self, tx: Tx, model_ids: Sequence[str], turns: Mapping[str, int]
    ) -> tuple[Record, Claim] | None:
        """Take the run that is next of those that wait for one of these models, if any does.

        `turns` are greater the later a project had its last one.
        """
        run = tx.runs.next_queued(model_ids, turns)
        if run is None:
            return None
        fence = run.fence + 1
        changes = {"fence": fence, "attempt": run.attempt + 1, "started_at": tx.now}
        row = move(tx, run.id, "queued", "in_progress", **changes)
        self._announce.run(tx, row)
        return row, Claim(run.id, fence)

    def expire(self, tx: Tx, run_id: str) -> None:
        """Expire a run that waits. Raises RunMoved for one that does not."""
        run = tx.runs.by_id(run_id)
        if run is None or run.status not in ("queued", "requires_action"):
            raise RunMoved(run_id)
        self.end(tx, run, "expired")

    def fail_waiting(self, tx: Tx, model_id: str, reason: str) -> int:
        """Fail the oldest runs that wait for a model, since it cannot be loaded; how many."""
        waiting = tx.runs.queued_for(model_id, MOST_AT_ONCE)
        for run in waiting:
            self.end(tx, run, "failed", last_error={"code": "server_error", "message": reason})
        return len(waiting)

    def settle_model(self, tx: Tx, run_id: str) -> None:
        """Find a queued run's model again if the configuration has changed since, or fail it."""
        run = tx.runs.by_id(run_id)
        if run is None or run.status != "queued" or run.model_id in self._catalog.models:
            return
        model = self._catalog.resolve(run.model)
        if model is not None:
            tx.runs.update(run.seq, {"model_id": model.id})
            return
        message = f"The model '{run.model}' is not configured on this server any more."
        self.end(tx, run, "failed", last_error={"code": "server_error", "message": message})

    def end(self, tx: Tx, run: Record, to: RunStatus, **changes: Any) -> Record:
        """Take a run that nobody executes to a final status, with its open step."""
        step = tx.steps.in_progress(run.id)
        if step is not None:
            self._announce.step(tx, close_step(tx, step, to), with_content=run.shows_results)
        row = self.finish(tx, run, to, None, **changes)
        self._announce.run(tx, row)
        tx.after_commit(partial(self._signals.over, run.id))
        return row

    def finish(
        self, tx: Tx, run: Record, to: RunStatus, claim: Claim | None, **changes: Any
    ) -> Record:
        """Move a run to a final status, with its usage and the time of that end.

        Then it is the turn of what waits in its thread.
        """
        ended_at = {
            "completed": "completed_at",
            "incomplete": "completed_at",
            "failed": "failed_at",
            "cancelled": "cancelled_at",
        }
        times = {ended_at[to]: tx.now} if to in ended_at else {}
        usage = wire_usage(tx.turns.spent_by_run(run.id))
        final = {
            "expires_at": None,
            "required_action": None,
            "usage": usage,
            "held": False,
            **times,
            **changes,
        }
        row = move(tx, run.id, run.status, to, claim, **final)
        self.go_on(tx, run.thread_id)
        return row

    def go_on(self, tx: Tx, thread_id: str) -> None:
        """Where no run is active any more: show the messages up to the next run, and queue that."""
        if tx.runs.active_in_thread(thread_id) is not None:
            return
        runs, messages = tx.runs.held(thread_id), tx.messages.held(thread_id)
        for message in messages:
            if not runs or message.after_run < runs[0].seq:
                tx.messages.show(message)
        if runs:
            turn = {"held": False, "expires_at": tx.now + self._expires_after}
            self._wake(tx, tx.runs.update(runs[0].seq, turn))

    def _place(
        self,
        tx: Tx,
        project: str,
        thread_id: str,
        found: Record,
        busy: BusyPolicy | None,
        refusal: Callable[[str, str], errors.InvalidRequest],
        new: int = 1,
    ) -> Place:
        """Where in a thread so much new is added; or its refusal, if the thread is busy."""
        policy = busy or found.busy_policy or self._busy_policy
        active = tx.runs.by_id(found.run_id) if found.run_id is not None else None
        if active is not None and policy == "error":
            raise refusal(thread_id, active.id)
        if active is not None and policy == "interrupt":
            self._interrupt(tx, project, active)
            active = tx.runs.active_in_thread(thread_id)
        if active is not None:
            waiting = len(tx.runs.held(thread_id)) + len(tx.messages.held(thread_id))
            if waiting + new > self._busy_waiting:
                raise errors.too_many_wait(thread_id, waiting, new)
        return Place(found.newest_run, held=active is not None)

    def _interrupt(self, tx: Tx, project: str, active: Record) -> None:
        """Cancel the active run; if that was done before, the one that would follow it now.

        So it makes no difference how long a cancelled run takes to end.
        """
        if active.status != "cancelling":
            self.cancel(tx, project, active.thread_id, active.id)
        elif following := tx.runs.held(active.thread_id):
            self.cancel(tx, project, active.thread_id, following[0].id)

    def _insert(
        self,
        tx: Tx,
        project: str,
        thread_id: str,
        assistant: Record,
        body: schemas.CreateRun | schemas.CreateThreadAndRun,
        allowance: Allowance,
        *,
        held: bool = False,
        **own: Any,
    ) -> Record:
        """A queued run, for a model or, `held`, behind another one of its thread.

        `own` are columns that its request's body does not decide on.
        """
        values = {**_inherited(assistant), **body.overrides()}
        values["instructions"] = _instructions(values["instructions"], body)
        columns = {**values, **body.stored()}
        _require_chosen(columns["tool_choice"], columns["tools"])
        model = self._catalog.resolve(values["model"])
        if model is None:
            raise errors.model_not_found(values["model"])
        if model.embeds:
            raise errors.makes_embeddings_only(values["model"])
        if model.ranks:
            raise errors.only_ranks(values["model"])
        if not values["instructions"] and not tx.messages.any_from_user(thread_id):
            raise errors.nothing_to_answer()
        self._require_room(tx, project, allowance, held=held)
        run = tx.runs.insert(
            {
                "id": tx.ids.new("run"),
                "project_id": project,
                "thread_id": thread_id,
                "created_at": tx.now,
                "assistant_id": assistant.id,
                "status": "queued",
                "expires_at": None if held else tx.now + self._expires_after,
                "model_id": model.id,
                "api_key_id": allowance.key_id,
                "held": held,
                "fence": 0,
                "attempt": 0,
                "worker_deaths": 0,
                "restarts": 0,
                "traceparent": traces.caller(),
                **columns,
                **own,
            }
        )
        note_use(tx, run, assistant)
        return run

    def _require_room(self, tx: Tx, project: str, allowance: Allowance, *, held: bool) -> None:
        """For one more run. Raises queue_is_full, too_many_at_once.

        One that is held will have the place of the run before it: then no run more is at work.
        """
        most = allowance.limits.concurrent_runs
        if most and not held and tx.runs.at_work_of_key(allowance.key_id, most) >= most:
            raise errors.too_many_at_once("runs", most, AT_ONCE_RETRY)
        most = self._project_queue
        if tx.runs.number_queued(most, project) >= most:
            raise errors.queue_is_full(f"project {project}", most, AT_ONCE_RETRY)
        most = self._queue_length
        if tx.runs.number_queued(most) >= most:
            raise errors.queue_is_full(EVERYBODY, most, AT_ONCE_RETRY)

    def _queue(self, tx: Tx, run: Record) -> None:
        self._announce.run(tx, run, new=True)
        if not run.held:
            self._wake(tx, run)

    def _wake(self, tx: Tx, run: Record) -> None:
        tx.after_commit(partial(self._signals.queued, run.id, run.expires_at - tx.now))


def _require(tx: Tx, project: str, thread_id: str) -> Record:
    """A thread with its active run, its newest one, and its project's policy for busy threads."""
    found = tx.threads.with_active_run(project, thread_id)
    if found is None:
        raise errors.no_such("thread", thread_id)
    return found


def close_step(tx: Tx, step: Record, to: RunStatus, **changes: Any) -> Record:
    """Give an open step its last status, with its usage and the time of that end."""
    time_of = {"completed": "completed_at", "failed": "failed_at", "cancelled": "cancelled_at"}
    usage = wire_usage(tx.turns.spent_by_step(step.id))
    final = {"status": to, time_of.get(to, "expired_at"): tx.now, "usage": usage}
    return tx.steps.update(step.seq, {**final, **changes})


def close_answered(tx: Tx, step: Record, calls: Sequence[JsonObject]) -> Record:
    """Close a step with its answered calls. It has failed if one of the server's own has."""
    details, failure = details_of(calls), failure_of(calls)
    if not failure:
        return close_step(tx, step, "completed", step_details=details)
    error = {"code": "server_error", "message": failure}
    return close_step(tx, step, "failed", step_details=details, last_error=error)


def _inherited(assistant: Record) -> dict[str, Any]:
    """What a run has from its assistant, as it is now, unless the request overrides it."""
    names = (
        "model",
        "instructions",
        "tools",
        "temperature",
        "top_p",
        "reasoning_effort",
        "response_format",
    )
    return {"tool_resources": {}, **{name: getattr(assistant, name) for name in names}}


def _instructions(
    base: str | None, body: schemas.CreateRun | schemas.CreateThreadAndRun
) -> str | None:
    """The assistant's or the run's instructions, and the additional ones after them."""
    additional = body.additional_instructions if isinstance(body, schemas.CreateRun) else None
    return INSTRUCTIONS_JOINT.join(part for part in (base, additional) if part) or None


def _require_chosen(choice: Any, tools: Sequence[dict[str, Any]]) -> None:
    """A tool that must be called is one that the run has."""
    if choice == "required" and not tools:
        raise errors.no_tools_to_choose_from()
    if isinstance(choice, dict) and _kind_and_name(choice) not in map(_kind_and_name, tools):
        raise errors.no_such_tool(_kind_and_name(choice)[1])


def _kind_and_name(tool: dict[str, Any]) -> tuple[str, str]:
    """Only functions have names of their own."""
    kind = tool["type"]
    return kind, tool["function"]["name"] if kind == "function" else kind


def _outputs(run: Record, body: schemas.SubmitToolOutputs) -> dict[str, str]:
    """Output by call id, exactly one for each call that is waited for."""
    calls = run.required_action["submit_tool_outputs"]["tool_calls"]
    expected = [call["id"] for call in calls]
    got = [output.tool_call_id for output in body.tool_outputs]
    if sorted(expected) != sorted(got):
        raise errors.wrong_outputs(expected, got)
    return _submitted(body)


def _submitted(body: schemas.SubmitToolOutputs) -> dict[str, str]:
    """Output by call id."""
    return {output.tool_call_id: output.output for output in body.tool_outputs}


def _step_with(tx: Tx, run_id: str, body: schemas.SubmitToolOutputs) -> Record | None:
    """The step of a run that has these outputs, and no others."""
    submitted = _submitted(body)
    for step in tx.steps.of_run(run_id):
        calls = step.step_details.get("tool_calls", ())
        functions = [call for call in calls if call["type"] == "function"]
        if functions and submitted == {c["id"]: c["function"]["output"] for c in functions}:
            return step
    return None


def _answered(tx: Tx, step: Record, outputs: dict[str, str]) -> Record:
    calls = [
        {**call, "function": {**call["function"], "output": outputs[call["id"]]}}
        if call["type"] == "function"
        else call
        for call in step.step_details["tool_calls"]
    ]
    return close_answered(tx, step, calls)
