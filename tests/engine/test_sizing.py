"""What a model needs, read from its file before it is loaded, and what llama.cpp takes then."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from server.config import CacheType
from server.engine.client import WorkerEngine
from server.engine.gguf import GGUF, NotGGUF, find_files, read_gguf
from server.engine.gguf_writer import write_gguf
from server.engine.protocol import EngineUnavailable
from server.engine.settings import EngineSettings
from server.engine.sizing import (
    LARGEST_DEFAULT_CONTEXT,
    PROCESS,
    SMALLEST_DEFAULT_CONTEXT,
    TYPE_BYTES,
    CannotFit,
    Footprint,
    demand,
    embeds,
)
from tests.gguf_files import write_bert, write_llama

PLENTY = 1 << 40

# llama.cpp tells the size of each buffer only in its log.
LOAD = """
import sys, llama_cpp.llama_cpp as c
show = c.llama_log_callback(lambda level, text, _: sys.stdout.write(text.decode()))
c.llama_log_set(show, None)
c.llama_backend_init()
model = c.llama_model_load_from_file(sys.argv[1].encode(), c.llama_model_default_params())
p = c.llama_context_default_params()
p.n_ctx, p.n_seq_max, p.n_outputs_max = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[3])
p.n_batch = p.n_ubatch = int(sys.argv[4])
p.kv_unified, p.flash_attn_type = True, int(sys.argv[5])
p.type_k = p.type_v = int(sys.argv[6])
assert c.llama_init_from_model(model, p)
"""
F16, Q8_0 = 1, 8


def taken(path: Path, cells: int, settings: EngineSettings) -> int:
    """What llama.cpp says that it takes for a model and a context, in bytes."""
    numbers = (cells, settings.slots, settings.batch, int(settings.flash_attention))
    kind = Q8_0 if settings.cache_type_k == "q8_0" else F16
    command = (sys.executable, "-c", LOAD, path, *numbers, kind)
    log = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    sizes = re.findall(r"buffer size = +([\d.]+) MiB", log)
    assert len(sizes) >= 4, log
    return int(sum(map(float, sizes)) * 2**20)


SMALL = EngineSettings(slots=4, batch=128)
QUANTISED = replace(SMALL, cache_type_k="q8_0", cache_type_v="q8_0")


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ({}, EngineSettings()),
        ({"vocabulary": 20_000, "width": 128, "inner": 768}, EngineSettings()),
        ({"width": 512, "inner": 1024, "heads": 8, "kv_heads": 8, "layers": 3}, SMALL),
        ({"width": 256, "heads": 4, "kv_heads": 1}, replace(SMALL, flash_attention=False)),
        ({"width": 512, "heads": 4}, QUANTISED),
    ],
)
def test_the_estimate_is_what_llama_cpp_takes_and_a_little_more(
    tmp_path: Path, shape: dict[str, int], settings: EngineSettings
) -> None:
    """For any shape, and any way to keep the cache: never less, and less than a third too much."""
    path = write_llama(tmp_path / "model.gguf", **shape)
    cells = 16_384
    real = taken(path, cells, settings)
    estimate = takes(read_gguf(path), settings).total(cells, settings.slots) - PROCESS
    assert real <= estimate <= 1.34 * real


def test_the_estimate_holds_for_the_bundled_model(model_path: Path) -> None:
    """As it is loaded by default."""
    settings = EngineSettings()
    fit = demand(read_gguf(model_path), settings).best(PLENTY, PLENTY)
    real = taken(model_path, fit.cells, settings)
    assert real <= fit.bytes - fit.snapshots - PROCESS <= 1.25 * real


def takes(file: GGUF, settings: EngineSettings) -> Footprint:
    """What a model takes by its parts."""
    return demand(file, settings).takes


def llama(folder: Path, **shape: object) -> GGUF:
    """The header of a model of this shape."""
    return read_gguf(write_llama(folder / "model.gguf", **shape))  # type: ignore[arg-type]


def test_weights_are_the_tensors_with_all_parts_and_adapters(tmp_path: Path) -> None:
    """A model that was split into several files is one model."""
    one = llama(tmp_path)
    adapter = tmp_path / "style.gguf"
    adapter.write_bytes(b"x" * 1000)
    whole = takes(one, EngineSettings()).weights
    assert takes(one, EngineSettings(lora={str(adapter): 1.0})).weights == whole + 1000
    for number in (1, 2):
        write_llama(tmp_path / f"big-0000{number}-of-00002.gguf")
    parts = read_gguf(tmp_path / "big-00001-of-00002.gguf")
    assert parts.tensors == one.tensors  # the same names here; a real second part has others
    assert dict(find_files(tmp_path)) == {
        "big": tmp_path / "big-00001-of-00002.gguf",
        "model": tmp_path / "model.gguf",
        "style": adapter,
    }


def test_a_file_whose_name_is_no_text_is_left_out(tmp_path: Path) -> None:
    """Nobody could ask for it; and a list that had such an id could not be sent."""
    for name in ("größe.gguf", "caf\udce9.gguf", "two\nlines.gguf"):
        (tmp_path / name).touch()
    assert dict(find_files(tmp_path)) == {"größe": tmp_path / "größe.gguf"}


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    """A split model needs all of its files."""
    path = write_llama(tmp_path / "big-00001-of-00002.gguf")
    with pytest.raises(NotGGUF, match=r"There is no file .*big-00002-of-00002\.gguf"):
        read_gguf(path)


def test_a_context_that_nobody_asked_for_is_made_to_fit(tmp_path: Path) -> None:
    """It is halved until the memory suffices; one that was asked for is refused instead."""
    file = llama(tmp_path, context=100_000, layers=4, kv_heads=4)
    settings = EngineSettings()
    wanted = demand(file, settings)
    assert wanted.smallest(PLENTY).context == LARGEST_DEFAULT_CONTEXT
    tight = wanted.takes.total(LARGEST_DEFAULT_CONTEXT // 2, settings.slots)
    fit = wanted.smallest(tight)
    assert (fit.context, fit.cells, fit.bytes) == (16_384, 16_384, tight)
    assert fit.snapshots == 0
    with pytest.raises(CannotFit) as refusal:
        demand(file, replace(settings, context=100_000)).smallest(tight)
    needed = wanted.takes.total(100_000, settings.slots) >> 20
    assert str(refusal.value) == (
        f"{file.path} needs {needed} MiB of memory with a context of 100000 tokens; "
        f"{tight >> 20} MiB are there for it."
    )
    with pytest.raises(CannotFit, match=f"context of {SMALLEST_DEFAULT_CONTEXT} tokens"):
        wanted.smallest(wanted.takes.total(0, settings.slots))


@pytest.mark.parametrize("context", [2048, None])
def test_a_context_is_no_longer_than_the_cells_that_hold_it(
    tmp_path: Path, context: int | None
) -> None:
    """Whoever asks hears what the engine can do. An embedding model has cells of its own."""
    settings = EngineSettings(context=context, kv_cells=512)
    wanted = demand(llama(tmp_path, context=4096), settings)
    assert wanted.context == 512
    fit = wanted.best(PLENTY, PLENTY)
    assert (fit.context, fit.cells) == (512, 512)
    bert = demand(read_gguf(write_bert(tmp_path / "bert.gguf", context=2048)), settings)
    assert bert.best(PLENTY, PLENTY).context == 2048


def test_more_cells_are_taken_where_there_is_room(tmp_path: Path) -> None:
    """Enough for all slots at their longest, out of half the room left; or as configured."""
    file = llama(tmp_path, context=4096)
    settings = EngineSettings(slots=8, cache_ram_bytes=0)
    wanted = demand(file, settings)
    least = wanted.smallest(PLENTY)
    assert wanted.best(PLENTY, PLENTY).cells == 8 * 4096
    assert wanted.best(PLENTY, least.bytes) == least
    spare = 2 * 4096 * wanted.takes.cell
    assert wanted.best(PLENTY, least.bytes + spare).cells == 2 * 4096
    chosen = demand(file, replace(settings, kv_cells=5000)).best(PLENTY, PLENTY)
    assert (chosen.cells, chosen.bytes) == (5000, wanted.takes.total(5000, 8))


def test_snapshots_have_a_part_of_the_room(tmp_path: Path) -> None:
    """A quarter of what is left, as far as it is of use; or as configured, whatever the room."""
    file = llama(tmp_path, context=4096)
    settings = EngineSettings(slots=8)
    wanted = demand(file, settings)
    least = wanted.smallest(PLENTY)
    assert wanted.best(PLENTY, least.bytes + (40 << 20)).snapshots == 10 << 20
    most = 4 * 8 * 4096 * wanted.takes.cell
    assert wanted.best(PLENTY, PLENTY).snapshots == most
    chosen = demand(file, replace(settings, cache_ram_bytes=1 << 20))
    assert chosen.smallest(PLENTY).bytes == least.bytes + (1 << 20)
    assert chosen.best(PLENTY, PLENTY).snapshots == 1 << 20


def test_a_large_model_has_a_few_contexts_and_not_one_for_each_slot(tmp_path: Path) -> None:
    """Few threads are ever that long at once."""
    file = llama(tmp_path, context=LARGEST_DEFAULT_CONTEXT, layers=40, width=256, heads=2)
    fit = demand(file, EngineSettings()).best(PLENTY, PLENTY)
    assert fit.cells == 4 * LARGEST_DEFAULT_CONTEXT


def test_cells_where_nobody_has_counted_the_memory(tmp_path: Path) -> None:
    """Small ones are all there; else as many as are of use, of half that is free, or one's."""
    small = demand(llama(tmp_path, context=4096), EngineSettings(slots=8))
    assert small.affordable_cells(4096, 0) == 8 * 4096
    file = llama(tmp_path, context=LARGEST_DEFAULT_CONTEXT, layers=40, width=256, heads=2)
    large, context = demand(file, EngineSettings()), LARGEST_DEFAULT_CONTEXT
    assert large.affordable_cells(context, PLENTY) == 4 * context
    assert large.affordable_cells(context, 4 * context * large.takes.cell) == 2 * context
    assert large.affordable_cells(context, 0) == context


