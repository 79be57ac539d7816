"""No body, however strange, gets anything but an object or an error in the hosted API's form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from server import schemas
from server.api.validation import to_openai

MODELS: list[type[BaseModel]] = [
    schemas.CreateAssistant,
    schemas.ModifyAssistant,
    schemas.CreateThread,
    schemas.CreateMessage,
    schemas.CreateRun,
    schemas.CreateThreadAndRun,
    schemas.SubmitToolOutputs,
]
NAMES = sorted(
    {name for model in MODELS for name in model.model_fields}
    | {"type", "function", "name", "file_search", "file_ids", "vector_stores", "<text>", "[key]"}
)
WORDS = st.sampled_from(
    ["auto", "text", "function", "file_search", "image_url", "user", "static", "last_messages", ""]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("model", MODELS)
@given(body=st.dictionaries(st.sampled_from(NAMES), VALUES))
@settings(max_examples=40, deadline=None)
def test_any_body_is_taken_or_told_off(model: type[BaseModel], body: dict[str, Any]) -> None:
    """What is wrong has a message and a code, and names a parameter."""
    try:
        model.model_validate(body)
    except ValidationError as error:
        faults = [{**f, "loc": ("body", *f["loc"])} for f in error.errors(include_url=False)]
        told = to_openai(faults)
        assert told.message
        assert told.code
        assert told.param
        assert "<array>" not in told.param
