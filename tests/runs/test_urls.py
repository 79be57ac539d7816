"""URLs are words: whoever sends one, wherever it stands, the server goes to none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.api.wire import error_of
from tests.runs.searching import ASKED, Searching
from tests.runs.story import granted, refusal, written
from tests.search.documents import docx, paragraph, pdf
from tests.support import DEADLINE


class Trap:
    """A server inside, which nobody else may reach."""

    def __init__(self) -> None:
        self.visits = 0
        self.address: tuple[str, int] = ("", 0)

    @property
    def url(self) -> str:
        """Of a picture that it might have."""
        return "http://{}:{}/latest/meta-data.png".format(*self.address)

    async def visit(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count whoever comes."""
        self.visits += 1
        writer.close()

    async def visits_before_ours(self) -> int:
        """How often somebody else came: connections are taken in the order in which they came."""
        reader, writer = await asyncio.open_connection(*self.address)
        async with asyncio.timeout(DEADLINE):
            await reader.read()  # until it is ours that was taken
        writer.close()
        await writer.wait_closed()
        return self.visits - 1


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    """On loopback, as a service of the server's own machine or network would be."""
    trap = Trap()
    async with await asyncio.start_server(trap.visit, "127.0.0.1", 0) as listening:
        trap.address = listening.sockets[0].getsockname()
        yield trap


def image(url: str) -> dict[str, Any]:
    """A part of a message."""
    return {"type": "image_url", "image_url": {"url": url}}


def refers_to(url: str) -> dict[str, Any]:
    """A schema that is somewhere else."""
    return {"type": "object", "properties": {"a": {"$ref": url}}}


async def test_pictures_are_not_fetched(searching: Searching, trap: Trap) -> None:
    """No model here sees: the run fails, and a completion is refused, without a look at them."""
    message = {"role": "user", "content": [image(trap.url)]}
    granted(await searching.http.post(f"{searching.url}/messages", json=message))
    run = await searching.run()
    assert (run["status"], run["last_error"]["code"]) == ("failed", "invalid_prompt")
    completion = {"model": "gpt-4o", "messages": [message]}
    answer = await searching.http.post("/v1/chat/completions", json=completion)
    assert error_of(answer)["param"] == "messages[0].content[0]"
    assert await trap.visits_before_ours() == 0


async def test_schemas_are_not_fetched(searching: Searching, trap: Trap) -> None:
    """Strict ones are refused for what is not in them; of others that part is let go."""
    function = {"name": "f", "parameters": refers_to(trap.url)}
    tool = {"type": "function", "function": function}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": refers_to(trap.url)}}
    searching.engine.says("{}")
    run = await searching.run(tools=[tool], response_format=form)
    assert run["status"] == "completed"
    strict = {**tool, "function": {**function, "strict": True}}
    assert refusal(await searching.create(tools=[strict]))
    assert await trap.visits_before_ours() == 0


async def test_documents_fetch_nothing(searching: Searching, trap: Trap) -> None:
    """Pictures, styles, scripts, links and entities in them are as good as not there."""
    url = trap.url
    entity = f'<!DOCTYPE d [<!ENTITY x SYSTEM "{url}">]>'
    page = (
        f'<base href="{url}"><link rel="stylesheet" href="{url}"><script src="{url}"></script>'
        f'<meta http-equiv="refresh" content="0; url={url}"><img src="{url}"><iframe src="{url}">'
        "</iframe>Things can be returned."
    )
    files = {
        "page.html": page.encode(),
        "notes.md": f"![]({url}) <img src={url}> Things.".encode(),
        "told.pdf": pdf([f"See {url}"]),
        "told.docx": docx(paragraph(f"See {url}")),
        "entity.docx": docx(paragraph("&x;"), prolog=entity),
    }
    ids = []
    for name, content in files.items():
        sent = {"file": (name, content), "purpose": (None, "assistants")}
        ids.append(granted(await searching.http.post("/v1/files", files=sent))["id"])
    store = granted(await searching.http.post("/v1/vector_stores", json={"file_ids": ids}))
    assert await searching.server.services.ingestor.wait_ready(store["id"], DEADLINE)
    now = granted(await searching.http.get(f"/v1/vector_stores/{store['id']}"))
    assert (now["file_counts"]["completed"], now["file_counts"]["failed"]) == (4, 1)
    await searching.search_in(store["id"])
    searching.engine.says(ASKED)
    searching.engine.says("See there [1].")
    assert (await searching.run())["status"] == "completed"
    assert await trap.visits_before_ours() == 0


async def test_words_are_not_followed(searching: Searching, trap: Trap) -> None:
    """Neither a client's, nor a model's, nor those that a function gave."""
    await searching.say(f"Read {trap.url}")
    searching.engine.says(written(("get_weather", f'{{"city": "{trap.url}"}}')))
    searching.engine.says(f"![]({trap.url})")
    waiting = await searching.run(metadata={"url": trap.url})
    granted(await searching.submit(waiting, trap.url))
    assert (await searching.settled(waiting))["status"] == "completed"
    assert await trap.visits_before_ours() == 0
