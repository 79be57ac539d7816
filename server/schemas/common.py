"""What the wire's objects share: the two families of models, unions, metadata and lists.

`Given` is what a client sends: exact types, no unknown keys. `Shown` is what it gets: its fields
have the order of the wire's keys, and it validates from a row's attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Protocol, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

JsonObject = dict[str, Any]
T = TypeVar("T")

LARGEST_INTEGER = 2**31 - 1
MOST_METADATA = 16
FLOOD = 100  # more keys than any object of the API has


class Given(BaseModel):
    """Part of a request. `model_fields_set` tells an absent key from a null."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown_keys(cls, value: Any) -> Any:
        """Of a flood of unknown keys the first will do: each would become a fault of its own."""
        if not isinstance(value, dict) or len(value) <= FLOOD:
            return value
        known = {name for field, info in cls.model_fields.items() for name in (field, info.alias)}
        first = next((key for key in value if key not in known), None)
        return {key: value[key] for key in value if key in known or key == first}

    def given(self, name: str) -> bool:
        return name in self.model_fields_set


class Row(Protocol):
    """A row of the database, whose columns have the wire's names."""

    def _asdict(self) -> JsonObject: ...


class Shown(BaseModel):
    """Part of a response."""

    model_config = ConfigDict(
        from_attributes=True, json_schema_serialization_defaults_required=True
    )

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """The object that a row is; a dictionary is read in half the time of attributes."""
        return cls.model_validate(row._asdict())


@dataclass(frozen=True)
class Describes:
    """JSON that was checked when it came in and is passed on as it is; described as `type`."""

    type: Any

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.any_schema()

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(TypeAdapter(self.type).core_schema)


def member_of(value: Any) -> str | None:
    """The tag of the union member that a value claims to be, by its `type` or its JSON type.

    Tags are in angle brackets, so that an error's path can be told from the tags within it.
    """
    if isinstance(value, str):
        return "<string>"
    if isinstance(value, list):
        return "<array>"
    type = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{type}>"


def one_of(
    *types: str,
    expected: str = "an object",
    key: str = "type",
    member: Callable[[Any], str | None] = member_of,
) -> Any:
    """A union whose object members name themselves in `key`, one of `types`."""
    discriminator = Discriminator(
        member,
        custom_error_type="no_union_member",
        custom_error_message="Expected {expected}",
        custom_error_context={"expected": expected, "types": " ".join(types), "key": key},
    )
    return Field(discriminator=discriminator)


def _not_too_many(value: Any) -> Any:
    """Counted before they are looked at: each could be a fault of its own."""
    if isinstance(value, dict) and len(value) > MOST_METADATA:
        counts = {"field_type": "Dictionary", "max_length": MOST_METADATA}
        raise PydanticKnownError("too_long", {**counts, "actual_length": len(value)})
    return value


FEW_KEYS = BeforeValidator(_not_too_many)
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=MOST_METADATA),
    FEW_KEYS,
]
TokenLimit = Annotated[int, Field(le=LARGEST_INTEGER)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ModifyMetadata(Given):
    """The body of every endpoint that can change nothing but metadata."""

    metadata: Metadata | None = None

    def changes(self) -> JsonObject:
        return {"metadata": self.metadata or {}} if self.given("metadata") else {}


def _digits(value: Any) -> Any:
    """Text of digits only: `int` also takes `+5`, `1_0`, ` 5`, `1.0`, and digits of any script."""
    if isinstance(value, str) and not re.fullmatch("-?[0-9]+", value):
        raise PydanticKnownError("int_parsing")
    return value


PLAIN_INTEGER = BeforeValidator(_digits)  # after the bounds, which are published only so


class ListQuery(BaseModel):
    """Which page of a list. A limit of 0 gives an empty page."""

    limit: Annotated[int, Field(ge=0, le=100), PLAIN_INTEGER] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    before: str | None = None


class ListPage(Shown, Generic[T]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, data: list[T], has_more: bool) -> ListPage[T]:
        """A page of objects that have ids, without checking them again."""
        ids = [item.id for item in data]  # type: ignore[attr-defined]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return cls.model_construct(
            object="list", data=data, first_id=first, last_id=last, has_more=has_more
        )


class PromptTokenDetails(Shown):
    """Of the prompt tokens, those that needed no computing."""

    cached_tokens: int


class CompletionTokensDetails(Shown):
    """Of the completion tokens, those that the client does not see."""

    reasoning_tokens: int


class Usage(Shown):
    """Tokens of one step, or of all steps of a run."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_token_details: PromptTokenDetails
    completion_tokens_details: CompletionTokensDetails
