"""The client's end of a request whose answer takes long: nobody works for one that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Receive

from server.errors import ClientGone

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """Of a request whose body was read: all that can still come is its end."""

    receive: Receive

    async def unless_closed(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of the work, which ends with the connection. Raises ClientGone."""
        working = asyncio.create_task(work)
        closing = asyncio.create_task(self._closed())
        try:
            await asyncio.wait((working, closing), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone("The client went away before it was answered.")
            return working.result()
        finally:
            working.cancel()
            closing.cancel()

    async def _closed(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def connection(request: Request) -> ClientConnection:
    return ClientConnection(request.receive)


Connected = Annotated[ClientConnection, Depends(connection)]
