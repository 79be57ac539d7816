"""What a request wants done where its thread is busy."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends
from starlette.requests import Request

from server.api.validation import wrong_choice
from server.config import BUSY_POLICIES, BusyPolicy

HEADER: Final = "X-Busy-Policy"


async def busy_policy(request: Request) -> BusyPolicy | None:
    """None where it does not say: then its project's holds, or the server's.

    Raises InvalidRequest for a policy that is none.
    """
    given = request.headers.get(HEADER)
    if given is None:
        return None
    for policy in BUSY_POLICIES:
        if given == policy:
            return policy
    raise wrong_choice(HEADER, BUSY_POLICIES, given)


Busy = Annotated[BusyPolicy | None, Depends(busy_policy)]
