"""One generation inside the worker: its tokens, its limit, its slot while it has one."""

from __future__ import annotations

from dataclasses import dataclass

from server.engine.kv_cache import Slot
from server.engine.protocol import Request
from server.engine.sampling import Sampler


@dataclass(slots=True, eq=False)
class Sequence:
    """Owned by the decode loop. Parked is simply: without a slot."""

    number: int
    tokens: list[int]  # the prompt, then what was generated
    prompt_tokens: int
    limit: int  # how long `tokens` may get
    sampler: Sampler
    scope: str
    slot: Slot | None = None
    cached_tokens: int | None = None  # None until it was first admitted

    @classmethod
    def of(cls, number: int, request: Request, context: int) -> Sequence:
        length = len(request.prompt)
        return cls(
            number=number,
            tokens=list(request.prompt),
            prompt_tokens=length,
            limit=min(length + request.max_tokens, context),
            sampler=Sampler(request.sampling),
            scope=request.cache_scope,
        )

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def held(self) -> Slot:
        """The slot of a sequence that is known to have one."""
        if self.slot is None:
            raise ValueError(f"sequence {self.number} has no slot")
        return self.slot

    @property
    def full(self) -> bool:
        return len(self.tokens) >= self.limit