def test_recurrent_layers_have_a_state_for_each_slot_and_no_cells(tmp_path: Path) -> None:
    """Layers without heads, or those between the attending ones, remember without tokens."""
    state = {"llama.ssm.inner_size": 128, "llama.ssm.state_size": 16, "llama.ssm.conv_kernel": 4}
    plain = takes(llama(tmp_path, layers=4), EngineSettings())
    hybrid = takes(
        llama(tmp_path, layers=4, **state, **{"llama.attention.head_count_kv": [0, 2, 0, 2]}),
        EngineSettings(),
    )
    spaced = takes(
        llama(tmp_path, layers=4, **{"llama.full_attention_interval": 2}), EngineSettings()
    )
    assert plain.slot == 0
    assert hybrid.slot == 4 * 4 * (16 * 128 + 3 * 128)
    assert hybrid.cell == spaced.cell < plain.cell


@pytest.mark.parametrize(("layers", "share"), [(-1, 1), (0, 0), (1, 0.25), (4, 1), (99, 1)])
def test_a_gpu_is_asked_for_the_layers_that_it_gets(
    tmp_path: Path, layers: int, share: float
) -> None:
    """And for what steps need. The machine's own memory is asked for everything."""
    file, settings = llama(tmp_path, layers=4), replace(SMALL, gpu_layers=layers)
    whole, part = demand(file, settings), demand(file, settings, of_gpu=True)
    assert part.takes.weights == int(share * whole.takes.weights)
    assert part.takes.cell == int(share * whole.takes.cell)
    assert part.takes.fixed == whole.takes.fixed
    assert whole.takes == demand(file, SMALL).takes
    fits = [each.best(PLENTY, PLENTY) for each in (whole, part)]
    assert len({(fit.context, fit.cells) for fit in fits}) == 1


