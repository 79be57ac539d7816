"""Models of real shapes with random weights: as fast as the real ones, and nothing to download.

`python -m benchmarks.weights 0.5b` prints the file's path, made once into the cache. The vocabulary
is the real one, from llama.cpp's source. A row of the output is zero unless its token is a plain
word, so that an answer never ends by itself and each of its tokens is one whole piece of text.

llama.cpp quantizes a sample: the same model, with few rows in all matrices but the output. Rows of
the sample, drawn at random, then fill the model: to quantize 8B would take minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import llama_cpp.llama_cpp as llama
import numpy as np
import numpy.typing as npt

from benchmarks.cache import cache_folder
from benchmarks.source import gguf_package, llama_cpp_source
from tools.build_llama import locked, say

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter, ReaderTensor

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{% for message in messages %}{{ ('<|begin_of_text|>' if loop.first else '')"
    " + '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content']"
    " + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SPREAD = 0.02  # of the weights, as models are initialised
# With this, the best logits stand out about as much as a trained model's.
OUTPUT_GAIN = 4.0
SAMPLE_ROWS = 256  # of a matrix
NOISE = 1 << 24  # values; a row is a piece of them
NOT_COPIED = ("GGUF.", "general.architecture")  # the writer has its own
WORD = re.compile("Ġ[a-z]{2,12}")  # Ġ is how byte-level vocabularies write a space
QUANTIZATIONS = {
    "q4_k_m": llama.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The measures of a published model."""

    architecture: str
    vocabulary: str  # the file that llama.cpp's tests keep it in
    template: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    context: int
    rope_base: float
    epsilon: float
    attention_biases: bool
    tied: bool  # the output is the embedding

    @property
    def kv_width(self) -> int:
        return self.width // self.heads * self.kv_heads


QWEN2_05B = Shape(
    architecture="qwen2",
    vocabulary="ggml-vocab-qwen2.gguf",
    template=CHATML,
    layers=24,
    width=896,
    feed_forward=4864,
    heads=14,
    kv_heads=2,
    context=32768,
    rope_base=1e6,
    epsilon=1e-6,
    attention_biases=True,
    tied=True,
)
LLAMA_32_1B = Shape(
    architecture="llama",
    vocabulary="ggml-vocab-llama-bpe.gguf",
    template=LLAMA_3,
    layers=16,
    width=2048,
    feed_forward=8192,
    heads=32,
    kv_heads=8,
    context=131072,
    rope_base=5e5,
    epsilon=1e-5,
    attention_biases=False,
    tied=True,
)
LLAMA_31_8B = replace(LLAMA_32_1B, layers=32, width=4096, feed_forward=14336, tied=False)
SHAPES = {"0.5b": QWEN2_05B, "1b": LLAMA_32_1B, "8b": LLAMA_31_8B}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: vectors stay in 32 bits, matrices are written in 16."""

    name: str
    shape: tuple[int, ...]  # rows first, as numpy has it
    fill: float | None = None  # every value; None is random
    words_only: bool = False  # rows of tokens that are no words are zero

    @property
    def sample(self) -> Tensor:
        """With as many rows as are quantized. No two words may be alike: they would tie."""
        whole = len(self.shape) == 1 or self.words_only
        return self if whole else replace(self, shape=(SAMPLE_ROWS, *self.shape[1:]))

    @property
    def dtype(self) -> type[np.float16 | np.float32]:
        return np.float32 if len(self.shape) == 1 else np.float16

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def model_file(shape: str, quantization: str) -> Path:
    """The model's file, made if the cache has none."""
    path = cache_folder() / "models" / f"random-{shape}-{quantization}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            say(f"Making {path.name}, once ...")
            _make(SHAPES[shape], quantization, path)
    return path


def vocabulary_words(shape: str) -> list[str]:
    """Words that are one token each when a space stands before them.

    llama.cpp reads a vocabulary in no time, its own Python package in many seconds.
    """
    _be_silent()
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = True
    model = llama.llama_model_load_from_file(str(_path(SHAPES[shape])).encode(), parameters)
    vocabulary = llama.llama_model_get_vocab(model)
    count = llama.llama_vocab_n_tokens(vocabulary)
    texts = [llama.llama_vocab_get_text(vocabulary, token).decode() for token in range(count)]
    llama.llama_model_free(model)
    return [text[1:] for text in texts if WORD.fullmatch(text)]


def _make(shape: Shape, quantization: str, path: Path) -> None:
    vocabulary = _vocabulary(shape)
    words = np.array([bool(WORD.fullmatch(token)) for token in _tokens(vocabulary)])
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        plain, sample, whole = (
            Path(work) / name for name in ("f16.gguf", "sample.gguf", path.name)
        )
        _write_sample(shape, words, plain)
        _quantize(plain, sample, QUANTIZATIONS[quantization])
        _write_whole(shape, vocabulary, sample, whole)
        whole.rename(path)


def _write_sample(shape: Shape, words: npt.NDArray[np.bool_], path: Path) -> None:
    """Without the vocabulary, which takes long to read."""
    writer = gguf_package().GGUFWriter(path, shape.architecture)
    _describe(writer, shape)
    tensors = [tensor.sample for tensor in _tensors(shape, len(words))]
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(tensor.dtype), tensor.size, raw_dtype=None
        )
    _begin(writer)
    random = np.random.default_rng(0)
    noise = (random.standard_normal(NOISE, np.float32) * SPREAD).astype(np.float16)
    for tensor in tensors:
        writer.write_tensor_data(_values(tensor, words, noise, random))
    writer.close()


