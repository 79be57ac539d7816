"""Projects that share a server, each with a key and an assistant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from server.access.keys import NewKey
from server.access.limits import OwnLimits
from tests.support import LiveServer

HELLO = {"role": "user", "content": "Hello!"}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A project with a key."""

    server: LiveServer
    http: httpx.AsyncClient
    project: str
    assistant_id: str

    async def queue(self) -> httpx.Response:
        """Ask for a run on a thread of its own."""
        body = {"assistant_id": self.assistant_id, "thread": {"messages": [HELLO]}}
        return await self.http.post("/v1/threads/runs", json=body)

    async def follow(self, run: Json, busy: str | None = None) -> httpx.Response:
        """Ask for a run on the thread of another one, with a policy for busy threads or without."""
        body = {"assistant_id": self.assistant_id}
        headers = {"X-Busy-Policy": busy} if busy else {}
        url = f"/v1/threads/{run['thread_id']}/runs"
        return await self.http.post(url, json=body, headers=headers)

    async def status(self, run: Json) -> str:
        """What has become of a run."""
        answer = await self.http.get(f"/v1/threads/{run['thread_id']}/runs/{run['id']}")
        return str(answer.json()["status"])


@asynccontextmanager
async def tenant(server: LiveServer, **limits: int) -> AsyncIterator[Tenant]:
    """Somebody whose key has these limits."""
    keys = server.services.keys
    project = (await keys.create_project("A tenant")).id
    maker = (await keys.create(NewKey(project=project)))[1]
    _, secret = await keys.create(NewKey(project=project, limits=OwnLimits(**limits)))
    async with server.sdk(api_key=maker) as sdk, server.http() as http:
        assistant = await sdk.beta.assistants.create(model="gpt-4o")
        http.headers["Authorization"] = f"Bearer {secret}"
        yield Tenant(server, http, project, assistant.id)
