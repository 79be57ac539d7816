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
Stop = Annotated[
    Annotated[StopString, Tag("<string>")]
    | Annotated[list[StopString], Field(max_length=16, fail_fast=True), Tag("<array>")],
    one_of(expected="one of a string or array of strings"),
]


class SamplingOptions(Given):
    """The key `x_sampling` of a request that creates a run. What is absent is the model's default.

    Ranges are those of OpenAI's chat completions, where they have the option.
    """

    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-LARGEST_SEED - 1, le=LARGEST_SEED)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    stop: Stop | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=1024)] | None = None

    def stored(self) -> JsonObject:
        """What was given; one string to stop at as a list of it."""
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        if isinstance(self.stop, str):
            given["stop"] = [self.stop]
        return given
