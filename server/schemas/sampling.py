"""How tokens are chosen beyond temperature and top_p: an extension, under a name of its own."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, Tag

from server.schemas.common import Given, JsonObject, one_of

LARGEST_SEED = 2**63 - 1  # OpenAI's seeds are signed

Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]
TopK = Annotated[int, Field(ge=0, le=2**31 - 1)]
MinP = Annotated[float, Field(ge=0, le=1)]
RepetitionPenalty = Annotated[float, Field(ge=0.01, le=10)]
Seed = Annotated[int, Field(ge=-LARGEST_SEED - 1, le=LARGEST_SEED)]
StopStrings = Annotated[list[StopString], Field(max_length=16, fail_fast=True)]
Stop = Annotated[
    Annotated[StopString, Tag("<string>")] | Annotated[StopStrings, Tag("<array>")],
    one_of(expected="one of a string or array of strings"),
]
LogitBias = Annotated[dict[TokenId, Bias], Field(max_length=1024)]


class SamplingOptions(Given):
    """The key `x_sampling` of a request that creates a run. What is absent is the model's default.

    Ranges are those of OpenAI's chat completions, where they have the option.
    """

    top_k: TopK | None = None
    min_p: MinP | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: RepetitionPenalty | None = None
    stop: Stop | None = None
    logit_bias: LogitBias | None = None

    def stored(self) -> JsonObject:
        """What was given; one string to stop at as a list of it."""
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        if isinstance(self.stop, str):
            given["stop"] = [self.stop]
        return given


class ChatSamplingOptions(Given):
    """The key `x_sampling` of a chat completion: what OpenAI's has no names for."""

    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
