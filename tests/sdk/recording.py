"""Event handlers that note what the SDK's stream helper told them, and hold it to its word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import openai
from openai import BaseModel

HOOKS = (
    "on_event",
    "on_run_step_created",
    "on_run_step_delta",
    "on_run_step_done",
    "on_tool_call_created",
    "on_tool_call_delta",
    "on_tool_call_done",
    "on_exception",
    "on_timeout",
    "on_message_created",
    "on_message_delta",
    "on_message_done",
    "on_text_created",
    "on_text_delta",
    "on_text_done",
    "on_image_file_done",
    "on_end",
)

M = TypeVar("M", bound=BaseModel)


def checked(value: M) -> M:
    """The value, once its SDK type has accepted all of it; the SDK itself does not validate."""
    type(value).model_validate(value.to_dict(mode="python"))
    return value


def collapsed(names: list[str]) -> list[str]:
    """Repeats in a row as one: how many deltas a text comes in is the model's matter."""
    return [name for before, name in zip([None, *names], names, strict=False) if name != before]


def written_in(call: Any) -> str:
    """What a call, or a delta of one, has of what the model writes."""
    match call.type:
        case "function":
            return call.function.arguments or ""
        case "code_interpreter":
            return call.code_interpreter.input or ""
    return ""


class Recorded:
    """The notes of one stream, with what must hold at each call of a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: list[str] = []
        self.events: list[str] = []
        self.texts: list[str] = []
        self.arguments: dict[str, str] = {}
        self.figures = 0

    def note(self, hook: str, *given: Any) -> None:
        """Remember the call, and look at what it was called with."""
        self.hooks.append(hook.removeprefix("on_"))
        if look := getattr(self, f"_{hook}", None):
            look(*given)

    @property
    def story(self) -> list[str]:
        """The hooks in order, but for those that only go along with another."""
        beside = {"event", "message_delta", "run_step_delta"}
        deltas = self.hooks.count("text_delta") + self.figures
        assert self.hooks.count("message_delta") == deltas
        return collapsed([name for name in self.hooks if name not in beside])

    def _on_event(self, event: Any) -> None:
        self.events.append(checked(event).event)
        assert self.current_event is event

    def _on_message_created(self, message: Any) -> None:
        self.texts.append("")
        assert message.content == []

    def _on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.texts[-1] += delta.value or ""
        assert snapshot.value == self.texts[-1]

    def _on_message_delta(self, delta: Any, snapshot: Any) -> None:
        self.figures += sum(part.type == "image_file" for part in delta.content)
        assert self.current_message_snapshot is snapshot
        texts = [part.text.value for part in snapshot.content if part.type == "text"]
        assert "".join(texts) == self.texts[-1]

    def _on_text_done(self, text: Any) -> None:
        assert text.value == self.texts[-1]

    def _on_message_done(self, message: Any) -> None:
        texts = [part.text.value for part in message.content if part.type == "text"]
        assert "".join(texts) == self.texts[-1]

    def _on_run_step_created(self, step: Any) -> None:
        assert self.current_run_step_snapshot.id == step.id
        assert self.current_run.status == "in_progress"

    def _on_tool_call_created(self, call: Any) -> None:
        assert call.id.startswith("call_")
        self.arguments[call.id] = written_in(call)

    def _on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.arguments[snapshot.id] += written_in(delta)
        assert written_in(snapshot) == self.arguments[snapshot.id]

    def _on_tool_call_done(self, call: Any) -> None:
        assert written_in(call) == self.arguments[call.id]

    def _on_exception(self, exception: Exception) -> None:
        raise AssertionError("the helper met an exception") from exception


def _hook(name: str) -> Callable[..., None]:
    def hook(self: Recorded, *given: Any) -> None:
        self.note(name, *given)

    return hook


def _async_hook(name: str) -> Callable[..., Any]:
    async def hook(self: Recorded, *given: Any) -> None:
        self.note(name, *given)

    return hook


Recorder = type(
    "Recorder", (Recorded, openai.AssistantEventHandler), {name: _hook(name) for name in HOOKS}
)
AsyncRecorder = type(
    "AsyncRecorder",
    (Recorded, openai.AsyncAssistantEventHandler),
    {name: _async_hook(name) for name in HOOKS},
)
