"""The chunks that a chat endpoint streams, read leniently: endpoints differ in what they leave out.

A field that is missing, null or unknown is no fault. What an answer could not be put together from
without guessing is refused.
"""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)


def _json_text(value: object) -> object:
    """Arguments are JSON text; some endpoints send the object itself."""
    return json.dumps(value) if isinstance(value, dict) else value


def _joined(value: object) -> object:
    """Content is text; some endpoints send parts, of which the text is taken."""
    if not isinstance(value, list):
        return value
    parts = [part for part in value if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(str(part.get("text", "")) for part in parts)


def _none_if_unreadable(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return read(value)
    except ValidationError:
        return None


Place = tuple[object, ...]  # the keys and numbers that lead to a text in a chunk
Count = Annotated[int, Field(ge=0, lt=2**31)]  # whatever is beyond that was not counted


class Lenient(BaseModel):
    """Has what is known of an object, and lets the rest go by."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FunctionDelta(Lenient):
    """More of a function call."""

    name: str | None = None
    arguments: Annotated[str | None, BeforeValidator(_json_text)] = None


class CallDelta(Lenient):
    """More of the tool call at `index`; endpoints that leave it out begin each with an id."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class Delta(Lenient):
    """More of the answer. Reasoning is not looked at."""

    content: Annotated[str | None, BeforeValidator(_joined)] = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None


class Choice(Lenient):
    """One answer; more than the first is never asked for."""

    delta: Delta | None = None
    finish_reason: str | None = None


class PromptDetails(Lenient):
    """What of the prompt was not computed anew."""

    cached_tokens: Count | None = None


class CompletionDetails(Lenient):
    """What of the answer nobody sees."""

    reasoning_tokens: Count | None = None


class Usage(Lenient):
    """Tokens that were counted by the endpoint."""

    prompt_tokens: Count
    completion_tokens: Count
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details and details.cached_tokens) or 0

    @property
    def reasoning_tokens(self) -> int:
        details = self.completion_tokens_details
        return (details and details.reasoning_tokens) or 0


class Chunk(Lenient):
    """One event of the stream. `error` is set where an endpoint fails in the middle of it."""

    choices: list[Choice] | None = None
    usage: Annotated[Usage | None, WrapValidator(_none_if_unreadable)] = None
    system_fingerprint: str | None = None
    error: object = None

    @property
    def choice(self) -> Choice | None:
        return self.choices[0] if self.choices else None

    @property
    def finish_reason(self) -> str | None:
        return self.choice.finish_reason if self.choice is not None else None


class ChunkReader:
    """Reads the chunks of one answer.

    Some endpoints count characters as UTF-16 does and cut some of them in two: the first half is
    held until the other comes. One that is alone is replaced, or dropped at the end.
    """

    def __init__(self) -> None:
        self._halves: dict[Place, str] = {}

    def read(self, data: str) -> Chunk:
        """Raises ValueError, RecursionError."""
        if not self._halves:
            try:
                return Chunk.model_validate_json(data)
            except ValidationError:
                pass  # it may have a half: what reads JSON so fast takes none
        return Chunk.model_validate(self._whole(json.loads(data), ()))

    def _whole(self, value: object, place: Place) -> object:
        match value:
            case str():
                return self._text(value, place)
            case dict():
                return {key: self._whole(each, (*place, key)) for key, each in value.items()}
            case list():
                return [
                    self._whole(each, (*place, _number(each, at))) for at, each in enumerate(value)
                ]
        return value

    def _text(self, text: str, place: Place) -> str:
        """Without half a character at its end, which goes before the next text at this place."""
        text = self._halves.pop(place, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[place] = text[-1]
            text = text[:-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(value: object, at: int) -> object:
    """A call's own, if it has one: not all of them are in each chunk."""
    number = value.get("index") if isinstance(value, dict) else None
    return number if isinstance(number, int) else at
