"""What can go wrong, by what it means to the caller. HTTP statuses are known to `api.errors` only.

Texts are OpenAI's own where they are known, since clients match them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

RateKind = Literal["requests", "tokens"]

SOON: Final = 1.0  # seconds, for what has no time of its own


class WireError(Exception):
    """An error that the caller is told of, in OpenAI's error object: message, type, param, code."""

    type = "invalid_request_error"

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(WireError):
    """The request itself is wrong, or does not fit the state of what it names."""


class NotFound(WireError):
    """Nothing of that kind has this id in the caller's project."""


class Unauthorized(WireError):
    """No key, or a key that is not known."""


class Forbidden(WireError):
    """The caller may not do this."""


class MethodNotAllowed(WireError):
    """The URL exists, with other methods."""


class TooLarge(WireError):
    """The body is larger than this server takes."""


class HeadTooLarge(WireError):
    """The URL and the headers are larger than this server takes."""


class TooSlow(InvalidRequest):
    """The body did not arrive in time; there is no use in waiting for the rest of it."""


class Gone(WireError):
    """It existed, and cannot be had any more."""


class ClientGone(WireError):
    """The caller hung up: nobody reads this."""


class TooMany(WireError):
    """Not now: more is asked for than is taken. `retry_after` is in seconds, where it is known."""

    def __init__(
        self, message: str, kind: RateKind = "requests", retry_after: float | None = None
    ) -> None:
        super().__init__(message, code="rate_limit_exceeded")
        self.type = kind
        self.retry_after = retry_after


class ServerFault(WireError):
    """A fault of ours."""

    type = "server_error"


class Unavailable(WireError):
    """The server cannot do this now; the same request may succeed later.

    `retry_after` is in seconds, where it is known.
    """

    type = "server_error"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def shutting_down() -> Unavailable:
    return Unavailable("The server is shutting down. Please retry in a moment.", SOON)


def database_is_busy() -> Unavailable:
    return Unavailable("The database is busy. Please retry in a moment.", SOON)


def no_key() -> Unauthorized:
    """Also for a header that has none in it."""
    return Unauthorized(
        "You didn't provide an API key. You need to provide your API key in an Authorization "
        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field "
        "(with blank username) if you're accessing the API from your browser and are prompted for "
        "a username and password. You can obtain an API key from "
        "https://platform.openai.com/account/api-keys."
    )


def wrong_key(secret: str) -> Unauthorized:
    """Unknown, revoked or expired. As much of it is shown as the hosted API did."""
    return Unauthorized(
        f"Incorrect API key provided: {_masked(secret)}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        code="invalid_api_key",
    )


def _masked(secret: str) -> str:
    return f"{secret[:8]}{'*' * min(len(secret) - 12, 60)}{secret[-4:]}" if secret[12:] else secret


def mismatched(kind: str) -> Unauthorized:
    """`kind` is a project or an organization: the header names another than the key's."""
    return Unauthorized(
        f"OpenAI-{kind.capitalize()} header should match {kind} for API key",
        code=f"mismatched_{kind}",
    )


def missing_scope(scope: str) -> Forbidden:
    return Forbidden(
        f"You have insufficient permissions for this operation. Missing scopes: {scope}. Check "
        "that you have the correct role in your organization (Reader, Writer, Owner) and project "
        "(Viewer, Member, Owner), and if you're using a restricted API key, that it has the "
        "necessary scopes."
    )


def not_from_here(header: str) -> Forbidden:
    """The header, Host or Origin, names something else than the machine that the server is on."""
    return Forbidden(
        "This server has no API keys, so it is for this machine alone: the "
        f"{header} header of a request has to name localhost or a loopback address. Make a key "
        "with `assistants keys create` and send it, or set server.allow_open = true to serve "
        "everybody who can reach this server.",
        code=f"{header.lower()}_not_allowed",
    )


