"""Messages. Content goes in as a string or as parts, and comes out as parts with annotations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, Tag
from pydantic_core import PydanticCustomError

from server.schemas.common import (
    Describes,
    Given,
    JsonObject,
    ListQuery,
    Metadata,
    ModifyMetadata,
    Shown,
    one_of,
)
from server.schemas.tools import AttachmentTool

MOST_AT_ONCE = 10_000  # that one request can add: all other writes wait for them

Text = Annotated[str, Field(max_length=256_000)]
Detail = Literal["auto", "low", "high"]
Role = Literal["user", "assistant"]


def text_part(value: str) -> JsonObject:
    """A text part as it is stored and shown."""
    return {"type": "text", "text": {"value": value, "annotations": []}}


def image_part(file_id: str, detail: Detail = "auto") -> JsonObject:
    """An uploaded image, or a figure, as it is stored and shown."""
    return {"type": "image_file", "image_file": {"file_id": file_id, "detail": detail}}


class TextPart(Given):
    """Text of a message."""

    type: Literal["text"]
    text: Text

    def stored(self) -> JsonObject:
        return text_part(self.text)


class ImageFile(Given):
    """An image that was uploaded."""

    file_id: str
    detail: Detail = "auto"


class ImageFilePart(Given):
    """An uploaded image in a message."""

    type: Literal["image_file"]
    image_file: ImageFile

    def stored(self) -> JsonObject:
        return image_part(self.image_file.file_id, self.image_file.detail)


def _fetchable(url: str) -> str:
    """As on the hosted API, images are not taken as data within the URL."""
    if not url.startswith(("https://", "http://")) or any(c.isspace() for c in url):
        raise PydanticCustomError("url_format", "Expected a valid URL")
    return url


class ImageUrl(Given):
    """An image somewhere else."""

    url: Annotated[str, AfterValidator(_fetchable), Field(json_schema_extra={"format": "uri"})]
    detail: Detail = "auto"


class ImageUrlPart(Given):
    """An image in a message, by its URL."""

    type: Literal["image_url"]
    image_url: ImageUrl

    def stored(self) -> JsonObject:
        image = self.image_url
        return {"type": self.type, "image_url": {"url": image.url, "detail": image.detail}}


ContentPart = Annotated[
    Annotated[ImageFilePart, Tag("<image_file>")]
    | Annotated[ImageUrlPart, Tag("<image_url>")]
    | Annotated[TextPart, Tag("<text>")],
    one_of("image_file", "image_url", "text"),
]
Content = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[list[ContentPart], Field(min_length=1, fail_fast=True), Tag("<array>")],
    one_of(expected="one of a string or array of objects"),
]


class Attachment(Given):
    """A file for the tools of the thread."""

    file_id: str
    tools: Annotated[list[AttachmentTool], Field(fail_fast=True)]

    def stored(self) -> JsonObject:
        return {"file_id": self.file_id, "tools": [tool.stored() for tool in self.tools]}


class CreateMessage(Given):
    """The body of `POST /threads/{thread_id}/messages`, and a message wherever one can be added."""

    role: Role
    content: Content
    attachments: Annotated[list[Attachment], Field(fail_fast=True)] | None = None
    metadata: Metadata | None = None

    @property
    def images(self) -> list[str]:
        """The ids of the uploaded images that it shows."""
        parts = () if isinstance(self.content, str) else self.content
        return [part.image_file.file_id for part in parts if isinstance(part, ImageFilePart)]

    def stored(self) -> JsonObject:
        """The columns of the new message that a client decides on."""
        return {
            "role": self.role,
            "content": [text_part(self.content)]
            if isinstance(self.content, str)
            else [part.stored() for part in self.content],
            "attachments": [attachment.stored() for attachment in self.attachments or ()],
            "metadata": self.metadata or {},
        }


NewMessages = Annotated[list[CreateMessage], Field(max_length=MOST_AT_ONCE, fail_fast=True)]


class ModifyMessage(ModifyMetadata):
    """The body of `POST /threads/{thread_id}/messages/{message_id}`."""


class MessagesQuery(ListQuery):
    """Which page of a thread's messages, or only of those that one run wrote."""

    run_id: str | None = None


class NamedFile(BaseModel):
    """A file by its id."""

    file_id: str


class Annotation(BaseModel):
    """Part of a text: from `start_index` to before `end_index`, in code points."""

    text: str
    start_index: Annotated[int, Field(ge=0)]
    end_index: Annotated[int, Field(ge=0)]


class FileCitation(Annotation):
    """Where the model has it from."""

    type: Literal["file_citation"]
    file_citation: NamedFile


class FilePath(Annotation):
    """A file that the model made."""

    type: Literal["file_path"]
    file_path: NamedFile


class AnnotatedText(BaseModel):
    """Text, and what parts of it refer to."""

    value: str
    annotations: list[FileCitation | FilePath]


class TextContent(BaseModel):
    """Text of a message as it is shown."""

    type: Literal["text"]
    text: AnnotatedText


class RefusalContent(BaseModel):
    """What the model said instead of an answer."""

    type: Literal["refusal"]
    refusal: str


class IncompleteMessage(BaseModel):
    """Why a message ends before its end."""

    reason: Literal["content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"]


class Message(Shown):
    """A message."""

    id: str
    object: Literal["thread.message"] = "thread.message"
    created_at: int
    assistant_id: str | None
    thread_id: str
    run_id: str | None
    status: Literal["in_progress", "incomplete", "completed"]
    incomplete_details: Annotated[JsonObject | None, Describes(IncompleteMessage | None)]
    incomplete_at: int | None
    completed_at: int | None
    role: Role
    content: Annotated[
        list[Any], Describes(list[ImageFilePart | ImageUrlPart | TextContent | RefusalContent])
    ]
    attachments: Annotated[list[Any], Describes(list[Attachment])]
    metadata: Annotated[dict[str, str], Describes(Metadata)]


class MessageDeleted(Shown):
    """The answer to deleting a message."""

    id: str
    object: Literal["thread.message.deleted"] = "thread.message.deleted"
    deleted: bool = True
