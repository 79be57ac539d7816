"""A conversation while it is being made up, and the voice that its assistant speaks in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from corpus.dice import Dice

Message = dict[str, Any]
Style = Callable[[str, str, str], str]  # the user's text, the plain answer, the same in a word


def plain(user: str, answer: str, word: str) -> str:
    return answer


@dataclass(frozen=True, slots=True)
class Voice:
    """Who the assistant is told to be, and how it must speak."""

    instructions: str = ""
    name: str | None = None
    role: str | None = None
    user_name: str | None = None
    style: Style = plain
    greets: bool = False  # in a language of its own

    @property
    def is_plain(self) -> bool:
        return self.style is plain


@dataclass(slots=True)
class Scene:
    """The messages so far and what has been said in them."""

    dice: Dice
    voice: Voice
    messages: list[Message] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    jokes: int = 0
    # What the listed tools can do, so that such requests are not declined.
    able: frozenset[str] = frozenset()
    last_call: Any = None  # the function and arguments that a follow-up may be about
    wordy: bool = False  # what tools return is long
    brief: bool = False  # what tools return is short
    passages: int = 0  # that searches have numbered
    files: Any = None  # that were searched last

    def exchange(self, user: str, answer: str, word: str) -> None:
        self.user(user)
        self.reply(answer, word)

    def user(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})

    def reply(self, answer: str, word: str) -> None:
        text = self.voice.style(self.last("user"), answer, word)
        self.messages.append({"role": "assistant", "content": text})

    def call(self, calls: list[tuple[str, dict[str, Any]]]) -> None:
        tool_calls = [
            {"type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments in calls
        ]
        self.messages.append({"role": "assistant", "content": None, "tool_calls": tool_calls})

    def result(self, text: str) -> None:
        self.messages.append({"role": "tool", "content": text})

    def last(self, role: str) -> str:
        """The newest text of that role, or an empty one."""
        texts = (m["content"] for m in reversed(self.messages) if m["role"] == role)
        return next((text for text in texts if text), "")

    def first(self, role: str) -> str:
        return next((m["content"] for m in self.messages if m["role"] == role), "")
