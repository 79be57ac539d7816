"""Each kind of model, wherever its prefix comes from: the same logits, within rounding.

What else is in a batch changes how llama.cpp rounds, so greedy texts may part where two tokens are
nearly as good. Logits are compared, with another prefix as contrast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from server.engine.archive import SnapshotFiles
from server.engine.backend import Logits, Outcome
from server.engine.batch import Batch, Part
from server.engine.decoder import Decoder
from server.engine.llama import DecodeFailed, ErrorLog, LlamaBackend, Model
from server.engine.protocol import Request, Sampling
from server.engine.settings import EngineSettings
from server.engine.snapshots import Fetched, SnapshotStore, Written
from tests.engine.models import KINDS, WINDOW, write_model

SETTINGS = EngineSettings(slots=4, context=512, kv_cells=2048, threads=1, gpu_layers=0, batch=128)
ROUNDING = 0.02  # standard deviations of the logits
CONTRAST = 0.1  # what another prefix is off by, at least
PATIENCE = 20.0
ANY = 1 << 30  # bytes that a state may have


class Heard(LlamaBackend):
    """Keeps the logits that were sampled from."""

    def __init__(self, model: Model, settings: EngineSettings = SETTINGS) -> None:
        super().__init__(model, settings)
        self.rows: list[Logits] = []
        self.cuts_short = False  # its steps, as soon as they have begun

    def decode(self, batch: Batch) -> Outcome:
        if self.cuts_short:
            self.interrupt()
        return super().decode(batch)

    def logits(self, rows: Sequence[int]) -> Logits:
        logits = super().logits(rows)
        self.rows.extend(logits.copy())
        return logits

    def empty(self) -> None:
        """As it was at the start."""
        self.rows = []
        self.cuts_short = False
        self.resume()
        for slot in range(self.slots):
            self.cut(slot, 0)


@pytest.fixture(scope="module", params=KINDS)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model_path: Path
) -> Iterator[Heard]:
    """A context of each kind of model."""
    path = tmp_path_factory.mktemp("models") / f"{request.param}.gguf"
    write_model(request.param, path, model_path)
    backend = Heard(Model(str(path), SETTINGS, ErrorLog()))
    yield backend
    backend.close()


@pytest.fixture(autouse=True)
def _empty(backend: Heard) -> None:
    backend.empty()


@dataclass(frozen=True, slots=True)
class Said:
    """A greedy answer, and the logits of each of its tokens."""

    tokens: list[int]
    rows: list[Logits]
    cached: int


class Served:
    """A decoder over a context that is empty."""

    def __init__(
        self, backend: Heard, *, memory: int = 0, folder: Path | None = None, idle: int = 4096
    ) -> None:
        backend.empty()
        self._backend = backend
        self._news = SimpleQueue[Written | Fetched]()
        self._files = SnapshotFiles(folder, self._news.put) if folder is not None else None
        self.store = SnapshotStore(
            memory_limit=memory,
            disk_limit=1 << 30,
            archive=self._files,
            one_per_owner=backend.rolls_back,
        )
        for snapshot in self._files.stored() if self._files is not None else ():
            self.store.adopt(snapshot)
        sizes = EngineSettings(batch=SETTINGS.batch, idle_cells=idle)
        self.decoder = Decoder(backend, sizes, self.store)

    def say(self, prompt: list[int], most: int = 8, *, owner: str = "x", shared: int = 0) -> Said:
        """What it says to this, alone."""
        rows, tokens = len(self._backend.rows), list[int]()
        self.decoder.submit(1, Request(prompt, most, GREEDY, "", owner, shared))
        while True:
            while self.decoder.blocked:
                self.decoder.receive(self._news.get(timeout=PATIENCE))
            step = self.decoder.step()
            tokens += [token.id for token in step.tokens]
            if step.ends:
                return Said(tokens, self._backend.rows[rows:], step.ends[0].cached_tokens)

    def close(self) -> None:
        """Save all, as at the end of a process."""
        self.decoder.save_all()
        while self.decoder.saving:
            self.decoder.receive(self._news.get(timeout=PATIENCE))
        if self._files is not None:
            self._files.close(PATIENCE)


GREEDY = Sampling(temperature=0)


def prompt_of(length: int, seed: int = 1) -> list[int]:
    """Plain tokens."""
    return np.random.default_rng(seed).integers(300, 1500, length).tolist()


FIRST = prompt_of(150)
REST = prompt_of(10, seed=2)


def distance(left: Logits, right: Logits) -> float:
    """The largest difference, in standard deviations."""
    return float(np.abs(left - right).max() / np.std(left))


def agree(left: Said, right: Said) -> None:
    """The same logits for each token, up to where rounding made another one the best."""
    for number, (mine, other) in enumerate(zip(left.rows, right.rows, strict=False)):
        assert distance(mine, other) < ROUNDING
        if left.tokens[number : number + 1] != right.tokens[number : number + 1]:
            return
    assert left.tokens == right.tokens


def cold(backend: Heard, prompt: list[int]) -> Said:
    """What it says when all of the prompt is read; another beginning makes it say otherwise."""
    said = Served(backend).say(prompt)
    other = Served(backend).say(prompt_of(len(prompt) - 10, seed=9) + prompt[-10:])
    assert said.cached == other.cached == 0
    assert distance(said.rows[0], other.rows[0]) > CONTRAST
    return said


def second_turn(said: Said) -> list[int]:
    """The prompt of the next turn."""
    return FIRST + said.tokens + REST


def test_what_can_be_cut_is_told_by_the_architecture(backend: Heard) -> None:
    """Only full attention has a middle to go back to; the others refuse, or forget it."""
    kind = Path(backend._model.path).stem
    assert backend.rolls_back == (kind == "llama")
    decode(backend, 0, 0, FIRST)
    if kind in {"mamba", "lfm2"}:
        with pytest.raises(DecodeFailed):
            backend.cut(0, 100)
    backend.cut(0, 0)


def test_a_live_prefix(backend: Heard) -> None:
    """The next turn of a thread goes on in its slot."""
    served = Served(backend)
    prompt = second_turn(served.say(FIRST))
    said = served.say(prompt)
    assert said.cached == 150 + 7
    agree(said, cold(backend, prompt))


def test_a_prefix_that_a_window_has_passed(backend: Heard) -> None:
    """While others use the cells that left it, and again and again."""
    served = Served(backend)
    prompt = FIRST
    for turn in range(4):
        said = served.say(prompt, owner="x")
        prompt = prompt + said.tokens + prompt_of(2 * WINDOW, seed=20 + turn)
        served.say(prompt_of(300, seed=30 + turn), owner=f"other{turn % 2}")
    said = served.say(prompt)
    assert said.cached == len(prompt) - 2 * WINDOW - 1
    agree(said, cold(backend, prompt))


def test_a_forked_prefix(backend: Heard) -> None:
    """Two threads with the same beginning: computed once, where a state has a middle."""
    served = Served(backend)
    served.say(FIRST + prompt_of(160, seed=3), owner="y")
    prompt = FIRST + REST
    said = served.say(prompt)
    assert said.cached == (150 if backend.rolls_back else 0)
    agree(said, cold(backend, prompt))


def test_a_shared_prefix_in_memory(backend: Heard) -> None:
    """Saved where the instructions end, for every kind; from the middle of a slot where it may."""
    served = Served(backend, memory=1 << 30, idle=0)
    served.say(FIRST + prompt_of(50, seed=3), owner="y", shared=150)
    prompt = FIRST + REST
    said = served.say(prompt, shared=150)
    assert said.cached == 150
    agree(said, cold(backend, prompt))


def test_a_prefix_in_memory(backend: Heard) -> None:
    """The slot was needed; the state comes back."""
    served = Served(backend, memory=1 << 30, idle=0)
    prompt = second_turn(served.say(FIRST))
    said = served.say(prompt)
    assert said.cached == 150 + 7
    agree(said, cold(backend, prompt))


def test_a_prefix_on_disk_after_a_restart(backend: Heard, tmp_path: Path) -> None:
    """The next process reads what this one has written."""
    served = Served(backend, folder=tmp_path)
    prompt = second_turn(served.say(FIRST))
    served.close()
    served = Served(backend, folder=tmp_path)
    said = served.say(prompt)
    served.close()
    assert said.cached == 150 + 7
    agree(said, cold(backend, prompt))


def test_an_answer_told_differently(backend: Heard) -> None:
    """Resumes where the prompt ended: from the middle, or from the state that was saved there."""
    served = Served(backend, memory=1 << 30, idle=0)
    served.say(FIRST)
    prompt = FIRST + REST
    said = served.say(prompt)
    assert said.cached == 150
    agree(said, cold(backend, prompt))


def test_a_prompt_that_was_cancelled_half_read(backend: Heard) -> None:
    """llama.cpp stops in the middle of a step; what was read before it stays, where it can."""
    served = Served(backend)
    prompt = prompt_of(300)
    served.decoder.submit(1, Request(prompt, 8, GREEDY))
    served.decoder.step()
    backend.cuts_short = True
    served.decoder.step()
    served.decoder.cancel(1)
    backend.cuts_short = False
    assert served.decoder.step().ends[0].reason == "cancelled"
    said = served.say(prompt)
    assert said.cached == (SETTINGS.batch if backend.rolls_back else 0)
    agree(said, cold(backend, prompt))


def decode(backend: LlamaBackend, slot: int, position: int, tokens: list[int]) -> Outcome:
    """One sequence's tokens in one step."""
    batch = Batch(SETTINGS.batch * 4)
    for start in range(0, len(tokens), SETTINGS.batch):
        part = tokens[start : start + SETTINGS.batch]
        rows = batch.fill([Part(slot, position + start, part, True)])
        outcome = backend.decode(batch)
        if outcome is not Outcome.DONE:
            return outcome
        backend.logits(rows)
    return Outcome.DONE


