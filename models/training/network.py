"""The network: a llama of the smallest kind, in the layout that llama.cpp reads.

Tied embeddings, RMS norms, gated feed-forward, and rotary embeddings on interleaved pairs, so
that the weights are exported without any permutation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    vocabulary: int = 2048
    width: int = 256
    layers: int = 8
    heads: int = 4
    feed_forward: int = 704
    context: int = 4096
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @classmethod
    def sized(cls, vocabulary: int, width: int, layers: int) -> "Shape":
        """Heads of 64, and a feed-forward layer of 8 thirds of the width."""
        wide = -(-width * 8 // 3 // 64) * 64
        return cls(vocabulary, width, layers, heads=width // 64, feed_forward=wide)

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class Norm(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rotation(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position and pair."""
    pairs = torch.arange(0, shape.head_width, 2, dtype=torch.float64) / shape.head_width
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float64), shape.rope_base**-pairs)
    return angles.cos().float(), angles.sin().float()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2)


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.head_width = shape.heads, shape.head_width
        self.attn_norm, self.ffn_norm = Norm(shape), Norm(shape)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            self.add_module(name, nn.Linear(shape.width, shape.width, bias=False))
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attend(self.attn_norm(x), cos, sin)
        h = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))

    def attend(self, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, width = h.shape
        q, k, v = (
            project(h).view(rows, length, self.heads, self.head_width).transpose(1, 2)
            for project in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        mixed = attended(q, k, v)
        return self.attn_output(mixed.transpose(1, 2).reshape(rows, length, width))


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention; on a CPU by plain products, which take half the time of torch's own."""
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    length, kind = q.shape[-2], v.dtype
    hidden = torch.full((length, length), float("-inf"), dtype=kind).triu(1)
    scores = (q.to(kind) * q.shape[-1] ** -0.5) @ k.to(kind).mT
    return torch.softmax(scores + hidden, -1).to(kind) @ v


class Network(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape)
        cos, sin = rotation(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.apply(start)
        for layer in self.blk:
            nn.init.zeros_(layer.attn_output.weight)
            nn.init.zeros_(layer.ffn_down.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """The hidden state after the last norm."""
        x = self.token_embd(tokens)
        length = tokens.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        for layer in self.blk:
            x = layer(x, cos, sin)
        return self.output_norm(x)

    def loss(self, tokens: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross entropy, and the share of fully weighted targets that were the best guess.

        Only positions with a weight go through the large output matrix.
        """
        counted = weights > 0
        logits = (self(tokens)[counted] @ self.token_embd.weight.t()).float()
        targets, weights = targets[counted], weights[counted]
        losses = functional.cross_entropy(logits, targets, reduction="none")
        full = weights == 1
        right = (logits.argmax(-1) == targets)[full].float().mean()
        return (losses * weights).sum() / weights.sum(), right


def start(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