def test_snapshots_take_nothing_of_a_gpu(tmp_path: Path) -> None:
    """They are in the machine's own memory, however many were asked for."""
    settings = replace(SMALL, gpu_layers=-1, cache_ram_bytes=PLENTY)
    part = demand(llama(tmp_path, layers=4), settings, of_gpu=True)
    assert part.best(PLENTY, PLENTY).snapshots == 0
    assert part.smallest(PLENTY).bytes < PLENTY


def test_cells_beside_the_gpu_are_not_given_away(tmp_path: Path) -> None:
    """They cost nothing there, but the machine's memory has an end, too."""
    file, settings = llama(tmp_path), replace(SMALL, gpu_layers=0)
    part, cell = demand(file, settings, of_gpu=True), demand(file, settings).takes.cell
    least = part.smallest(PLENTY)
    assert part.best(PLENTY, least.bytes + 20 * cell).cells == least.cells + 10


def test_embedding_models_are_told_from_those_that_write(tmp_path: Path) -> None:
    """By their attention, or by how they pool. They have room for one batch."""
    bert = read_gguf(write_bert(tmp_path / "bert.gguf"))
    assert embeds(bert)
    fit = demand(bert, EngineSettings()).best(PLENTY, PLENTY)
    assert (fit.context, fit.cells) == (64, 512)
    assert not embeds(llama(tmp_path))
    assert embeds(llama(tmp_path, **{"llama.pooling_type": 3}))
    assert not embeds(llama(tmp_path, **{"llama.pooling_type": 0}))