def _write_whole(shape: Shape, vocabulary: GGUFReader, sample: Path, path: Path) -> None:
    """A tensor at a time: an 8B model is larger than many memories."""
    reader = gguf_package().GGUFReader(sample)
    writer = gguf_package().GGUFWriter(path, shape.architecture)
    _copy_fields(reader, writer)
    _copy_fields(vocabulary, writer, "tokenizer.ggml.")
    sampled = {tensor.name: tensor for tensor in reader.tensors}
    tensors = list(_tensors(shape, len(_tokens(vocabulary))))
    for tensor in tensors:
        data, rows = sampled[tensor.name].data, tensor.shape[0]
        size = (rows, *data.shape[1:])  # of a matrix in bytes
        length = data[0].nbytes * rows
        kind = sampled[tensor.name].tensor_type
        writer.add_tensor_info(tensor.name, size, data.dtype, length, kind)
    _begin(writer)
    random = np.random.default_rng(1)
    for tensor in tensors:
        writer.write_tensor_data(_spread(sampled[tensor.name], tensor.shape[0], random))
    writer.close()


def _begin(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _describe(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name(f"random weights, {shape.layers} layers of {shape.width}")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_file_type(gguf_package().LlamaFileType.MOSTLY_F16)
    writer.add_chat_template(shape.template)


def _copy_fields(reader: GGUFReader, writer: GGUFWriter, prefix: str = "") -> None:
    """What a file says of its model, as far as the name begins so and is not the format's own."""
    for field in reader.fields.values():
        if field.name.startswith(prefix) and not field.name.startswith(NOT_COPIED):
            kind, *inner = field.types
            writer.add_key_value(field.name, field.contents(), kind, inner[0] if inner else None)


def _vocabulary(shape: Shape) -> GGUFReader:
    reader: GGUFReader = gguf_package().GGUFReader(_path(shape))
    return reader


def _path(shape: Shape) -> Path:
    return llama_cpp_source() / "models" / shape.vocabulary


def _tokens(vocabulary: GGUFReader) -> list[str]:
    field = vocabulary.get_field("tokenizer.ggml.tokens")
    assert field is not None, "llama.cpp's vocabularies have tokens"
    return list(field.contents())


def _tensors(shape: Shape, vocabulary: int) -> Iterator[Tensor]:
    width, kv, wide = shape.width, shape.kv_width, shape.feed_forward
    yield Tensor("token_embd.weight", (vocabulary, width), words_only=shape.tied)
    yield Tensor("output_norm.weight", (width,), fill=OUTPUT_GAIN)
    if not shape.tied:
        yield Tensor("output.weight", (vocabulary, width), words_only=True)
    for layer in range(shape.layers):
        block = partial(_block_tensor, layer)
        yield block("attn_norm", (width,), fill=1.0)
        yield block("ffn_norm", (width,), fill=1.0)
        for name, rows in (("attn_q", width), ("attn_k", kv), ("attn_v", kv)):
            yield block(name, (rows, width))
            if shape.attention_biases:
                yield Tensor(f"blk.{layer}.{name}.bias", (rows,), fill=0.0)
        yield block("attn_output", (width, width))
        yield block("ffn_gate", (wide, width))
        yield block("ffn_up", (wide, width))
        yield block("ffn_down", (width, wide))


def _block_tensor(
    layer: int, name: str, shape: tuple[int, ...], fill: float | None = None
) -> Tensor:
    return Tensor(f"blk.{layer}.{name}.weight", shape, fill)


def _values(
    tensor: Tensor,
    words: npt.NDArray[np.bool_],
    noise: npt.NDArray[np.float16],
    random: np.random.Generator,
) -> npt.NDArray[np.float16 | np.float32]:
    if tensor.fill is not None:
        return np.full(tensor.shape, tensor.fill, tensor.dtype)
    rows, width = tensor.shape
    pieces = np.lib.stride_tricks.sliding_window_view(noise, width)
    values: npt.NDArray[np.float16] = pieces[random.integers(0, len(pieces), rows)]
    if tensor.words_only:
        values[~words] = 0
    return values


def _spread(
    sample: ReaderTensor, rows: int, random: np.random.Generator
) -> npt.NDArray[np.uint8 | np.float32]:
    """As many rows, of the sample's."""
    data: npt.NDArray[np.uint8 | np.float32] = sample.data
    return data if len(data) == rows else data[random.integers(0, len(data), rows)]


def _quantize(source: Path, target: Path, kind: int) -> None:
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = kind
    _be_silent()
    code = llama.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if code:
        raise SystemExit(f"llama.cpp could not quantize {source}: {code}")


@cache
def _be_silent() -> object:
    """What C calls is kept alive by being returned once."""
    silent = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(silent, None)
    return silent


def main() -> None:
    """Make a model and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="q4_k_m")
    options = parser.parse_args()
    print(model_file(options.shape, options.quantization))


if __name__ == "__main__":
    main()
