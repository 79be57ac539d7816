"""What one caller may have: requests and tokens a minute, runs and completions at once.

All in memory, and full again when the server starts. Owned by the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from server import errors
from server.config import LARGEST

MINUTE: Final = 60.0
EVERYBODY: Final = "this server"
AT_ONCE_RETRY: Final = 5.0  # seconds after which something that is under way may have ended

Most = Annotated[int, Field(ge=0, le=LARGEST)]
Monotonic = Callable[[], float]


class Limits(BaseModel):
    """0 is no limit. Tokens are those of prompts and answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: Most = 0
    tokens_per_minute: Most = 0
    concurrent_runs: Most = 0


class OwnLimits(BaseModel):
    """Those of a key that has its own; None is what holds for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: Most | None = None
    tokens_per_minute: Most | None = None
    concurrent_runs: Most | None = None

    def over(self, limits: Limits) -> Limits:
        """These, and where there are none those."""
        return limits.model_copy(update=self.model_dump(exclude_none=True))


class Bucket:
    """So much a minute, refilled steadily. What is overdrawn has to come in again first."""

    def __init__(self, per_minute: int, monotonic: Monotonic) -> None:
        self.per_minute = per_minute
        self._monotonic = monotonic
        self._left: float = per_minute
        self._at = monotonic()

    @property
    def left(self) -> float:
        """How much is there now; less than nothing if it was overdrawn."""
        now = self._monotonic()
        self._left = min(self._left + (now - self._at) * self.per_minute / MINUTE, self.per_minute)
        self._at = now
        return self._left

    def take(self, amount: float) -> None:
        """Also what is not there."""
        self._left = self.left - amount

    def wait(self, amount: float) -> float:
        """Seconds until so much is there."""
        return max(amount - self.left, 0) * MINUTE / self.per_minute


class Allowance:
    """What a key, or everybody where there are no keys, may still have."""

    def __init__(self, key_id: str | None, limits: Limits, monotonic: Monotonic) -> None:
        self.key_id = key_id
        self.limits = limits
        self._requests = _bucket(limits.requests_per_minute, monotonic)
        self._tokens = _bucket(limits.tokens_per_minute, monotonic)
        self._completions = 0

    def take_request(self) -> None:
        """Count a request. Raises rate_limit_reached."""
        if self._requests is not None:
            self._require(self._requests, "requests")
            self._requests.take(1)

    def require_tokens(self) -> None:
        """Before a model is asked: how many it takes is known afterwards.

        Raises rate_limit_reached.
        """
        if self._tokens is not None:
            self._require(self._tokens, "tokens")

    def charge(self, tokens: int) -> None:
        """A model was asked, and it took so many."""
        if self._tokens is not None:
            self._tokens.take(tokens)

    def begin_completion(self) -> None:
        """A chat completion is written from now on. Raises too_many_at_once."""
        most = self.limits.concurrent_runs
        if most and self._completions >= most:
            raise errors.too_many_at_once("chat completions", most, AT_ONCE_RETRY)
        self._completions += 1

    def end_completion(self, tokens: int) -> None:
        """It is over, and it took so many tokens."""
        self._completions -= 1
        self.charge(tokens)

    def headers(self) -> Mapping[str, str]:
        """What the hosted API told of limits: the limit, what is left, when that is all again."""
        told: dict[str, str] = {}
        for kind, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                told[f"x-ratelimit-limit-{kind}"] = str(bucket.per_minute)
                told[f"x-ratelimit-remaining-{kind}"] = str(max(math.floor(bucket.left), 0))
                told[f"x-ratelimit-reset-{kind}"] = shown(bucket.wait(bucket.per_minute))
        return told

    def _require(self, bucket: Bucket, kind: errors.RateKind) -> None:
        if (seconds := bucket.wait(1)) > 0:
            used = math.ceil(bucket.per_minute - bucket.left)
            raise errors.rate_limit_reached(
                self.key_id or EVERYBODY, kind, bucket.per_minute, used, seconds, shown(seconds)
            )


def _bucket(per_minute: int, monotonic: Monotonic) -> Bucket | None:
    return Bucket(per_minute, monotonic) if per_minute else None


def shown(seconds: float) -> str:
    """A time as the hosted API wrote it: `120ms`, `8.64s`, `6m0s`, `1h2m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < MINUTE:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
