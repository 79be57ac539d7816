"""How much memory a model will take, from its file's header and its settings, before it is loaded.

An estimate for one address space: weights, the cache, what one decode step needs, the process. It
is compared in the tests with what llama.cpp takes, and made to be rather a little too large. Of a
model that only partly computes on a GPU, the GPU's part is what is counted there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from server.engine.gguf import GGUF, NotGGUF
from server.engine.settings import EngineSettings

LARGEST_DEFAULT_CONTEXT: Final = 32_768
SMALLEST_DEFAULT_CONTEXT: Final = 2048
LARGEST_TEXT: Final = 8192  # of an embedding model: it reads a text in one step
# A context for every slot costs next to nothing with a small model; with a large one it would take
# all memory, and few threads are ever that long at once.
SMALL_CACHE: Final = 1 << 30
CONTEXTS_OF_LARGE_MODEL: Final = 4

# What is left of the room goes to more cells, to snapshots of threads, and to the next model.
SHARE_FOR_CELLS: Final = 0.5
SHARE_FOR_SNAPSHOTS: Final = 0.25
MOST_SNAPSHOTS: Final = 8 << 30
SNAPSHOTS_OF_A_CACHE: Final = 4  # how many times what all slots hold is worth keeping

CELL_BOOKKEEPING: Final = 128  # bytes llama.cpp spends on a cell besides its keys and values
PROCESS: Final = 80 << 20  # the interpreter, its libraries, the vocabulary
TYPE_BYTES: Final = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
MOST_LAYERS: Final = 10_000  # no model has a tenth of it
POOLED: Final = frozenset({1, 2, 3})  # mean, first token, last token
RANKED: Final = 4


class CannotFit(Exception):
    """The model needs more memory than there is for all models together."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: of all weights, of a cell, of a slot, of a step and all else."""

    weights: int
    cell: int
    slot: int
    fixed: int

    def total(self, cells: int, slots: int) -> int:
        return self.weights + cells * self.cell + slots * self.slot + self.fixed

    def part(self, share: float) -> Footprint:
        """Of this share of the layers. Steps go to the GPU with any, as long prompts do anyway."""
        weights, cell, slot = (int(size * share) for size in (self.weights, self.cell, self.slot))
        return Footprint(weights, cell, slot, self.fixed)


@dataclass(frozen=True, slots=True)
class Fit:
    """How a model is to be loaded: its sizes in tokens, and the bytes that it takes then."""

    context: int
    cells: int
    snapshots: int  # bytes of its threads' saved states, which `bytes` has in it
    bytes: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What a model asks for, in tokens. Its context may be made less, down to `shortest`."""

    path: Path
    takes: Footprint
    slots: int
    context: int
    shortest: int
    cells: int | None = None  # None: as many as are of use
    snapshots: int | None = None  # bytes; None: as many as are of use
    dimensions: int = 0  # of its vectors; 0: it writes, and has none
    ranks: bool = False  # a vector is how well a text answers a query
    whole_cell: int | None = None  # bytes, wherever they are; None: all that it takes is counted

    @property
    def embeds(self) -> bool:
        return self.dimensions > 0

    def smallest(self, memory: int) -> Fit:
        """With room for one sequence. Raises CannotFit if even that takes more than `memory`."""
        context = self.context
        while self._bytes(context) > memory:
            if context // 2 < self.shortest:
                raise CannotFit(self._refusal(context, memory))
            context //= 2
        return self._fit(context, self.cells or context, self.snapshots or 0)

    def best(self, memory: int, room: int) -> Fit:
        """With more cells and snapshots, out of the room that the smallest fit leaves."""
        least = self.smallest(memory)
        # More cells cost their whole size, wherever they are: the other memory is not known.
        spare, cell = max(0, room - least.bytes), self._whole_cell
        useful = self._useful(least.context)
        cells = self.cells or min(useful, least.context + int(spare * SHARE_FOR_CELLS) // cell)
        if self.snapshots is not None:
            return self._fit(least.context, cells, self.snapshots)
        most = SNAPSHOTS_OF_A_CACHE * useful * cell
        return self._fit(least.context, cells, min(most, affordable_snapshots(spare)))

    def affordable_cells(self, context: int, free: int) -> int:
        """Where nobody has counted what the model may have: a share of what is free, if need be."""
        useful = self._useful(context)
        if useful * self._whole_cell <= SMALL_CACHE:
            return useful
        return max(context, min(useful, int(free * SHARE_FOR_CELLS) // self._whole_cell))

    def _useful(self, context: int) -> int:
        everything = context * self.slots
        if everything * self._whole_cell <= SMALL_CACHE:
            return everything
        return context * min(self.slots, CONTEXTS_OF_LARGE_MODEL)

    @property
    def _whole_cell(self) -> int:
        return max(1, self.takes.cell) if self.whole_cell is None else self.whole_cell

    def _bytes(self, context: int) -> int:
        return self.takes.total(self.cells or context, self.slots) + (self.snapshots or 0)

    def _fit(self, context: int, cells: int, snapshots: int) -> Fit:
        return Fit(context, cells, snapshots, self.takes.total(cells, self.slots) + snapshots)

    def _refusal(self, context: int, memory: int) -> str:
        return (
            f"{self.path} needs {self._bytes(context) >> 20} MiB of memory with a context of "
            f"{context} tokens; {memory >> 20} MiB are there for it."
        )


def affordable_snapshots(free: int) -> int:
    """Bytes of threads' saved states, out of the memory that is free."""
    return min(MOST_SNAPSHOTS, int(free * SHARE_FOR_SNAPSHOTS))


