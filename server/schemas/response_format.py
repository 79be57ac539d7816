"""The form that the model's answer must have."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from server.schemas.common import Given, JsonObject, one_of
from server.schemas.json_schema import require_strict


class TextFormat(Given):
    """Plain text."""

    type: Literal["text"]


class JsonObjectFormat(Given):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Given):
    """A JSON schema with a name."""

    model_config = ConfigDict(validate_by_alias=True, serialize_by_alias=True)

    name: Annotated[str, Field(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
    description: str | None = None
    schema_: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _enforceable(self) -> Self:
        if self.strict:
            if self.schema_ is None:
                raise PydanticCustomError("missing_part", "", {"name": "schema"})
            require_strict(self.schema_, f"response_format '{self.name}'")
        return self


class JsonSchemaFormat(Given):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[
    Annotated[Literal["auto"], Tag("<string>")]
    | Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    one_of("json_object", "json_schema", "text", expected="one of 'auto' or object"),
]


def stored_format(given: Any) -> Any:
    """`auto` when nothing was given; otherwise just what was."""
    if given is None or isinstance(given, str):
        return given or "auto"
    return given.model_dump(exclude_unset=True)
