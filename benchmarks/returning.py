"""A thread that comes back: how long it waits for its first token, by where its past is kept.

Each tier is a server of ours that keeps an idle thread's tokens in one place only, and serves
another thread before the first one returns. The run's own `cached_tokens` tell whether they were
found there. Beside them llama-server, to which the whole
conversation is sent again, as its clients do; nobody else speaks to it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.answers import Answer, AssistantsSpeaker, ChatSpeaker, heard
from benchmarks.peers import NotBuilt
from benchmarks.prompts import Prompts
from benchmarks.samples import Samples
from benchmarks.servers import Loading, llama_server, our_server

GIB = 1 << 30
TURNS = 4  # in which a history comes about
ANSWER = 16
QUESTION = 30
STILL = 0.5  # a folder that does not change for this long has been written


@dataclass(frozen=True, slots=True)
class Tier:
    """A place for the past of an idle thread, and the settings that leave no other."""

    name: str
    settings: Mapping[str, int]
    restarts: bool = False


FULL_PREFILL = "full prefill"
NOTHING = {"idle_cells": 0, "cache_ram_bytes": 0, "cache_disk_bytes": 0}


def tiers(loading: Loading) -> list[Tier]:
    """From the fastest to none."""
    on_disk = {**NOTHING, "cache_disk_bytes": 16 * GIB}
    return [
        Tier("live", {**NOTHING, "idle_cells": loading.cells}),
        Tier("RAM", {**NOTHING, "cache_ram_bytes": 8 * GIB}),
        Tier("disk", on_disk),
        Tier("after a restart", on_disk, restarts=True),
        Tier(FULL_PREFILL, NOTHING),
    ]


def case(history: int) -> str:
    """The name under which a history's length is reported."""
    return f"{history:,} tokens of history"


class Home(Protocol):
    """A server with one thread that goes away and comes back."""

    name: str

    def serving(self) -> AbstractContextManager[None]:
        """Run the server until the block ends."""
        ...

    def leave(self) -> None:
        """Let the thread's past get to where it is kept."""
        ...

    async def say(self, text: str) -> Answer:
        """The next message of the thread, and its answer."""
        ...


class TierHome:
    """Our server, set up to have one tier. Its data outlives the server."""

    def __init__(self, tier: Tier, loading: Loading, data: Path) -> None:
        self.name = tier.name
        self._tier = tier
        self._loading = loading
        self._data = data
        self._running = contextlib.ExitStack()
        self._port = 0
        self._assistant = ""
        self._thread = ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._running.close()

    def leave(self) -> None:
        asyncio.run(self._serve_another())
        if self._tier.settings["cache_disk_bytes"]:
            _wait_until_still(self._data)
        if self._tier.restarts:
            self._running.close()
            self._start()

    async def say(self, text: str) -> Answer:
        if self._thread:
            speaker = AssistantsSpeaker(self._port, self._assistant)
            return await speaker.go_on(self._thread, text, ANSWER)
        speaker = await AssistantsSpeaker.on(self._port)
        answer = await heard(await speaker.start(text, ANSWER))
        self._assistant, self._thread = speaker.assistant, answer.thread
        return answer

    async def _serve_another(self) -> None:
        """Beside whom nothing idle stays in the context that is not to be live."""
        await heard(await (await AssistantsSpeaker.on(self._port)).start("Hello", ANSWER))

    def _start(self) -> None:
        server = our_server(self._loading, self._data, **self._tier.settings)
        self._port = self._running.enter_context(server).port


class LlamaServerHome:
    """llama-server, whose client keeps the conversation."""

    name = "llama-server, live"

    def __init__(self, loading: Loading) -> None:
        self._loading = loading
        self._messages: list[dict[str, str]] = []

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        with llama_server(self._loading) as server:
            self._speaker = ChatSpeaker(server.port)
            yield

    def leave(self) -> None:
        """It keeps the slot's tokens until somebody else needs them."""

    async def say(self, text: str) -> Answer:
        self._messages.append({"role": "user", "content": text})
        answer = await heard(await self._speaker.send(self._messages, ANSWER))
        self._messages.append({"role": "assistant", "content": answer.text})
        return answer


@contextlib.contextmanager
def homes(loading: Loading, folder: Path) -> Iterator[list[Home]]:
    """A running server for each tier, and llama-server if it is built."""
    made: list[Home] = [
        TierHome(tier, loading, folder / tier.name.replace(" ", "-")) for tier in tiers(loading)
    ]
    with contextlib.ExitStack() as stack:
        for home in made:
            stack.enter_context(home.serving())
        with contextlib.suppress(NotBuilt):
            peer = LlamaServerHome(loading)
            stack.enter_context(peer.serving())
            made.append(peer)
        yield made


async def grow(home: Home, history: int, prompts: Prompts) -> None:
    """A thread of `history` tokens: long questions, and the model's answers."""
    for _ in range(TURNS):
        await home.say(prompts.of(history // TURNS - ANSWER))


def measure(turn: int, home: Home, history: int, prompts: Prompts, samples: Samples) -> None:
    """The thread goes away, and comes back with a short question."""
    home.leave()
    answer = asyncio.run(home.say(prompts.of(QUESTION)))
    samples.add(
        turn,
        case(history),
        home.name,
        first_median=answer.first_token_after,
        prompt_tokens=answer.prompt_tokens,
        cached_share=answer.cached_tokens / answer.prompt_tokens,
    )


def _wait_until_still(folder: Path) -> None:
    """Snapshots are written behind the answer."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < STILL:
        size = _size_of(folder)
        if size != before:
            before, since = size, time.monotonic()
        time.sleep(STILL / 10)


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