def test_a_state_can_be_loaded_into_any_slot(backend: Heard) -> None:
    """And goes on exactly as the one that it was taken from, which is none the worse."""
    decode(backend, 0, 0, FIRST)
    state = backend.save(0, len(FIRST), ANY)
    assert backend.load(2, state)
    for slot in (0, 2):
        decode(backend, slot, len(FIRST), REST)
    assert distance(backend.rows[-2], backend.rows[-1]) < 1e-5


def test_a_part_of_a_slot_can_be_saved(backend: Heard) -> None:
    """Its first tokens; the slot keeps all it has."""
    if not backend.rolls_back:
        pytest.skip("a state without a middle is saved whole")
    decode(backend, 0, 0, FIRST + REST)
    state = backend.save(0, 100, ANY)
    assert len(state) < len(backend.save(0, len(FIRST + REST), ANY))
    assert backend.load(1, state)
    decode(backend, 1, 100, FIRST[100:] + REST)
    decode(backend, 0, len(FIRST + REST), [5])
    decode(backend, 1, len(FIRST + REST), [5])
    assert distance(backend.rows[-2], backend.rows[-1]) < ROUNDING


def test_a_state_that_is_larger_than_it_may_be_is_not_made(backend: Heard) -> None:
    """By a byte; of a whole slot, and of a part of one where there is such a thing."""
    decode(backend, 0, 0, FIRST + REST)
    for length in (len(FIRST + REST), 100) if backend.rolls_back else (len(FIRST + REST),):
        size = len(backend.save(0, length, ANY))
        assert backend.save(0, length, size - 1) is None
        assert len(backend.save(0, length, size)) == size


