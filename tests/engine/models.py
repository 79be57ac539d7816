"""Small models with random weights, one of each kind that llama.cpp keeps in a way of its own.

They say nonsense, but what they say depends on every token before it, as tests of a cache
need it. Their vocabulary is that of the bundled model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

WIDTH, HEADS, KV_HEADS, HEAD, FEED_FORWARD, LAYERS = 64, 4, 2, 16, 128, 4
WINDOW = 32  # of the one with a sliding window
CONVOLUTION, INNER, STATE, RANK = 4, 2 * WIDTH, 16, 4  # of the recurrent one
CONTEXT = 1024

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def write_model(
    kind: str,
    path: Path,
    vocabulary: Path,
    *,
    pre: str | None = None,
    template: str | None = None,
) -> None:
    """A GGUF of this architecture, with another pre-tokenizer or chat template if one is given."""
    writer = gguf.GGUFWriter(path, kind)
    describe, shapes = KINDS[kind]
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_layer_norm_rms_eps(1e-5)
    describe(writer)
    size = copy_vocabulary(writer, vocabulary, pre)
    if template is not None:
        writer.add_chat_template(template)
    random = np.random.default_rng(1)
    ends = [("token_embd.weight", (size, WIDTH)), ("output.weight", (size, WIDTH))]
    for name, shape in [*ends, *shapes()]:
        writer.add_tensor(name, weights(random, name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def weights(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Such that a signal neither dies nor explodes on its way."""
    if name.endswith("ssm_a"):  # decays
        return -random.uniform(0.1, 1.0, shape).astype(np.float32)
    if "norm" in name or name.endswith("ssm_d"):
        return np.ones(shape, np.float32)
    spread = 0.2 if name == "token_embd.weight" else 1.5 / np.sqrt(shape[-1])
    return random.normal(0, spread, shape).astype(np.float32)


def copy_vocabulary(writer: gguf.GGUFWriter, path: Path, pre: str | None = None) -> int:
    """The tokenizer of another file; returns its number of tokens."""
    fields = gguf.GGUFReader(path).fields

    def of(name: str) -> Any:
        return fields[f"tokenizer.{name}"].contents()

    writer.add_tokenizer_model(of("ggml.model"))
    writer.add_tokenizer_pre(pre or of("ggml.pre"))
    writer.add_token_list(of("ggml.tokens"))
    writer.add_token_types(of("ggml.token_type"))
    writer.add_token_merges(of("ggml.merges"))
    writer.add_eos_token_id(of("ggml.eos_token_id"))
    writer.add_add_bos_token(False)
    if "tokenizer.ggml.bos_token_id" in fields:  # not every vocabulary has one
        writer.add_bos_token_id(of("ggml.bos_token_id"))
    if "tokenizer.chat_template" in fields:
        writer.add_chat_template(of("chat_template"))
    return len(of("ggml.tokens"))


def _attention(layer: str) -> Shapes:
    yield f"{layer}.attn_q.weight", (HEADS * HEAD, WIDTH)
    yield f"{layer}.attn_k.weight", (KV_HEADS * HEAD, WIDTH)
    yield f"{layer}.attn_v.weight", (KV_HEADS * HEAD, WIDTH)
    yield f"{layer}.attn_output.weight", (WIDTH, HEADS * HEAD)


def _query_norms(layer: str) -> Shapes:
    yield f"{layer}.attn_q_norm.weight", (HEAD,)
    yield f"{layer}.attn_k_norm.weight", (HEAD,)


def _feed_forward(layer: str) -> Shapes:
    yield f"{layer}.attn_norm.weight", (WIDTH,)
    yield f"{layer}.ffn_norm.weight", (WIDTH,)
    yield f"{layer}.ffn_gate.weight", (FEED_FORWARD, WIDTH)
    yield f"{layer}.ffn_up.weight", (FEED_FORWARD, WIDTH)
    yield f"{layer}.ffn_down.weight", (WIDTH, FEED_FORWARD)


def _layers() -> Iterator[str]:
    return (f"blk.{number}" for number in range(LAYERS))


def _describe_attention(
    writer: gguf.GGUFWriter, kv_heads: Sequence[int] = (KV_HEADS,) * LAYERS
) -> None:
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10_000.0)


def _llama() -> Shapes:
    """Attention to everything in all layers."""
    yield "output_norm.weight", (WIDTH,)
    for layer in _layers():
        yield from _attention(layer)
        yield from _feed_forward(layer)


def _describe_window(writer: gguf.GGUFWriter) -> None:
    _describe_attention(writer)
    writer.add_sliding_window(WINDOW)
    writer.add_sliding_window_pattern([layer % 2 == 0 for layer in range(LAYERS)])


def _gemma() -> Shapes:
    """Every other layer sees the last few tokens only."""
    yield from _llama()
    for layer in _layers():
        yield from _query_norms(layer)
        yield f"{layer}.post_attention_norm.weight", (WIDTH,)
        yield f"{layer}.post_ffw_norm.weight", (WIDTH,)


def _describe_states(writer: gguf.GGUFWriter) -> None:
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(CONVOLUTION)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)


def _mamba() -> Shapes:
    """A state that each token changes, and no attention."""
    yield "output_norm.weight", (WIDTH,)
    for layer in _layers():
        yield f"{layer}.attn_norm.weight", (WIDTH,)
        yield f"{layer}.ssm_in.weight", (2 * INNER, WIDTH)
        yield f"{layer}.ssm_conv1d.weight", (INNER, CONVOLUTION)
        yield f"{layer}.ssm_conv1d.bias", (INNER,)
        yield f"{layer}.ssm_x.weight", (RANK + 2 * STATE, INNER)
        yield f"{layer}.ssm_dt.weight", (INNER, RANK)
        yield f"{layer}.ssm_dt.bias", (INNER,)
        yield f"{layer}.ssm_a", (INNER, STATE)
        yield f"{layer}.ssm_d", (INNER,)
        yield f"{layer}.ssm_out.weight", (WIDTH, INNER)


def _describe_mixture(writer: gguf.GGUFWriter) -> None:
    _describe_attention(writer, [KV_HEADS * (layer % 2) for layer in range(LAYERS)])
    writer.add_shortconv_l_cache(CONVOLUTION)


def _lfm() -> Shapes:
    """Layers with a state and layers with attention, in turn."""
    yield "token_embd_norm.weight", (WIDTH,)
    for number, layer in enumerate(_layers()):
        yield from _feed_forward(layer)
        if number % 2:
            yield from _attention(layer)
            yield from _query_norms(layer)
        else:
            yield f"{layer}.shortconv.conv.weight", (WIDTH, CONVOLUTION)
            yield f"{layer}.shortconv.in_proj.weight", (3 * WIDTH, WIDTH)
            yield f"{layer}.shortconv.out_proj.weight", (WIDTH, WIDTH)


KINDS: dict[str, tuple[Callable[[gguf.GGUFWriter], None], Callable[[], Shapes]]] = {
    "llama": (_describe_attention, _llama),
    "gemma3": (_describe_window, _gemma),
    "mamba": (_describe_states, _mamba),
    "lfm2": (_describe_mixture, _lfm),
}