def embeds(file: GGUF) -> bool:
    """Whether the model turns a text into one vector, and does not go on writing it."""
    causal = file.metadata.get(f"{file.architecture}.attention.causal", True)
    return not causal or file.number("pooling_type") in POOLED or ranks(file)


def ranks(file: GGUF) -> bool:
    """Whether it tells how well a text answers a query."""
    return file.number("pooling_type") == RANKED


def _dimensions(file: GGUF) -> int:
    """Of its vectors; some models make longer or shorter ones than they compute with."""
    if ranks(file):
        return 1
    return file.number("embedding_length_out") or file.number("embedding_length")


def demand(file: GGUF, settings: EngineSettings, *, of_gpu: bool = False) -> Demand:
    """A context that nobody asked for is the model's own, and may be shortened.

    With `of_gpu` it is GPUs' memory that is counted, where no snapshots are. Raises NotGGUF if the
    header says what cannot be.
    """
    pooled = embeds(file)
    largest = LARGEST_TEXT if pooled else LARGEST_DEFAULT_CONTEXT
    trained = file.number("context_length") or SMALLEST_DEFAULT_CONTEXT
    context = settings.context or min(trained, largest)
    # One that pools has a cell for each token of a step, and often weights for each position.
    context = min(context, trained if pooled else settings.kv_cells or context)
    fixed = settings.context or settings.kv_cells or pooled
    rows = max(settings.batch, settings.slots, context * pooled)
    whole = footprint(file, settings, rows)
    return Demand(
        file.path,
        whole.part(_share_on_gpu(file, settings)) if of_gpu else whole,
        settings.slots,
        context,
        shortest=context if fixed else SMALLEST_DEFAULT_CONTEXT,
        cells=rows if pooled else settings.kv_cells,
        snapshots=0 if pooled or of_gpu else settings.cache_ram_bytes,
        dimensions=_dimensions(file) if pooled else 0,
        ranks=ranks(file),
        whole_cell=whole.cell,
    )


def footprint(file: GGUF, settings: EngineSettings, rows: int) -> Footprint:
    """With decode steps of so many tokens."""
    adapters = sum(Path(path).stat().st_size for path in settings.lora if Path(path).is_file())
    width, inner = file.number("embedding_length"), file.number("feed_forward_length")
    vocabulary = file.lengths.get("tokenizer.ggml.tokens", 0)
    step = rows * (8 * width + 3 * inner) * 4 + 2 * settings.slots * vocabulary * 4
    return Footprint(
        weights=sum(file.tensors.values()) + adapters,
        cell=_cache_of_token(file, settings) + _step_of_cell(file, settings, rows),
        slot=_state_of_slot(file),
        fixed=step + PROCESS,
    )


def _share_on_gpu(file: GGUF, settings: EngineSettings) -> float:
    layers = file.number("block_count")
    if settings.gpu_layers < 0 or layers == 0:
        return 1.0
    return min(1.0, settings.gpu_layers / layers)


def _cache_of_token(file: GGUF, settings: EngineSettings) -> int:
    """Keys and values in all layers; a layer without heads keeps a state instead."""
    heads = max(1, file.number("attention.head_count", 1))
    head_size = file.number("embedding_length") // heads
    keys = file.number("attention.key_length", head_size)
    values = file.number("attention.value_length", head_size)
    if file.number("attention.key_length_mla"):
        values = 0  # they are a part of the keys
    token = keys * TYPE_BYTES[settings.cache_type_k] + values * TYPE_BYTES[settings.cache_type_v]
    return int(sum(_heads_by_layer(file)) * token) + CELL_BOOKKEEPING


def _heads_by_layer(file: GGUF) -> list[int]:
    """Heads that have keys and values of their own, where the layer attends to tokens at all."""
    layers = file.number("block_count")
    if layers > MOST_LAYERS:
        raise NotGGUF(f"{file.path} is broken: it cannot have {layers} layers.")
    heads = file.numbers("attention.head_count_kv") if _has(file, "attention.head_count_kv") else ()
    heads = heads or file.numbers("attention.head_count")
    by_layer = list(islice(cycle(heads), layers))
    interval = file.number("full_attention_interval")
    if interval:  # the layers between are recurrent
        by_layer = [n if (i + 1) % interval == 0 else 0 for i, n in enumerate(by_layer)]
    return by_layer


def _has(file: GGUF, key: str) -> bool:
    return f"{file.architecture}.{key}" in file.metadata


def _step_of_cell(file: GGUF, settings: EngineSettings, rows: int) -> int:
    """Each row of a batch has a mask over all cells; without flash attention, scores as well."""
    if settings.flash_attention:
        return 2 * rows
    return (4 + 4 * file.number("attention.head_count", 1)) * rows


def _state_of_slot(file: GGUF) -> int:
    """What recurrent layers remember of a sequence, however long it is."""
    inner, state = file.number("ssm.inner_size"), file.number("ssm.state_size")
    convolved = inner + 2 * file.number("ssm.group_count") * state
    values = state * inner + max(0, file.number("ssm.conv_kernel") - 1) * convolved
    width, head = file.number("embedding_length"), file.number("wkv.head_size")
    values += width * (head + 2) if head else 0
    values += width * max(0, file.number("shortconv.l_cache") - 1)
    return 4 * values * file.number("block_count")
