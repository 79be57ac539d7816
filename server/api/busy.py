"""What a request wants done where its thread is busy."""

from __future__ import annotations

from typing import Annotated, Final, get_args

from fastapi import Depends
from starlette.requests import Request

from server.api.validation import wrong_choice
from server.config import BusyPolicy

HEADER: Final = "X-Busy-Policy"
POLICIES: Final[tuple[BusyPolicy, ...]] = get_args(BusyPolicy)


async def busy_policy(request: Request) -> BusyPolicy | None:
    """None where the setting holds. Raises InvalidRequest for a policy that is none."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    for policy in POLICIES:
        if given == policy:
            return policy
    raise wrong_choice(HEADER, POLICIES, given)


Busy = Annotated[BusyPolicy | None, Depends(busy_policy)]
