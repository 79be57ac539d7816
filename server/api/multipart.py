"""Forms with one file, whose bytes go to the disk while they arrive.

Of the file no more than a chunk is held in memory. The fields may come in any order, before the
file or after it, and are short.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

from fastapi import Depends
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from server.api.body import arriving, refuse_announced
from server.api.validation import Fault
from server.errors import InvalidRequest, no_form, too_large
from server.files.blobs import Incoming

MOST_PARTS = 20
MOST_FIELD_BYTES = 64 * 2**10
BESIDE_FILE = 2**20  # bytes of a body that may be no part of its file: fields, headers, boundaries
NAMELESS = "upload"
EXTENDED_NAME = re.compile(r"""filename\*\s*=\s*utf-8'[^']*'([^\s;"]+)""", re.IGNORECASE)
NESTED = re.compile(r"(\w+)\[(\w+)\]")
ESCAPED = re.compile("%(22|0D|0A)")  # how HTML writes a quote and the ends of lines in a name

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class FormLimits:
    """The largest file that is taken, and for how many seconds nothing may come."""

    bytes: int
    silence: float


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file of a form: the name that its client gave it, which is no path, and its bytes."""

    filename: str
    content: Incoming


class MultipartBody:
    """The body of a request that was not read yet."""

    def __init__(self, request: Request) -> None:
        self._request = request

    @asynccontextmanager
    async def received(
        self, file_field: str, content: Incoming, limits: FormLimits
    ) -> AsyncIterator[dict[str, Any]]:
        """The form's fields by name, the file's a SentFile over `content`.

        What was not placed of the content at the end is gone. Raises no_form, TooLarge, TooSlow,
        InvalidRequest when the client is gone, and what writing raises.
        """
        async with content:
            refuse_announced(self._request, limits.bytes, BESIDE_FILE)
            form = _Form(_boundary(self._request), file_field)
            read = 0
            async for piece in arriving(self._request, limits.silence):
                read += len(piece)
                for data in form.feed(piece):
                    await content.write(data)
                if content.bytes > limits.bytes or read > limits.bytes + BESIDE_FILE:
                    raise too_large(limits.bytes, max(content.bytes, read))
            yield form.fields(content)


class _Form:
    """A form as it is parsed: what it says so far, and what of its file was not fetched yet."""

    def __init__(self, boundary: bytes, file_field: str) -> None:
        self._file_field = file_field
        self._fields: dict[str, bytearray] = {}
        self._filename: str | None = None
        self._of_file: list[bytes] = []
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._into: bytearray | None = None  # None while it is the file
        self._parts = self._field_bytes = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._name_header,
                    "on_header_value": self._value_header,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._take,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise no_form() from None

    def feed(self, data: bytes) -> list[bytes]:
        """Parse on, and return what of it belongs to the file. Raises no_form."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise no_form() from None
        of_file, self._of_file = self._of_file, []
        return of_file

    def fields(self, content: Incoming) -> dict[str, Any]:
        """All fields, once the body has ended. Raises no_form if the form has not."""
        if not self._ended:
            raise no_form()
        found: dict[str, Any] = {}
        for name, value in self._fields.items():
            text = value.decode(errors="replace")
            nested = NESTED.fullmatch(name)
            if nested is None or nested[1] == self._file_field:
                found[name] = text
                continue
            inner = found.setdefault(nested[1], {})
            if not isinstance(inner, dict):
                raise no_form()
            inner[nested[2]] = text
        if self._filename is not None:
            found[self._file_field] = SentFile(self._filename, content)
        return found

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise no_form()
        self._disposition = self._header_name = self._header_value = b""

    def _name_header(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _value_header(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _open(self) -> None:
        """The part's headers are known: it is the file, or a field, of which the last counts."""
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise no_form()
        name = options[b"name"].decode(errors="replace")
        if name != self._file_field:
            self._into = self._fields[name] = bytearray()
            return
        if self._filename is not None:
            raise no_form()
        self._into = None
        self._filename = _filename(self._disposition, options.get(b"filename", b""))

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._into is None:
            self._of_file.append(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > MOST_FIELD_BYTES:
            raise no_form()
        self._into += data[start:end]

    def _end(self) -> None:
        self._ended = True


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise no_form()
    return boundary


def _filename(disposition: bytes, plain: bytes) -> str:
    """The name as it was before the client wrote it down, in any of the ways that clients have."""
    if extended := EXTENDED_NAME.search(disposition.decode("latin-1")):
        return unquote(extended[1])
    name = plain.decode(errors="replace")
    return ESCAPED.sub(lambda escaped: unquote(escaped[0]), name) or NAMELESS


def checked(
    model: type[M], fields: dict[str, Any], told: Callable[[Sequence[Fault]], InvalidRequest]
) -> M:
    """The form as its schema has it. What is wrong is `told` in the words of the endpoint."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise told([*_within_body(error)]) from None


def _within_body(error: ValidationError) -> Iterator[Fault]:
    for fault in error.errors(include_url=False):
        yield {**fault, "loc": ("body", *fault["loc"])}


async def multipart(request: Request) -> MultipartBody:
    return MultipartBody(request)


Multipart = Annotated[MultipartBody, Depends(multipart)]
