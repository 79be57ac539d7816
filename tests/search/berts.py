"""A tiny BERT as it is published, and what it makes of ids, computed step by step."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from server.search.conversion import Published

WIDTH, INNER, HEADS, LAYERS, POSITIONS = 64, 128, 4, 3, 512
EPSILON = 1e-12
PIECES = [
    *["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    *["the", "cat", "dog", "sat", "mat", "un", "##like", "##ly", "##s", "on", ".", "!", "\u2028"],
    *["caf", "##e", "日", "本", "a", "##b"],
]

Weights = dict[str, "np.ndarray[Any, Any]"]


def weights(seed: int = 1) -> Weights:
    """At random, such that every part of the network shows in what comes of it."""
    random = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 0.4, shape).astype(np.float32)

    def norm(name: str) -> Weights:
        return {f"{name}.weight": 1 + numbers(WIDTH), f"{name}.bias": numbers(WIDTH)}

    def dense(name: str, inner: int, outer: int) -> Weights:
        return {f"{name}.weight": numbers(outer, inner), f"{name}.bias": numbers(outer)}

    found = {
        "embeddings.position_ids": np.arange(POSITIONS)[None],
        "embeddings.word_embeddings.weight": numbers(len(PIECES), WIDTH),
        "embeddings.position_embeddings.weight": numbers(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": numbers(2, WIDTH),
        **norm("embeddings.LayerNorm"),
        **dense("pooler.dense", WIDTH, WIDTH),
    }
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            found |= dense(f"{layer}.attention.{part}", WIDTH, WIDTH)
        found |= norm(f"{layer}.attention.output.LayerNorm")
        found |= dense(f"{layer}.intermediate.dense", WIDTH, INNER)
        found |= dense(f"{layer}.output.dense", INNER, WIDTH)
        found |= norm(f"{layer}.output.LayerNorm")
    return found


def published(weights: Weights) -> Published:
    """The three files."""
    config = {
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": EPSILON,
        "vocab_size": len(PIECES),
    }
    vocabulary = "".join(f"{piece}\n" for piece in PIECES)
    return Published(json.dumps(config).encode(), vocabulary.encode(), safetensors(weights))


def safetensors(weights: Weights) -> bytes:
    """The file that holds them."""
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in weights.items():
        offsets = [len(data), len(data) + tensor.nbytes]
        kind = kinds[tensor.dtype.name]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": offsets}
        data += tensor.tobytes()
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + data


def vector_of(weights: Weights, ids: list[int]) -> np.ndarray[Any, Any]:
    """What the network makes of the tokens: attention, feed-forward, mean, in float64."""
    at = {name: tensor.astype(np.float64) for name, tensor in weights.items()}

    def dense(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x @ at[f"{name}.weight"].T + at[f"{name}.bias"]

    def norm(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
        return x * at[f"{name}.weight"] + at[f"{name}.bias"]

    def heads(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x.reshape(len(x), HEADS, -1).transpose(1, 0, 2)

    x = at["embeddings.word_embeddings.weight"][ids]
    x = x + at["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + at["embeddings.token_type_embeddings.weight"][0])
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            heads(dense(f"{layer}.attention.self.{part}", x)) for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(WIDTH // HEADS))
        seen = (scores / scores.sum(-1, keepdims=True)) @ value
        seen = seen.transpose(1, 0, 2).reshape(len(x), WIDTH)
        attended = dense(f"{layer}.attention.output.dense", seen)
        x = norm(f"{layer}.attention.output.LayerNorm", x + attended)
        inner = dense(f"{layer}.intermediate.dense", x)
        inner = inner * (1 + np.vectorize(math.erf)(inner / np.sqrt(2))) / 2
        x = norm(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", inner))
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)
