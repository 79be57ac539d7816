"""A BERT in the files that sentence-transformers publishes, to a GGUF file for llama.cpp.

Knows both forms, and nothing of where the files are from. Needs numpy alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from server.engine.gguf_writer import Q8, Tensor, Value, write_gguf

MEAN_POOLING: Final = 1
Q8_FILE: Final = 7  # llama.cpp's number for files whose matrices are Q8_0
SPECIALS: Final = {
    "[PAD]": "padding",
    "[UNK]": "unknown",
    "[CLS]": "cls",
    "[SEP]": "seperator",  # spelled so in the format
    "[MASK]": "mask",
}
_NORMAL, _CONTROL = 1, 3
_INSIDE: Final = "##"  # before a piece that goes on a word
_WORD_START: Final = "\u2581"  # before a piece that begins one, in GGUF

_EMBEDDINGS: Final = {
    "token_embd.weight": "word_embeddings.weight",
    "position_embd.weight": "position_embeddings.weight",
    "token_types.weight": "token_type_embeddings.weight",
    "token_embd_norm.weight": "LayerNorm.weight",
    "token_embd_norm.bias": "LayerNorm.bias",
}
_LAYER: Final = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
_EXACT: Final = {"position_embd.weight", "token_types.weight"}  # llama.cpp adds them as they are


@dataclass(frozen=True, slots=True)
class Published:
    """A model's files: `config.json`, `vocab.txt`, `model.safetensors`."""

    config: bytes
    vocabulary: bytes
    weights: bytes


def convert(model: Published, about: Mapping[str, str], path: Path) -> None:
    """Write the model, which pools by the mean, with its matrices as Q8_0.

    `about` is what the file says of it under `general.`. Raises OSError.
    """
    config = json.loads(model.config)
    described = {f"general.{name}": text for name, text in about.items()}
    metadata = {**_architecture(config), **described, **_tokenizer(model, config)}
    write_gguf(path, metadata, dict(_tensors(Safetensors(model.weights), config)))


class Safetensors:
    """The tensors of a safetensors file, by name."""

    _TYPES: Final = {"F32": "<f4", "F16": "<f2"}

    def __init__(self, data: bytes) -> None:
        self._data = data
        (length,) = struct.unpack_from("<Q", data)
        self._start = 8 + length
        self._header: dict[str, Any] = json.loads(data[8 : self._start])

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        entry = self._header[name]
        begin, end = (self._start + offset for offset in entry["data_offsets"])
        numbers = np.frombuffer(self._data[begin:end], self._TYPES[entry["dtype"]])
        return numbers.reshape(entry["shape"]).astype(np.float32)


def _architecture(config: Mapping[str, Any]) -> dict[str, Value]:
    return {
        "general.architecture": "bert",
        "general.file_type": Q8_FILE,
        "general.quantization_version": 2,
        "bert.block_count": config["num_hidden_layers"],
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": config["layer_norm_eps"],
        "bert.attention.causal": False,
        "bert.pooling_type": MEAN_POOLING,
    }


def _tokenizer(model: Published, config: Mapping[str, Any]) -> dict[str, Any]:
    pieces = model.vocabulary.decode().rstrip("\n").split("\n")
    ids = {f"tokenizer.ggml.{key}_token_id": pieces.index(it) for it, key in SPECIALS.items()}
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "jina-v2-en",  # llama.cpp's name for BERT's own
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        "tokenizer.ggml.tokens": [_spelled(piece) for piece in pieces],
        "tokenizer.ggml.token_type": [_CONTROL if it in SPECIALS else _NORMAL for it in pieces],
        "tokenizer.ggml.bos_token_id": pieces.index("[CLS]"),
        "tokenizer.ggml.eos_token_id": pieces.index("[SEP]"),
        **ids,
    }


def _spelled(piece: str) -> str:
    """As GGUF marks words: at their beginning, where BERT marks what goes on."""
    if piece in SPECIALS:
        return piece
    return piece.removeprefix(_INSIDE) if piece.startswith(_INSIDE) else _WORD_START + piece


def _tensors(weights: Safetensors, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, published in _EMBEDDINGS.items():
        yield name, _stored(name, weights[f"embeddings.{published}"])
    for layer in range(config["num_hidden_layers"]):
        for part, published in _LAYER.items():
            for kind in ("weight", "bias"):
                name = f"blk.{layer}.{part}.{kind}"
                yield name, _stored(name, weights[f"encoder.layer.{layer}.{published}.{kind}"])


def _stored(name: str, tensor: npt.NDArray[np.float32]) -> Tensor:
    return tensor if tensor.ndim == 1 or name in _EXACT else Q8.of(tensor)
