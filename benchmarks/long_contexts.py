"""How fast threads with a long past are answered, with flash attention and without.

The past is read once for each length, and every round goes on from it, so that what is measured is
decoding: tokens a second of all streams while all of them write. Beside our server, set up both
ways, llama-server with flash attention, which is its default. Prints medians over the rounds, and
how long the one reading took.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.answers import Answer, AssistantsSpeaker, ChatSpeaker, heard
from benchmarks.concurrency import decode_rate
from benchmarks.intervals import interval
from benchmarks.peers import NotBuilt
from benchmarks.prompts import Prompts
from benchmarks.servers import Loading, llama_server, our_server
from benchmarks.weights import SHAPES, model_file, vocabulary_words

ANSWER = 48
QUESTION = 16
TEMPLATE = 64  # tokens, at most, that it puts around a question and its answer


class Talk(Protocol):
    """A conversation on some server."""

    async def say(self, text: str) -> Answer:
        """The next message, and its answer."""
        ...


class OurTalk:
    """A thread."""

    def __init__(self, speaker: AssistantsSpeaker) -> None:
        self._speaker = speaker
        self._thread = ""

    async def say(self, text: str) -> Answer:
        if self._thread:
            return await self._speaker.go_on(self._thread, text, ANSWER)
        answer = await heard(await self._speaker.start(text, ANSWER))
        self._thread = answer.thread
        return answer


class PeerTalk:
    """Messages that are all sent again."""

    def __init__(self, speaker: ChatSpeaker) -> None:
        self._speaker = speaker
        self._messages: list[dict[str, str]] = []

    async def say(self, text: str) -> Answer:
        self._messages.append({"role": "user", "content": text})
        answer = await heard(await self._speaker.send(self._messages, ANSWER))
        self._messages.append({"role": "assistant", "content": answer.text})
        return answer


@contextlib.contextmanager
def talks(loading: Loading, folder: Path, streams: int) -> Iterator[dict[str, list[Talk]]]:
    """So many with each server, by the server's name; llama-server only if it is built."""
    made: dict[str, list[Talk]] = {}
    with contextlib.ExitStack() as stack:
        for name, flash in (("ours, flash attention", 1), ("ours, without", 0)):
            data = folder / name.replace(" ", "-")
            kept = {"flash_attention": flash, "idle_cells": loading.cells}
            ours = stack.enter_context(our_server(loading, data, **kept))
            speaker = asyncio.run(AssistantsSpeaker.on(ours.port))
            made[name] = [OurTalk(speaker) for _ in range(streams)]
        with contextlib.suppress(NotBuilt):
            peer = stack.enter_context(llama_server(loading))
            made["llama-server"] = [PeerTalk(ChatSpeaker(peer.port)) for _ in range(streams)]
        yield made


async def measure(talking: Sequence[Talk], prompts: Prompts) -> float:
    """One round with one server: tokens a second."""
    answers = await asyncio.gather(*(talk.say(prompts.of(QUESTION)) for talk in talking))
    rate = decode_rate(answers)
    if rate is None:
        raise SystemExit("The streams never wrote at the same time.")
    return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--tokens", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    model = model_file(options.shape, "q4_k_m")
    prompts = Prompts(vocabulary_words(options.shape), seed=1)
    print("| tokens before | of whom | tokens/s | read in s |")
    print("| --- | --- | --- | --- |")
    for tokens in options.tokens:
        cells = tokens + (options.rounds + 1) * (QUESTION + ANSWER + TEMPLATE)
        loading = Loading(
            model=model,
            threads=options.threads,
            cells=options.streams * cells,
            slots=options.streams,
            spin=1000,
        )
        with (
            tempfile.TemporaryDirectory() as folder,
            talks(loading, Path(folder), options.streams) as servers,
        ):
            rates: dict[str, list[float]] = {name: [] for name in servers}
            read = {
                name: sum(
                    asyncio.run(talk.say(prompts.of(tokens))).first_token_after for talk in of
                )
                for name, of in servers.items()
            }
            for number in range(options.rounds):
                for name in sorted(servers, reverse=number % 2 == 1):
                    rates[name].append(asyncio.run(measure(servers[name], prompts)))
        for name, found in rates.items():
            rate = interval(found)
            shown = f"{rate.median:.1f} ({rate.low:.1f} – {rate.high:.1f})"
            print(f"| {tokens:,} | {name} | {shown} | {read[name]:.1f} |")


if __name__ == "__main__":
    main()
