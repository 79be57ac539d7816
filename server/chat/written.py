"""What a turn has come to so far: its text, its reasoning, its calls, and the deltas of these."""

from __future__ import annotations

from server.chat.bare import INDENT
from server.chat.values import CallArguments, CallStarted, TextDelta, TurnDelta


class Written:
    """Filled by the reader of one turn."""

    def __init__(self) -> None:
        self.at_line_start = True  # whether what comes next is the first word of its line
        self._deltas: list[TurnDelta] = []
        self._text: list[str] = []
        self._space = ""  # held: it is dropped if a call or the end of a call-only turn follows
        self._thoughts: list[str] = []
        self._calls: list[tuple[str, list[str]]] = []
        self._after_call = False

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._thoughts)

    @property
    def calls(self) -> tuple[tuple[int, str, str], ...]:
        return tuple(
            (index, name, "".join(arguments)) for index, (name, arguments) in enumerate(self._calls)
        )

    def take(self) -> list[TurnDelta]:
        """The deltas since this was last asked."""
        deltas, self._deltas = self._deltas, []
        return deltas

    def think(self, text: str) -> None:
        self._thoughts.append(text)

    def say(self, text: str) -> None:
        """White space waits for the word that it separates."""
        _, broken, line = text.rpartition("\n")
        self.at_line_start = not line.strip(INDENT) and (bool(broken) or self.at_line_start)
        text = self._space + text
        words = text.rstrip()
        self._space = text[len(words) :]
        if words:
            self._give(words if self._text else words.lstrip())
            self._after_call = False

    def announce(self, name: str) -> None:
        self._deltas.append(CallStarted(len(self._calls), name))
        self._calls.append((name, []))
        self._after_call = self.at_line_start = True

    def argue(self, text: str) -> None:
        """More of the last call's arguments."""
        if text:
            self._calls[-1][1].append(text)
            self._deltas.append(CallArguments(len(self._calls) - 1, text))

    def end(self) -> None:
        """No more text follows."""
        if not self._after_call:
            self._give(self._space)

    def _give(self, text: str) -> None:
        if text and (self._text or text.strip()):
            self._text.append(text)
            self._deltas.append(TextDelta(text))
