"""A published BERT as a GGUF file: what llama.cpp makes of it is what its network says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import pytest_asyncio

from server.engine.client import WorkerEngine
from server.engine.gguf_writer import Q8, write_gguf
from server.engine.settings import EngineSettings
from server.search.conversion import Safetensors, convert
from tests.search import berts

WEIGHTS = berts.weights()
ID = berts.PIECES.index
CLS, SEP = ID("[CLS]"), ID("[SEP]")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model with random weights."""
    path = tmp_path_factory.mktemp("bert") / "bert.gguf"
    convert(berts.published(WEIGHTS), {"name": "tiny", "license": "apache-2.0"}, path)
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(bert: Path) -> AsyncIterator[WorkerEngine]:
    """A worker on it."""
    engine = WorkerEngine(bert, name="bert", settings=EngineSettings(slots=4, threads=1))
    await engine.start((await engine.measure()).best(1 << 40, 1 << 40))
    yield engine
    await engine.stop()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("length", [2, 3, 17, 100, 512])
async def test_its_vectors_are_the_networks(engine: WorkerEngine, length: int) -> None:
    """But for the rounding to 8 bits, at any length up to the last position."""
    dice = np.random.default_rng(length)
    ids = [CLS, *map(int, dice.integers(5, len(berts.PIECES), length - 2)), SEP]
    (found,) = (await engine.embed([ids])).vectors
    assert found @ berts.vector_of(WEIGHTS, ids) > 0.995
    other = [CLS, *ids[2:-1], ids[1], SEP] if length > 3 else [CLS, ID("dog"), ID("cat"), SEP]
    assert found @ berts.vector_of(WEIGHTS, other) < 0.995


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The cat sat on the mat.", ["the", "cat", "sat", "on", "the", "mat", "."]),
        ("unlikely cats!", ["un", "##like", "##ly", "cat", "##s", "!"]),
        ("Café", ["caf", "##e"]),
        ("日本", ["日", "本"]),
        ("ab zebra", ["a", "##b", "[UNK]"]),
        ("[CLS]", ["[UNK]"] * 3),
        ("", []),
    ],
)
async def test_texts_become_its_word_pieces(
    engine: WorkerEngine, text: str, pieces: list[str]
) -> None:
    """As BERT divides them; nobody can write a marker."""
    found = await engine.embed([text])
    expected = await engine.embed([[CLS, *map(ID, pieces), SEP]])
    assert found.tokens == len(pieces) + 2
    assert found.vectors[0] @ expected.vectors[0] == pytest.approx(1, abs=1e-5)


def test_the_file_is_read_by_others(bert: Path) -> None:
    """As the format's own library reads it, with all that the model's files say."""
    reader = gguf.GGUFReader(bert)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.name"] == "tiny"
    assert fields["general.license"] == "apache-2.0"
    assert fields["bert.context_length"] == berts.POSITIONS
    assert fields["bert.attention.causal"] is False
    assert fields["tokenizer.ggml.tokens"][5:8] == ["▁the", "▁cat", "▁dog"]
    assert fields["tokenizer.ggml.tokens"][11] == "like"
    assert len(fields["tokenizer.ggml.tokens"]) == len(berts.PIECES)
    names = {tensor.name for tensor in reader.tensors}
    assert len(names) == 5 + 16 * berts.LAYERS
    for tensor in reader.tensors:
        stored = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert stored.shape == tuple(tensor.shape[::-1])
        assert np.abs(stored).max() > 0


@pytest.mark.parametrize("seed", range(5))
def test_matrices_are_rounded_as_llama_cpp_rounds_them(seed: int) -> None:
    """Bit by bit, also of blocks of zeros, of one large number, and of halves."""
    random = np.random.default_rng(seed)
    tensor = random.normal(0, 10.0 ** random.integers(-6, 3), (7, 96)).astype(np.float32)
    tensor[1] = 0
    tensor[2, 5] = 1e6
    tensor[3] = np.arange(-48, 48) / 2
    tensor[3, ::32] = 127
    expected = gguf.quants.quantize(tensor, gguf.GGMLQuantizationType.Q8_0)
    assert Q8.of(tensor).blocks.tobytes() == expected.tobytes()


def test_every_kind_of_value_and_tensor_is_written(tmp_path: Path) -> None:
    """And read back as it was."""
    half = np.arange(6, dtype=np.float16).reshape(2, 3)
    single = np.arange(4, dtype=np.float32)
    metadata = {"a.text": "häß", "a.yes": True, "a.many": ["x", "日"], "a.numbers": [-1, 2]}
    path = tmp_path / "a.gguf"
    write_gguf(path, metadata | {"a.part": 0.5, "a.count": 7}, {"half": half, "single": single})
    reader = gguf.GGUFReader(path)
    for name, value in metadata.items():
        assert reader.fields[name].contents() == value
    assert [tensor.data.tolist() for tensor in reader.tensors] == [half.tolist(), single.tolist()]


def test_half_precision_is_read_as_well(tmp_path: Path) -> None:
    """Of a published file, any of its tensors that are numbers."""
    tensors = Safetensors(berts.safetensors({"x": np.array([[0.5, -2]], np.float16)}))
    assert tensors["x"].dtype == np.float32
    assert tensors["x"].tolist() == [[0.5, -2.0]]
