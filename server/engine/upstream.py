"""An OpenAI-compatible chat endpoint over HTTP: a request's JSON in, the chunks of its stream out.

Knows nothing of conversations, runs or rows. The key goes into one header and into no other place.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx2

from server.engine.chunks import Chunk, ChunkReader
from server.engine.protocol import EndpointLost, EngineError, EngineUnavailable
from server.engine.refusals import Fault, fault_of, read_fault, refusal, retry_after

log = logging.getLogger(__name__)

CONNECT_WITHIN: Final = 10.0
RETRY_AFTER: Final = (0.2, 0.8)  # seconds before each further attempt to be heard
PUTS_OFF: Final = frozenset({429, 503})  # if it says for how long
SHORTEST_PAUSE: Final = 1.0  # whatever an endpoint says, it is not to be asked without end
LONGEST_PAUSE: Final = 60.0  # of all pauses of one answer together
DONE: Final = "[DONE]"
LONGEST_FAULT: Final = 65_536  # bytes of an error answer that are read

Give = Callable[[Chunk], None]


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """A model of an endpoint. `timeout`: seconds for which the endpoint may say nothing."""

    url: str  # what the SDKs call the base URL
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0


class ChatEndpoint:
    """One model of an endpoint. Owned by the loop that it is used on."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.model = settings.model
        self.name = f"The endpoint {shown(settings.url)}"
        self._url = f"{settings.url.rstrip('/')}/chat/completions"
        self._key = settings.key
        self._timeout = settings.timeout
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {settings.key}"} if settings.key else {},
            timeout=httpx2.Timeout(settings.timeout, connect=CONNECT_WITHIN, pool=None),
            limits=httpx2.Limits(max_connections=None),  # the model's slots are the limit
            trust_env=False,  # exactly the address that was configured
        )
        self._reading: set[asyncio.Task[None]] = set()

    def ask(self, body: Mapping[str, object]) -> Answer:
        """Ask for a completion; it is on its way at once."""
        wanted = {"stream": True, "stream_options": {"include_usage": True}}
        answer = Answer(lambda give: self._read({"model": self.model, **body, **wanted}, give))
        self._reading.add(answer.reading)
        answer.reading.add_done_callback(self._reading.discard)
        return answer

    async def close(self) -> None:
        for reading in [*self._reading]:
            reading.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await self._client.aclose()

    async def _read(self, body: Mapping[str, object], give: Give) -> None:
        response = await self._heard_out(json.dumps(body).encode())
        try:
            if response.status_code != 200:
                raise self._refused(response.status_code, read_fault(await _start_of(response)))
            await self._read_events(response, give)
        except httpx2.TimeoutException as error:
            raise self._silent() from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise EndpointLost(f"{self.name} broke off its answer: {_reason(error)}") from error
        finally:
            await response.aclose()

    async def _heard_out(self, content: bytes) -> httpx2.Response:
        """The head of an answer, after the pauses that the endpoint asks for if they are short."""
        left = LONGEST_PAUSE
        while True:
            response = await self._send(content)
            pause = _pause(response)
            if pause is None or pause > left:
                return response
            await response.aclose()
            log.info("endpoint.puts_off model=%s seconds=%.0f", self.model, pause)
            await asyncio.sleep(pause)
            left -= pause

    async def _send(self, content: bytes) -> httpx2.Response:
        """The head of the answer. Nothing was written before it, so it can be asked for again."""
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # what packs a stream holds it back
        }
        for delay in (*RETRY_AFTER, None):
            request = self._client.build_request(
                "POST", self._url, content=content, headers=headers
            )
            try:
                return await self._client.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if delay is None:
                    reason = _reason(error)
                    raise EngineUnavailable(f"{self.name} cannot be reached: {reason}") from error
            except httpx2.TimeoutException as error:
                raise self._silent() from error
            except httpx2.TransportError as error:  # such as a connection kept for too long
                if delay is None:
                    reason = _reason(error)
                    raise EndpointLost(f"{self.name} did not answer: {reason}") from error
            await asyncio.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    async def _read_events(self, response: httpx2.Response, give: Give) -> None:
        response.encoding = "utf-8"  # what event streams are in, whatever the head says
        chunks = ChunkReader()
        begun = ended = False
        async for event in httpx2.EventSource(response):
            if event.data.strip() == DONE:
                ended = begun
                break
            if event.data.strip():  # else it only keeps the connection alive
                chunk = self._chunk(event.data, chunks)
                begun, ended = True, ended or bool(chunk.finish_reason)
                give(chunk)
        if not ended:
            raise EndpointLost(f"{self.name} ended its answer in the middle.")

    def _chunk(self, data: str, chunks: ChunkReader) -> Chunk:
        try:
            chunk = chunks.read(data)
        except (ValueError, RecursionError) as error:
            raise EndpointLost(f"{self.name} sent what is no chunk of an answer.") from error
        if chunk.error is not None:
            fault = fault_of(chunk.error)
            raise self._refused(fault.status or 500, fault)
        return chunk

    def _refused(self, status: int, fault: Fault) -> EngineError:
        if self._key:
            fault = Fault(fault.message.replace(self._key, "***"), fault.kind)
        return refusal(self.name, self.model, status, fault)

    def _silent(self) -> EndpointLost:
        return EndpointLost(f"{self.name} said nothing for {self._timeout:g} seconds.")


class Answer:
    """The chunks of one answer, as they come: iterate it to its end, or to an EngineError.

    A task of its own reads them, so that `cancel` closes the connection whatever its caller does.
    """

    def __init__(self, read: Callable[[Give], Coroutine[None, None, None]]) -> None:
        self._chunks: deque[Chunk] = deque()
        self._news = asyncio.Event()
        self.reading = asyncio.create_task(read(self._add))
        self.reading.add_done_callback(self._over)

    def cancel(self) -> None:
        self.reading.cancel()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            while self._chunks or not self.reading.done():
                await self._news.wait()
                self._news.clear()
                while self._chunks:
                    yield self._chunks.popleft()
        finally:
            self.reading.cancel()
        if not self.reading.cancelled():
            self.reading.result()

    def _add(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._news.set()

    def _over(self, reading: asyncio.Task[None]) -> None:
        """Its error is for whoever iterates, and for nobody if nobody does."""
        if not reading.cancelled():
            reading.exception()
        self._news.set()


def shown(url: str) -> str:
    """A URL without the name and password that may stand in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


async def _start_of(response: httpx2.Response) -> str:
    """As much of an error answer as is looked at."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) >= LONGEST_FAULT:
            break
    return body[:LONGEST_FAULT].decode("utf-8", "replace")


def _pause(response: httpx2.Response) -> float | None:
    """For how many seconds the endpoint puts us off; None if it does not."""
    if response.status_code not in PUTS_OFF:
        return None
    asked = retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
    return None if asked is None else max(SHORTEST_PAUSE, asked)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