def rate_limit_reached(
    whose: str, kind: RateKind, most: int, used: int, seconds: float, wait: str
) -> TooMany:
    """`wait` is the time until there is one again, in words."""
    unit = {"requests": "RPM", "tokens": "TPM"}[kind]
    return TooMany(
        f"Rate limit reached for {whose} on {kind} per min ({unit}): Limit {most}, Used {used}, "
        f"Requested 1. Please try again in {wait}.",
        kind,
        seconds,
    )


def too_many_at_once(what: str, most: int, seconds: float) -> TooMany:
    """`what` is runs or chat completions."""
    return TooMany(
        f"Rate limit reached: at most {most} {what} can be active at once. Please try again in "
        f"{seconds:g}s.",
        retry_after=seconds,
    )


def queue_is_full(whose: str, most: int, seconds: float) -> TooMany:
    return TooMany(
        f"The queue of {whose} is full: at most {most} runs can wait. Please try again in "
        f"{seconds:g}s.",
        retry_after=seconds,
    )


def no_such(kind: str, object_id: str) -> NotFound:
    """`kind` is the wire's word: assistant, thread, message, run, run step."""
    return NotFound(f"No {kind} found with id '{object_id}'.")


def no_such_model(name: str) -> NotFound:
    """For `/v1/models/{name}`."""
    return NotFound(f"The model '{name}' does not exist", "model", "model_not_found")


def model_not_found(name: str) -> InvalidRequest:
    """For a `model` in a body."""
    return InvalidRequest(
        f"The requested model '{name}' does not exist.", "model", "model_not_found"
    )


def makes_embeddings_only(name: str) -> InvalidRequest:
    return InvalidRequest(f"The model '{name}' makes embeddings; it cannot be run.", "model")


def only_ranks(name: str) -> InvalidRequest:
    return InvalidRequest(f"The model '{name}' ranks what is found in files, and no more.", "model")


def makes_no_embeddings(name: str) -> InvalidRequest:
    return InvalidRequest(f"The model '{name}' writes text; it makes no embeddings.", "model")


def context_exceeded(context: int) -> InvalidRequest:
    """The hosted API also told the prompt's length, which is not known of one that is too long."""
    return InvalidRequest(
        f"This model's maximum context length is {context} tokens. However, your messages "
        "resulted in more tokens. Please reduce the length of the messages.",
        "messages",
        "context_length_exceeded",
    )


def no_such_tool(name: str) -> InvalidRequest:
    return InvalidRequest(f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice")


def no_tools_to_choose_from() -> InvalidRequest:
    return InvalidRequest(
        "Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice"
    )


def thread_has_active_run(thread_id: str, run_id: str) -> InvalidRequest:
    """400 and never 409, which the SDKs would repeat."""
    return InvalidRequest(f"Thread {thread_id} already has an active run {run_id}.")


def thread_is_locked(thread_id: str, run_id: str) -> InvalidRequest:
    return InvalidRequest(f"Can't add messages to {thread_id} while a run {run_id} is active.")


def too_many_wait(thread_id: str, waiting: int, new: int) -> InvalidRequest:
    more = "more" if new == 1 else f"{new} more at once"
    return InvalidRequest(
        f"Thread {thread_id} has {waiting} runs and messages that wait for its active run, and "
        f"cannot take {more}.",
        code="thread_queue_full",
    )


def nothing_to_answer() -> InvalidRequest:
    return InvalidRequest(
        "Run creation requires a Thread with a user message or an assistant with instructions.",
        code="invalid_thread",
    )


def not_a_key(most: int, length: int) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid 'Idempotency-Key': expected 1 to {most} characters, but got {length}.",
        "Idempotency-Key",
        "invalid_value",
    )


def key_used_otherwise() -> InvalidRequest:
    """400 and never 409, which the SDKs would repeat."""
    return InvalidRequest(
        "Keys for idempotent requests can only be used for the same request they were first used "
        "for. Use another 'Idempotency-Key' if you meant to make a different request.",
        "Idempotency-Key",
        "idempotency_key_reused",
    )


def no_outputs_accepted(status: str) -> InvalidRequest:
    return InvalidRequest(f'Runs in status "{status}" do not accept tool outputs.')