def test_every_type_of_cache_has_a_size() -> None:
    """What the settings take can be estimated."""
    assert set(get_args(CacheType)) == set(TYPE_BYTES)


@pytest.mark.parametrize("cut", [6, 30, 200, -100_000])
def test_a_broken_file_is_refused_in_a_sentence(tmp_path: Path, cut: int) -> None:
    """Wherever it ends, and whatever it is."""
    path = write_llama(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(NotGGUF, match=r"model\.gguf is (broken|cut off): .*\.$"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context_length", math.inf),
        ("context_length", 1e30),
        ("embedding_length", 64.5),
        ("block_count", "two"),
        ("block_count", 4_000_000_000),
        ("block_count", 10_001),
        ("attention.head_count", math.nan),
        ("attention.head_count_kv", [2.0, math.nan]),
        ("attention.head_count_kv", [2, -2]),
        ("ssm.state_size", -math.inf),
    ],
)
async def test_a_header_of_nonsense_is_refused_in_a_sentence(
    tmp_path: Path, name: str, value: object
) -> None:
    """Whoever measures the model hears of it, and of nothing else, before memory is taken."""
    path = write_llama(tmp_path / "model.gguf", **{f"llama.{name}": value})
    with pytest.raises(EngineUnavailable, match=r"model\.gguf is broken: .*\.$"):
        await WorkerEngine(path, name="model").measure()


def test_whole_numbers_may_be_written_as_fractions(tmp_path: Path) -> None:
    """And a context that is not told is a small one."""
    assert demand(llama(tmp_path, **{"llama.context_length": 4096.0}), SMALL).context == 4096
    unknown = demand(llama(tmp_path, context=0), SMALL)
    assert unknown.context == SMALLEST_DEFAULT_CONTEXT


def test_what_is_no_gguf_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Nothing there, a folder, a pipe, an empty file, another format, another version."""
    other = tmp_path / "other.gguf"
    for data, said in [
        (b"", "is not a GGUF file."),
        (b"PK\3\4 something", "is not a GGUF file."),
        (b"GGUF\1\0\0\0" + bytes(16), "has version 1 of GGUF"),
        (b"GGUF\0\0\0\3" + bytes(16), "another byte order"),
        (b"GGUF\3\0\0\0" + b"\xff" * 16, "is broken"),
    ]:
        other.write_bytes(data)
        with pytest.raises(NotGGUF, match=said):
            read_gguf(other)
    with pytest.raises(NotGGUF, match="There is no file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(NotGGUF, match="cannot be read: Is a directory"):
        read_gguf(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(NotGGUF, match="is not a GGUF file"):
        read_gguf(tmp_path / "pipe.gguf")


def test_metadata_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Long arrays are only counted."""
    written = {
        "general.architecture": "llama",
        "a.text": "häß",
        "a.flag": True,
        "a.real": 0.5,
        "a.many": [1, -2, 3],
        "a.words": ["x", "yz"],
        "a.long": list(range(5000)),
        "a.texts": ["w"] * 5000,
    }
    write_gguf(tmp_path / "a.gguf", written, {})
    file = read_gguf(tmp_path / "a.gguf")
    assert file.architecture == "llama"
    assert file.metadata["a.text"] == "häß"
    assert file.metadata["a.flag"] is True
    assert file.metadata["a.real"] == 0.5
    assert file.metadata["a.many"] == (1, -2, 3)
    assert file.metadata["a.words"] == ("x", "yz")
    assert file.metadata["a.long"] is None
    assert file.lengths["a.long"] == file.lengths["a.texts"] == 5000
