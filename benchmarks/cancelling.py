"""From the wish to cancel a run to the moment at which its sequence is free again.

Ours is asked for it and says in the stream when it is over; llama-server is hung up on, and its
list of slots says when none is busy.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

import orjson

from benchmarks.answers import AssistantsSpeaker, ChatSpeaker, heard
from benchmarks.concurrency import Peer
from benchmarks.exchange import Exchange, fetch, post
from benchmarks.loader import request
from benchmarks.prompts import Prompts
from benchmarks.samples import Samples

LONG_ANSWER = 512
PART_OF_PREFILL = 0.3  # of the time that a prompt takes: when it is cancelled
GLANCE = 0.002
CANCELLED = re.compile(rb"event: thread\.run\.cancelled")

Cancel = Callable[[Exchange], Awaitable[float]]


async def measure(turn: int, peer: Peer, prompt: int, prompts: Prompts, samples: Samples) -> None:
    """One round: a run that writes, and one whose prompt is being read."""
    cancel = _cancel_of(peer)
    exchange = await peer.speaker.start(prompts.of(16), LONG_ANSWER)
    await exchange.sight(peer.speaker.first_text)
    writing = await cancel(exchange)
    whole = await heard(await peer.speaker.start(prompts.of(prompt), 16))
    exchange = await peer.speaker.start(prompts.of(prompt), LONG_ANSWER)
    await asyncio.sleep(PART_OF_PREFILL * whole.first_token_after)
    reading = await cancel(exchange)
    samples.add(turn, "cancel", peer.name, while_writing=writing, while_reading=reading)


def _cancel_of(peer: Peer) -> Cancel:
    if isinstance(peer.speaker, AssistantsSpeaker):
        return lambda exchange: _cancel_ours(peer.server.port, exchange)
    assert isinstance(peer.speaker, ChatSpeaker)
    return lambda exchange: _hang_up(peer.server.port, exchange)


async def _cancel_ours(port: int, exchange: Exchange) -> float:
    run = run_in(exchange)
    begun = time.perf_counter()
    await post(port, f"/v1/threads/{run['thread_id']}/runs/{run['id']}/cancel", {})
    return await exchange.sight(CANCELLED) - begun


def run_in(exchange: Exchange) -> dict[str, str]:
    """The run that a stream is of."""
    for event in exchange.events():
        if event.name == "thread.run.created":
            run: dict[str, str] = orjson.loads(event.data)
            return run
    raise ValueError("a stream tells its run before any text")


async def _hang_up(port: int, exchange: Exchange) -> float:
    begun = time.perf_counter()
    exchange.close()
    while await _busy_slots(port):  # noqa: ASYNC110  # only asking tells
        await asyncio.sleep(GLANCE)
    return time.perf_counter() - begun


async def _busy_slots(port: int) -> bool:
    answer = await fetch(port, request("GET", "/slots"))
    return any(slot["is_processing"] for slot in orjson.loads(answer.body))
