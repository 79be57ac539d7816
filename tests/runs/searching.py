"""A story whose model searches files."""

from __future__ import annotations

from typing import Any

from tests.runs.story import WEATHER, Json, Story, granted, written

SEARCH: Json = {"type": "file_search"}
CONTENT = "step_details.tool_calls[*].file_search.results[*].content"
RETURNS = "Things can be returned within 30 days if the box was kept.\n"
SHIPPING = "Parcels are shipped from Oslo within two days.\n"
ASKED = written(("file_search", '{"query": "how long can things be returned"}'))


class Searching(Story):
    """A story whose assistant has a vector store."""

    @classmethod
    def of(cls, story: Story) -> Searching:
        """The same story, which can also search."""
        return cls(story.server, story.engine, story.http, story.assistant_id, story.thread_id)

    async def upload(self, name: str, text: str) -> str:
        """A new file."""
        sent = {"file": (name, text.encode()), "purpose": (None, "assistants")}
        file_id: str = granted(await self.http.post("/v1/files", files=sent))["id"]
        return file_id

    async def store(self, **files: str) -> str:
        """A vector store whose files are all there."""
        ids = [await self.upload(f"{name}.md", text) for name, text in files.items()]
        made = granted(await self.http.post("/v1/vector_stores", json={"file_ids": ids}))
        assert await self.server.services.ingestor.wait_ready(made["id"], 20)
        return str(made["id"])

    async def search_in(self, *store_ids: str, **settings: Any) -> None:
        """Let the assistant search there, and call a function."""
        tool = {**SEARCH, "file_search": settings} if settings else SEARCH
        resources = {"file_search": {"vector_store_ids": list(store_ids)}}
        body = {"tools": [tool, WEATHER], "tool_resources": resources}
        granted(await self.http.post(f"/v1/assistants/{self.assistant_id}", json=body))

    async def attach(self, file_id: str) -> None:
        """A message with a file to be searched, which comes into the thread's own store."""
        attached = {"file_id": file_id, "tools": [SEARCH]}
        message = {"role": "user", "content": "And this?", "attachments": [attached]}
        granted(await self.http.post(f"{self.url}/messages", json=message))


def found_in(step: Json) -> list[Json]:
    """What the one search of a step has found."""
    [call] = step["step_details"]["tool_calls"]
    results: list[Json] = call["file_search"]["results"]
    return results


def annotations(message: Json) -> list[Json]:
    """Those of a message's text."""
    found: list[Json] = message["content"][0]["text"]["annotations"]
    return found