def wrong_outputs(expected: Sequence[str], got: Sequence[str]) -> InvalidRequest:
    """The hosted API printed Python lists, without a final dot; clients parse them."""
    return InvalidRequest(
        f"Expected tool outputs for call_ids {list(expected)!r}, got {list(got)!r}"
    )


def cannot_cancel(status: str) -> InvalidRequest:
    return InvalidRequest(f"Cannot cancel run with status '{status}'.")


def events_expired(run_id: str) -> Gone:
    return Gone(
        f"The events of run {run_id} before the requested one are no longer held.",
        "starting_after",
        "events_expired",
    )


def above_maximum(param: str, most: int, value: int) -> InvalidRequest:
    """For limits that are settings; the others are part of the schemas."""
    return InvalidRequest(
        f"Invalid '{param}': integer above maximum value. Expected a value <= {most}, "
        f"but got {value} instead.",
        param,
        "integer_above_max_value",
    )


def too_large(most: int, size: int) -> TooLarge:
    return TooLarge(f"Maximum content size limit ({most}) exceeded ({size} bytes read)")


def no_such_file(file_id: str, param: str = "id") -> NotFound:
    return NotFound(f"No such File object: {file_id}", param)


def file_is_empty() -> InvalidRequest:
    return InvalidRequest("File is empty.")


def storage_limit_exceeded(most: int) -> InvalidRequest:
    return InvalidRequest(
        "You have exceeded your file storage quota: the files of a project can have at most "
        f"{most} bytes together. Please delete files that are not needed.",
        code="storage_limit_exceeded",
    )


def too_many_objects(kind: str, most: int) -> InvalidRequest:
    """400 and not 429, which the SDKs would repeat to no use."""
    return InvalidRequest(
        f"A project can have at most {most} {kind}s. Please delete some that are not needed.",
        code="object_limit_exceeded",
    )


def not_for_download(purpose: str) -> InvalidRequest:
    return InvalidRequest(f"Not allowed to download files of purpose: {purpose}")


def no_form() -> InvalidRequest:
    return InvalidRequest("Could not parse multipart form")


def no_such_upload(upload_id: str) -> NotFound:
    return NotFound(f"No such Upload object: {upload_id}", "id")


def upload_is_over(to: str, status: str) -> InvalidRequest:
    """`to` is a verb: complete, cancel, add a part to."""
    return InvalidRequest(f"Cannot {to} upload with status '{status}'.")


def no_such_part(part_id: str) -> InvalidRequest:
    return InvalidRequest(f"No such UploadPart object: {part_id}", "part_ids")


def too_many_parts(most: int) -> InvalidRequest:
    return InvalidRequest(f"An upload can have at most {most} parts.")


def parts_too_large(most: int) -> InvalidRequest:
    return InvalidRequest(f"The parts of an upload can have at most {most} bytes together.")


def wrong_size(expected: int, got: int) -> InvalidRequest:
    return InvalidRequest(
        f"The parts have {got} bytes, and the upload was created for {expected}.", "part_ids"
    )


def wrong_checksum() -> InvalidRequest:
    return InvalidRequest("The MD5 checksum does not match the bytes of the parts.", "md5")


def no_such_vector_store(store_id: str) -> NotFound:
    return NotFound(f"Vector store with id '{store_id}' not found.")


def not_in_vector_store(kind: str, object_id: str, store_id: str) -> NotFound:
    """`kind` is a file or a file batch."""
    return NotFound(f"No {kind} found with id '{object_id}' in vector store '{store_id}'.")


def vector_store_has_expired(store_id: str) -> InvalidRequest:
    return InvalidRequest(f"Vector store with id '{store_id}' has expired.", code="expired")


def not_for_retrieval(extensions: Sequence[str]) -> InvalidRequest:
    return InvalidRequest(
        f"Files with extensions [{', '.join(extensions)}] are not supported for retrieval. "
        "See https://platform.openai.com/docs/assistants/tools/file-search/supported-files",
        "file_ids",
        "unsupported_file",
    )


def too_many_files_of_thread(most: int) -> InvalidRequest:
    return InvalidRequest(
        f"A thread can have at most {most} files for code_interpreter.", "attachments"
    )