def test_a_damaged_state_is_refused_and_leaves_the_slot_empty(backend: Heard) -> None:
    """One that was cut short, or is of another model."""
    decode(backend, 0, 0, FIRST)
    state = backend.save(0, len(FIRST), ANY)
    for broken in (state[:1000], np.zeros(5000, np.uint8)):
        assert not backend.load(1, broken)
        assert decode(backend, 1, 0, REST) is Outcome.DONE
        backend.cut(1, 0)


def test_a_state_without_room_is_refused(backend: Heard) -> None:
    """The context is full of others; they are none the worse."""
    if not backend.rolls_back:
        pytest.skip("a state that does not grow with its tokens always has room")
    decode(backend, 0, 0, prompt_of(400))
    state = backend.save(0, 400, ANY)
    backend.cut(0, 0)
    for slot in (1, 2, 3):
        decode(backend, slot, 0, prompt_of(600, seed=slot))
    decode(backend, 1, 600, REST)
    backend.cut(1, 600)
    assert not backend.load(0, state)
    decode(backend, 1, 600, REST)
    assert distance(backend.rows[-2], backend.rows[-1]) < ROUNDING
    backend.cut(2, 0)
    assert backend.load(0, state)


def test_sequences_of_every_kind_decode_together(backend: Heard) -> None:
    """Beside each other, in chunks, with parking: what each says alone, within rounding."""
    prompts = [prompt_of(length, seed=length) for length in (20, 90, 160, 300)]
    alone = [Served(backend).say(prompt) for prompt in prompts]
    served = Served(backend, memory=1 << 30)
    for number, prompt in enumerate(prompts):
        served.decoder.submit(number, Request(prompt, 8, GREEDY, "", f"x{number}"))
    first: dict[int, int] = {}
    while not served.decoder.idle:
        for token in served.decoder.step().tokens:
            first.setdefault(token.number, token.id)
    for number, said in enumerate(alone):
        best = np.sort(said.rows[0])
        close = (best[-1] - best[-2]) / np.std(said.rows[0]) < ROUNDING
        assert close or first[number] == said.tokens[0]
