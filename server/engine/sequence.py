"""One generation inside the worker: its tokens, its limit, its slot while it has one."""

from __future__ import annotations

from array import array
from concurrent.futures import Future
from dataclasses import dataclass

from server.engine.constraint import Constraint, Mask
from server.engine.kv_cache import Slot
from server.engine.protocol import Request
from server.engine.sampling import Sampler


@dataclass(slots=True, eq=False)
class Sequence:
    """Owned by the decode loop. Parked is simply: without a slot."""

    number: int
    tokens: array[int]  # the prompt, then what was generated
    prompt_tokens: int
    limit: int  # how long `tokens` may get
    sampler: Sampler
    scope: str
    owner: str
    shared: int  # so many tokens of the prompt are not the owner's alone
    constraint: Constraint | None
    mask: Future[Mask] | None = None  # of the next token, being computed
    slot: Slot | None = None
    cached_tokens: int | None = None  # None until it was first admitted
    reusable: int = 0  # how many tokens need not be decoded, as far as is known while it waits
    parked: bool = False
    forgotten: bool = False  # nothing of it is to be kept when it ends
    arrival: int = 0  # how many tokens of prompts the engine had read when this one came

    @classmethod
    def of(
        cls, number: int, request: Request, context: int, constraint: Constraint | None = None
    ) -> Sequence:
        length = len(request.prompt)
        return cls(
            number=number,
            tokens=array("i", request.prompt),
            prompt_tokens=length,
            limit=min(length + request.max_tokens, context),
            sampler=Sampler(request.sampling, request.prompt),
            scope=request.cache_scope,
            owner=request.cache_owner,
            shared=min(request.shared_tokens, length - 1),
            constraint=constraint,
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
    def left(self) -> int:
        """Tokens that are known and not decoded yet; 1 while it streams."""
        return len(self.tokens) - (self.reusable if self.slot is None else len(self.slot.tokens))

    @property
    def full(self) -> bool:
        return len(self.tokens) >= self.limit
