"""A decoder on a model made of arithmetic, stepped by hand, and what it has reported."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

from server.engine.constraint import Constraint
from server.engine.decoder import Decoder
from server.engine.messages import End, Step
from server.engine.protocol import Request, Sampling
from server.engine.settings import EngineSettings
from server.engine.snapshots import Snapshot, SnapshotStore
from tests.engine.archives import SlowArchive
from tests.engine.arithmetic import ArithmeticBackend, answer

GREEDY = Sampling(temperature=0)


class Served:
    """Time is the backend's: `backend.now`."""

    def __init__(
        self,
        backend: ArithmeticBackend,
        *,
        batch: int = 16,
        chunk: int = 4,
        idle: int = 4096,
        store: SnapshotStore | None = None,
        archive: SlowArchive | None = None,
    ) -> None:
        self.backend = backend
        self.store = store or SnapshotStore()
        self.archive = archive or SlowArchive()
        sizes = EngineSettings(batch=batch, prefill_chunk_busy=chunk, idle_cells=idle)
        self.decoder = Decoder(backend, sizes, self.store, clock=lambda: backend.now)
        self.said: dict[int, list[int]] = defaultdict(list)
        self.text: dict[int, bytes] = defaultdict(bytes)
        self.ends: dict[int, End] = {}
        self.failures: dict[int, str] = {}
        self.steps: list[Step] = []

    def ask(
        self,
        number: int,
        prompt: list[int],
        most: int = 8,
        scope: str = "",
        *,
        owner: str = "",
        shared: int = 0,
        sampling: Sampling = GREEDY,
        constraint: Constraint | None = None,
    ) -> None:
        request = Request(prompt, most, sampling, scope, owner, shared)
        self.decoder.submit(number, request, constraint)

    def ask_eight(self, steps: int) -> None:
        """Streams of forty tokens, numbered from 0, that have been at it for so many steps."""
        for number, prompt in enumerate(talkative_prompts(8)):
            self.ask(number, prompt, most=40)
        for _ in range(steps):
            self.step()

    def answer(self, number: int, prompt: list[int], most: int = 8, **request: str) -> list[int]:
        """What it says to this, with nothing else to do; its end is in `ends`."""
        self.ask(number, prompt, most, **request)  # type: ignore[arg-type]
        self.run()
        return self.said[number]

    def step(self) -> Step:
        step = self.decoder.step()
        self.steps.append(step)
        for token in step.tokens:
            assert token.number not in self.ends, "a token after the end"
            self.said[token.number].append(token.id)
            self.text[token.number] += token.text.encode("latin-1")
        for end in step.ends:
            assert end.number not in self.ends, "a second end"
            self.ends[end.number] = end
        self.failures |= {failure.number: failure.reason for failure in step.failures}
        return step

    def run(self, most: int = 2000) -> None:
        """To the end, with an archive that answers as soon as nothing else is to be done."""
        for _ in range(most):
            if self.decoder.idle:
                return
            if self.decoder.blocked:
                self.deliver()
            self.step()
        raise AssertionError("the decoder does not come to an end")

    def deliver(self, number: int = 0) -> None:
        self.decoder.receive(self.archive.deliver(number))

    def deliver_all(self) -> None:
        while self.archive.jobs:
            self.deliver()

    @property
    def cached(self) -> dict[int, int]:
        return {number: end.cached_tokens for number, end in self.ends.items()}


def tiers(
    backend: ArithmeticBackend,
    *,
    memory: int = 10_000,
    disk: int = 0,
    archive: SlowArchive | None = None,
    **sizes: int,
) -> Served:
    """A decoder with snapshots; with the archive of an earlier one, as after a restart."""
    before = archive is not None
    archive = archive or SlowArchive()
    store = SnapshotStore(
        memory_limit=memory,
        disk_limit=disk,
        archive=archive,
        one_per_owner=backend.rolls_back,
    )
    if before:
        for snapshot in left_in(archive):
            store.adopt(snapshot)
    return Served(backend, store=store, archive=archive, **sizes)  # type: ignore[arg-type]


def left_in(archive: SlowArchive) -> list[Snapshot]:
    """What a new process finds, in the order in which it was written."""
    return [
        Snapshot(old.scope, old.owner, old.tokens, old.size, path=path)
        for path, old in archive.written.items()
        if path in archive.files
    ]


def prompt_of(seed: int, length: int) -> list[int]:
    """Some prompt; different seeds differ from the first token on."""
    return [1 + (seed * 31 + position * 7) % 90 for position in range(length)]


def ending_prompt() -> list[int]:
    """A prompt that the model answers with at least one token and an end of turn."""
    return next(
        prompt
        for prompt in ([number, 5] for number in range(1, 90))
        if 0 < len(answer(prompt, 60)) < 20
    )


def talkative_prompts(count: int) -> list[list[int]]:
    """Prompts that the model answers at length."""
    prompts = (prompt_of(seed, 6) for seed in range(1000))
    return list(islice((p for p in prompts if len(answer(p, 40)) == 40), count))
