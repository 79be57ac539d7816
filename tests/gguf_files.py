"""Small GGUF files of any shape, written by the tests: random weights, made-up vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.engine.gguf_writer import write_gguf

WORDS = ("hello", "world", "the", "cat", "dog", "sat", "on", "red", "mat", "quantum", "physics")

RANK = 4  # llama.cpp's number of the pooling that ends in a score

Tensors = dict[str, "np.ndarray[Any, Any]"]


def write_bert(
    path: Path,
    *,
    context: int = 64,
    width: int = 32,
    layers: int = 2,
    pooling: int = 1,
    unigram: bool = False,
    **more: Any,
) -> Path:
    """An embedding model: BERT with mean pooling, and a vocabulary of words and letters.

    One that ranks (pooling 4) has the same weights, and a head. A unigram vocabulary, as XLM-R's,
    has a token for the space that is put before a text, and no letters that begin with it.
    """
    letters = [chr(code) for code in range(33, 127)]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    starts = [*WORDS, ""] if unigram else [*WORDS, *letters]
    tokens = [*specials, *(f"▁{word}" for word in starts), *letters]
    random = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 0.5, shape).astype(np.float32)

    tensors: Tensors = {
        "token_embd.weight": weight(len(tokens), width),
        "position_embd.weight": weight(context, width),
        "token_types.weight": weight(2, width),
        **_norm("token_embd_norm", width),
    }
    for layer in range(layers):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}.{part}.weight"] = weight(width, width)
            tensors[f"{block}.{part}.bias"] = weight(width)
        tensors |= {
            f"{block}.ffn_up.weight": weight(2 * width, width),
            f"{block}.ffn_up.bias": weight(2 * width),
            f"{block}.ffn_down.weight": weight(width, 2 * width),
            f"{block}.ffn_down.bias": weight(width),
            **_norm(f"{block}.attn_output_norm", width),
            **_norm(f"{block}.layer_output_norm", width),
        }
    if pooling == RANK:
        tensors |= {
            "cls.weight": weight(width, width),
            "cls.bias": weight(width),
            "cls.output.weight": weight(1, width),
            "cls.output.bias": weight(1),
        }
    metadata = {
        "general.architecture": "bert",
        "general.name": "random-bert",
        "bert.block_count": layers,
        "bert.context_length": context,
        "bert.embedding_length": width,
        "bert.feed_forward_length": 2 * width,
        "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "jina-v2-en",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(specials) + [1] * (len(tokens) - len(specials)),
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.mask_token_id": 4,
        **(_unigram(tokens) if unigram else {}),
        **more,
    }
    write_gguf(path, metadata, tensors)
    return path


def write_llama(
    path: Path,
    *,
    vocabulary: int = 512,
    width: int = 64,
    inner: int = 128,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    context: int = 256,
    architecture: str = "llama",
    split: bool = False,
    **more: Any,
) -> Path:
    """A model that writes, of any shape; all weights are zero, so it has nothing to say.

    One that is split has all its tensors in a second part, beside `path`. A `qwen3` has a head that
    tells shares of two.
    """
    narrow = width // heads * kv_heads

    def weight(*shape: int) -> np.ndarray[Any, Any]:
        return np.zeros(shape, np.float16)

    one = np.ones(width, np.float32)
    tensors: Tensors = {
        "token_embd.weight": weight(vocabulary, width),
        "output.weight": weight(vocabulary, width),
        "output_norm.weight": one,
    }
    for layer in range(layers):
        block = f"blk.{layer}"
        tensors |= {
            f"{block}.attn_norm.weight": one,
            f"{block}.attn_q.weight": weight(width, width),
            f"{block}.attn_k.weight": weight(narrow, width),
            f"{block}.attn_v.weight": weight(narrow, width),
            f"{block}.attn_output.weight": weight(width, width),
            f"{block}.ffn_norm.weight": one,
            f"{block}.ffn_gate.weight": weight(inner, width),
            f"{block}.ffn_up.weight": weight(inner, width),
            f"{block}.ffn_down.weight": weight(width, inner),
        }
        if architecture == "qwen3":
            head_one = np.ones(width // heads, np.float32)
            tensors |= {f"{block}.attn_{part}_norm.weight": head_one for part in "qk"}
            tensors["cls.output.weight"] = np.zeros((2, width), np.float32)
    metadata = {
        "general.architecture": architecture,
        f"{architecture}.context_length": context,
        f"{architecture}.embedding_length": width,
        f"{architecture}.block_count": layers,
        f"{architecture}.feed_forward_length": inner,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": kv_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 10000.0,
        f"{architecture}.vocab_size": vocabulary,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [f"word{number}" for number in range(vocabulary)],
        "tokenizer.ggml.token_type": [1] * vocabulary,
        "tokenizer.ggml.merges": ["w o"],
        "tokenizer.ggml.eos_token_id": 1,
        **more,
    }
    if split:
        parts = {"split.count": np.uint16(2), "split.tensors.count": np.int32(len(tensors))}
        second = path.with_name(path.name.replace("-00001-", "-00002-"))
        write_gguf(second, {"split.no": np.uint16(1), **parts}, tensors)
        metadata |= {"split.no": np.uint16(0), **parts}
        tensors = {}
    write_gguf(path, metadata, tensors)
    return path


def write_lora(path: Path, *, width: int, outer: int, layers: int, rank: int = 4) -> Path:
    """An adapter with random weights for the last projection of each layer of a llama."""
    random = np.random.default_rng(2)
    tensors: Tensors = {}
    for layer in range(layers):
        name = f"blk.{layer}.ffn_down.weight"
        tensors[f"{name}.lora_a"] = random.normal(0, 0.3, (rank, outer)).astype(np.float32)
        tensors[f"{name}.lora_b"] = random.normal(0, 0.3, (width, rank)).astype(np.float32)
    metadata = {
        "general.type": "adapter",
        "general.architecture": "llama",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(rank),
    }
    write_gguf(path, metadata, tensors)
    return path


def _unigram(tokens: Sequence[str]) -> dict[str, Any]:
    """The longest tokens are the likeliest."""
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [float(len(token)) for token in tokens],
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
    }


def _norm(name: str, width: int) -> Tensors:
    one, zero = np.ones(width, np.float32), np.zeros(width, np.float32)
    return {f"{name}.weight": one, f"{name}.bias": zero}
