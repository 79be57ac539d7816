"""What an endpoint's error answer means, and how it is told. Knows no HTTP client and no key."""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from server.engine.protocol import (
    EndpointLost,
    EngineError,
    PromptRefused,
    PromptTooLong,
    RateLimited,
)

TOLD: Final = 400  # characters of an endpoint's own words
# The hosted API has a code for it, llama.cpp a type, vLLM only words.
TOO_LONG: Final = re.compile(
    r"context[ _](length|size|window)|max_model_len|(prompt|input) is too long", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Fault:
    """An error object: its message, and the words that say what kind it is."""

    message: str
    kind: str = ""
    status: int | None = None  # where the object itself has one


def read_fault(body: str) -> Fault:
    """The fault in the body of an error answer, whatever form it has."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return Fault(body)
    return fault_of(value.get("error", value) if isinstance(value, dict) else value)


def fault_of(error: object) -> Fault:
    """The fault of an error object, or of what stands in its place."""
    if not isinstance(error, dict):
        return Fault(str(error))
    code = error.get("code")
    message = error.get("message") or error.get("detail") or json.dumps(error)
    return Fault(
        str(message),
        f"{code} {error.get('type')}",
        code if isinstance(code, int) and 400 <= code < 600 else None,
    )


def retry_after(said: str, now: datetime) -> float | None:
    """The seconds that a `Retry-After` says, as a number or as a date; None if it says neither."""
    with contextlib.suppress(ValueError):
        seconds = float(said)
        return seconds if math.isfinite(seconds) else None
    with contextlib.suppress(ValueError):
        when = parsedate_to_datetime(said)
        return (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()
    return None


def refusal(endpoint: str, model: str, status: int, fault: Fault) -> EngineError:
    """The error that an answer with this status is."""
    said = " ".join(fault.message.split())[:TOLD]
    answered = f"{endpoint} answered {status}: {said}"
    match status:
        case 401 | 403:  # without its words, which may repeat the key
            return EngineError(f"{endpoint} refused the key for model '{model}' ({status}).")
        case 404:
            return EngineError(f"{endpoint} has no model '{model}', or no chat ({status}): {said}")
        case 429:
            return RateLimited(answered)
        case _ if TOO_LONG.search(f"{fault.kind} {said}"):
            return PromptTooLong(answered)
        case 400 | 413 | 422:
            return PromptRefused(answered)
        case _ if status >= 500:
            return EndpointLost(answered)
    return EngineError(answered)
