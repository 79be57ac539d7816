"""The model's own chat template: from a conversation to the pieces of a prompt.

Templates come with the weights and are not trusted. Their rendering is bounded in steps, time and
size. Knows no token ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from jinja2.exceptions import TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from server.chat.conversation import (
    Mark,
    alternated,
    function_object,
    late_system_moved,
    message_object,
    system_folded,
    tool_object,
    turns_merged,
    user_first,
    words_parted,
)
from server.chat.errors import TemplateError, TemplateRefused, TemplateStopped
from server.chat.marking import Markers, split_content
from server.chat.sandbox import Meter, Sandbox, TemplateLimit, TemplateRaised, metered
from server.chat.values import ChatMessage, Piece, ToolCall, ToolSpec

__all__ = ["ChatTemplate", "TemplateError", "TemplateRefused", "TemplateStopped"]

MAX_SOURCE = 64 * 1024
CONTROL_STRING = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,40}\]")
PROBE = "zyxwprobe"
PROBE_SECONDS = 0.25
TOOL = ToolSpec(PROBE, "A function.")
OTHER_TOOL = ToolSpec("name", "A function.")
CALLED = ChatMessage("assistant", "", (ToolCall("call00000", "name", PROBE),))
SAID = ChatMessage("assistant", "Wait.")
ANSWERED = (
    SAID,
    ChatMessage("tool", PROBE, tool_call_id="call00000", name="name"),
)
INSTRUCTED = ChatMessage("system", PROBE)
# A call and its result that say nothing of what is probed.
ASIDE = (
    ChatMessage("assistant", "", (ToolCall("call00000", "name", "{}"),)),
    ChatMessage("tool", "5", tool_call_id="call00000", name="name"),
)
TWO_SYSTEMS = (
    ChatMessage("system", PROBE),
    ChatMessage("user", "Hello"),
    ChatMessage("assistant", "Wait."),
    ChatMessage("system", PROBE),
    ChatMessage("user", "Hello"),
)


def _local_time() -> datetime:
    return datetime.now().astimezone()


class ChatTemplate:
    """A compiled template. Rendering changes nothing in it, so threads may share one.

    `control` are the model's special tokens as text; those that the template names are known
    anyway. `supports_words` (the user's), `supports_system`, `supports_tools` and
    `supports_results`: whether such text reaches the prompt, and `supports_late_system` whether
    system text does so anywhere in a conversation.
    `variables` are those that it reads.
    """

    supports_words: bool
    supports_system: bool
    supports_late_system: bool
    supports_tools: bool
    supports_results: bool

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        control: Collection[str] = (),
        now: Callable[[], datetime] = _local_time,
    ) -> None:
        self.source = source
        self.fingerprint = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._markers = Markers({*control, *CONTROL_STRING.findall(source), bos, eos} - {""})
        sandbox = Sandbox(now)
        self._template = _compiled(sandbox, source)
        self.variables = frozenset(find_undeclared_variables(sandbox.parse(source)))
        self._no_tools: list[Any] | None = None
        self._tools_in_system = False
        self._text_arguments = True  # whether it takes those that are no object
        self._probe()

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> list[Piece]:
        """The prompt, its content told apart. `extra` are variables that only some templates know.

        What a template has no place for is said another way: system text goes into the first user
        message, or later one into the user's words. Where no user speaks, system text that would be
        dropped is the user's. A template that takes whatever comes first for the user's, and puts
        functions before it, is given something of the user's there. One that drops words beside
        calls, or calls beside words, gets two messages, unless it counts turns. What it cannot
        render is tried again with the turns of one role joined, and then with turns that alternate.
        """
        variables = {**(extra or {}), "add_generation_prompt": add_generation_prompt}
        shaped = self._system_placed(messages)
        if self._parts_words:
            shaped = list(words_parted(shaped))
        if tools and self._wants_user_first:
            shaped = user_first(shaped)
        try:
            return self._pieces(shaped, tools, variables)
        except TemplateStopped:
            raise
        except TemplateError as problem:
            for another in (turns_merged, alternated):
                with suppress(TemplateError):
                    told = another(shaped, calls_apart=self._drops_beside)
                    return self._pieces(told, tools, variables)
            raise problem

    def _system_placed(self, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        """The messages, with system text only where the template tells it."""
        if not self.supports_system or not (
            self._tells_system_alone or any(message.role == "user" for message in messages)
        ):
            return system_folded(messages)
        return messages if self.supports_late_system else late_system_moved(messages)

    def _probe(self) -> None:
        """Learn what the template has a place for; one that fails even at `Hello` is of no use."""
        hello = [ChatMessage("user", "Hello")]
        try:
            prompt = self._probed(hello)
        except TemplateStopped:
            raise
        except TemplateError:
            self._no_tools = []  # it loops over the tools without asking whether there are any
            prompt = self._probed(hello)
        self.supports_words = "hello" in prompt.casefold()
        self.supports_system = self._shows([INSTRUCTED, *hello])
        self.supports_late_system = self._shows(TWO_SYSTEMS, times=2)
        self.supports_tools = self._shows(hello, [TOOL]) or self._shows_in_system(hello)
        self.supports_results = self._shows([*hello, *ANSWERED])
        if self.supports_results and self._drops([INSTRUCTED, *hello, *ASIDE]):
            self.supports_system = False  # it tells it beside the newest message, if the user's
        self._tells_system_alone = not self._drops([INSTRUCTED])
        self._text_arguments = self._shows([*hello, CALLED])
        begun = [CALLED, ASIDE[1], *hello]
        self._wants_user_first = self._drops(begun, [OTHER_TOOL]) and self._shows(
            [*hello, *begun], [OTHER_TOOL]
        )
        words = replace(ASIDE[0], content=PROBE)
        calls = replace(CALLED, content=SAID.content)
        self._drops_beside = self._shows([*hello, CALLED]) and (
            self._drops([*hello, words]) or self._drops([*hello, calls])
        )
        apart = [*hello, SAID, CALLED, ASIDE[1], SAID, *hello]
        self._parts_words = self._drops_beside and self._shows(apart)

    def _shows_in_system(self, messages: Sequence[ChatMessage]) -> bool:
        """Some templates look for the functions in the system's message."""
        self._tools_in_system = True
        self._tools_in_system = self._shows([ChatMessage("system", "Hello"), *messages], [TOOL])
        return self._tools_in_system

    def _probed(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> str:
        variables = {"add_generation_prompt": True}
        return self._text(messages, tools, variables, str, Meter(seconds=PROBE_SECONDS))

    def _shows(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = (), *, times: int = 1
    ) -> bool:
        return (self._shown(messages, tools) or 0) >= times

    def _drops(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> bool:
        """Whether it renders them without a word of what is probed."""
        return self._shown(messages, tools) == 0

    def _shown(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int | None:
        """How often what is probed is in the prompt; None if the template fails."""
        try:
            return self._probed(messages, tools).count(PROBE)
        except TemplateStopped:
            raise
        except TemplateError:
            return None

    def _pieces(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec], variables: dict[str, Any]
    ) -> list[Piece]:
        meter = Meter()
        return split_content(
            lambda mark: self._text(messages, tools, variables, mark, meter), self._markers
        )

    def _text(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec],
        variables: Mapping[str, Any],
        mark: Mark,
        meter: Meter,
    ) -> str:
        told = [message_object(m, mark, text_arguments=self._text_arguments) for m in messages]
        if tools and self._tools_in_system:
            told = _with_functions(told, [function_object(tool, mark) for tool in tools])
        values = {
            **self._tokens,
            **variables,
            "messages": told,
            "tools": [tool_object(tool, mark) for tool in tools] or self._no_tools,
        }
        with metered(meter):
            return _rendered(self._template.render, values)


def _with_functions(
    messages: list[dict[str, Any]], functions: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The messages, with functions as JSON in the system's."""
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": ""}, *messages]
    told = json.dumps(functions, ensure_ascii=False)
    return [{**messages[0], "tools": told}, *messages[1:]]


def _compiled(sandbox: Sandbox, source: str) -> Any:
    if len(source) > MAX_SOURCE:
        raise TemplateError(f"The chat template is longer than {MAX_SOURCE // 1024} KiB.")
    try:
        return sandbox.from_string(source)
    except TemplateSyntaxError as error:
        raise TemplateError(
            f"The chat template has an error in line {error.lineno}: {error.message}"
        ) from error
    except Exception as error:  # deep nesting, absurd numbers: its fault in any case
        raise TemplateError(f"The chat template cannot be compiled: {_reason(error)}") from error


def _rendered(render: Callable[..., str], values: Mapping[str, Any]) -> str:
    try:
        return render(values)
    except TemplateRaised as error:
        raise TemplateRefused(str(error)) from error
    except TemplateLimit as error:
        raise TemplateStopped(f"The chat template was stopped: {error}.") from error
    except Exception as error:  # a program of others may fail in any way
        raise TemplateError(f"The chat template failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"
