"""A client that does all it can: `python -m benchmarks.flood PORT KEY`, until SIGTERM.

What is refused with 429 is asked for again after `retry-after`, as the SDKs do.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
from collections.abc import Awaitable, Callable

import orjson

from benchmarks.exchange import Exchange
from benchmarks.ingestion import texts
from benchmarks.loader import request

RETRY_AFTER = re.compile(rb"retry-after: (\d+)")
MOST_RUNS = 200  # that wait or write
MEGABYTE = 2**20
UPLOAD = 8 * MEGABYTE
DOCUMENT = 200_000  # characters
BOUNDARY = "----flood"

Json = dict[str, object]


class Flood:
    """One key's clients."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key

    async def go(self) -> None:
        """All at once, each for ever."""
        self._assistant = (await self.post("/v1/assistants", {"model": "gpt-4o"}))["id"]
        self._thread = (await self.post("/v1/threads", {}))["id"]
        document = texts(1, DOCUMENT)[0].encode()
        works: list[Callable[[], Awaitable[object]]] = [
            *[self._message] * 4,
            *[self._list] * 4,
            *[self._completion] * 4,
            lambda: self._upload(b"x" * UPLOAD, "large.bin"),
            lambda: self._ingest(document),
        ]
        await asyncio.gather(self._runs(), *map(self._for_ever, works))

    async def _for_ever(self, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await work()

    async def _runs(self) -> None:
        """Two hundred that wait or write, as long as the key may have them."""
        thread = {"messages": [{"role": "user", "content": "Tell me a long story, please."}]}
        body = {"assistant_id": self._assistant, "thread": thread}
        for made in itertools.count(1):
            await self.post("/v1/threads/runs", body)
            while made >= MOST_RUNS and len(await self._waiting()) >= 100:  # noqa: ASYNC110
                await asyncio.sleep(0.5)

    async def _waiting(self) -> list[object]:
        page = await self._asked("GET", "/v1/threads/runs?status=queued&limit=100")
        found: list[object] = orjson.loads(page)["data"]
        return found

    async def _message(self) -> None:
        words = "What is the weather in Lisbon today?"
        await self.post(f"/v1/threads/{self._thread}/messages", {"role": "user", "content": words})

    async def _list(self) -> None:
        await self._asked("GET", f"/v1/threads/{self._thread}/messages?limit=100")

    async def _completion(self) -> None:
        messages = [{"role": "user", "content": "Tell me a long story, please."}]
        await self.post("/v1/chat/completions", {"model": "gpt-4o", "messages": messages})

    async def _upload(self, content: bytes, name: str) -> object:
        """The file's id."""
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        form = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return orjson.loads(await self._asked("POST", "/v1/files", form, kind))["id"]

    async def _ingest(self, document: bytes) -> None:
        """A vector store with a file that it does not have yet; wait until that is taken in."""
        file = await self._upload(document, "document.md")
        store = (await self.post("/v1/vector_stores", {"file_ids": [file]}))["id"]
        while True:
            found = orjson.loads(await self._asked("GET", f"/v1/vector_stores/{store}"))
            if found["status"] == "completed":
                return
            await asyncio.sleep(0.1)

    async def post(self, path: str, body: Json) -> Json:
        """As the SDKs would."""
        answer: Json = orjson.loads(await self._asked("POST", path, orjson.dumps(body)))
        return answer

    async def _asked(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> bytes:
        message = request(method, path, body, key=self._key)
        message = message.replace(b"application/json", kind.encode(), 1)
        while True:
            exchange = await Exchange.open(self._port, message)
            await exchange.done
            if exchange.status != 429:
                break
            told = RETRY_AFTER.search(exchange.arrivals[0].data.lower())
            await asyncio.sleep(float(told[1]) if told else 1.0)
        if exchange.status != 200:
            raise SystemExit(exchange.body.decode())
        return exchange.body


if __name__ == "__main__":
    asyncio.run(Flood(int(sys.argv[1]), sys.argv[2]).go())
