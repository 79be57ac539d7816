"""Lists are paged through while others add to them and delete from them, all at the same time."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.runs.story import granted
from tests.support import live_server

WRITERS, READERS, CHANGES = 3, 4, 30
BODIES: dict[str, dict[str, Any]] = {
    "/v1/assistants": {"json": {"model": "gpt-4o"}},
    "/v1/vector_stores": {"json": {}},
    "/v1/files": {"files": {"file": ("a.txt", b"x"), "purpose": (None, "vision")}},
    "/v1/threads/{}/messages": {"json": {"role": "user", "content": "Hi."}},
}


class Listing:
    """A list, and what is known to be in it."""

    def __init__(self, http: httpx.AsyncClient, url: str, request: dict[str, Any]) -> None:
        self.there: set[str] = set()
        self.writing = WRITERS
        self._http = http
        self._url = url
        self._request = request

    async def add(self) -> None:
        """One more at its end."""
        self.there.add(granted(await self._http.post(self._url, **self._request))["id"])

    async def write(self, chance: random.Random) -> None:
        """Add, and delete what may be a reader's cursor."""
        for _ in range(CHANGES):
            if chance.random() < 0.6 or not self.there:
                await self.add()
            else:
                deleted = chance.choice(sorted(self.there))
                self.there.remove(deleted)  # it counts no more from the moment that it is asked for
                granted(await self._http.delete(f"{self._url}/{deleted}"))
        self.writing -= 1

    async def read(self, order: str, limit: int) -> int:
        """Walk through it until nobody writes any more; how often."""
        walks = 0
        while self.writing:
            at_first = set(self.there)
            met = await self._walk({"order": order, "limit": limit})
            assert len(set(met)) == len(met)
            assert at_first & self.there <= set(met)
            walks += 1
        return walks

    async def _walk(self, query: dict[str, Any]) -> list[str]:
        met: list[str] = []
        while True:
            page = granted(await self._http.get(self._url, params=query))
            met += [each["id"] for each in page["data"]]
            if not page["has_more"]:
                return met
            query = {**query, "after": met[-1]}


@pytest.mark.parametrize("url", BODIES)
async def test_walks_while_others_write(tmp_path: Path, url: str) -> None:
    """No page repeats anything, and what is there all the while is met, in both orders."""
    async with live_server(tmp_path) as server, server.http() as http:
        thread = granted(await http.post("/v1/threads", json={}))["id"]
        listing = Listing(http, url.format(thread), BODIES[url])
        for _ in range(20):
            await listing.add()
        writing = [listing.write(random.Random(number)) for number in range(WRITERS)]
        reading = [
            listing.read(("asc", "desc")[number % 2], limit=3 + number) for number in range(READERS)
        ]
        *_, walks = await asyncio.gather(*writing, asyncio.gather(*reading))
    assert min(walks) > 2, "there was something to read meanwhile"
