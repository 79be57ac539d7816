"""The network: a llama of the smallest kind, in the layout that llama.cpp reads.

Tied embeddings, RMS norms, gated feed-forward, and rotary embeddings on interleaved pairs, so
that the weights are exported without any permutation.
"""

from dataclasses import dataclass

import torch
from batches import Batch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    vocabulary: int = 2048
    width: int = 256
    layers: int = 10
    heads: int = 4
    feed_forward: int = 512
    context: int = 4096
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @classmethod
    def sized(cls, vocabulary: int, width: int, layers: int) -> "Shape":
        """Heads of 64, and a feed-forward layer of twice the width."""
        return cls(vocabulary, width, layers, heads=width // 64, feed_forward=2 * width)

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
    return turned.flatten(-2).to(x.dtype)


class Layer(nn.Module):
    """Reads and writes (tokens, width); only attention knows which tokens stand in one row.

    So what is compiled sees one shape, however a batch is cut into rows.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.head_width = shape.heads, shape.head_width
        self.attn_norm, self.ffn_norm = Norm(shape), Norm(shape)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            self.add_module(name, nn.Linear(shape.width, shape.width, bias=False))
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        return self.answered(x, mixed(self.asked(x, *turn), batch))

    def asked(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries, keys and values: (3, tokens, heads, width of a head)."""
        h = self.attn_norm(x)
        q, k, v = (
            project(h).view(-1, self.heads, self.head_width)
            for project in (self.attn_q, self.attn_k, self.attn_v)
        )
        return torch.stack((rotated(q, cos, sin), rotated(k, cos, sin), v))

    def answered(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.attn_output(attended)
        h = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))

    def compiled(self, *, one_shape: bool) -> None:
        """All layers share what is compiled for the first."""
        dynamic = None if one_shape else True
        self.asked = torch.compile(self.asked, dynamic=dynamic)
        self.answered = torch.compile(self.answered, dynamic=dynamic)


def mixed(asked: Tensor, batch: Batch) -> Tensor:
    """Causal attention within each row, or within its branches: (tokens, width). What fills a batch
    up gets zeros.
    """
    filled, full = batch.rows * batch.length, asked.shape[1]
    if full > filled:
        asked = asked[:, :filled]
    q, k, v = asked.unflatten(1, (batch.rows, batch.length)).transpose(2, 3).unbind()
    out = attention(q, k, v, batch.hidden).transpose(1, 2).reshape(filled, -1)
    return functional.pad(out, (0, 0, 0, full - filled)) if full > filled else out


def attention(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None) -> Tensor:
    """To learn on a CPU by plain products: torch's own takes up to twice the time back."""
    length, kind = q.shape[-2], v.dtype
    if hidden is not None:
        hidden = hidden.to(kind)
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        causal = hidden is None
        return functional.scaled_dot_product_attention(q, k, v, hidden, is_causal=causal)
    if hidden is None:
        hidden = torch.full((length, length), float("-inf"), dtype=kind).triu(1)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
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

    def forward(self, batch: Batch) -> Tensor:
        """The hidden state after the last norm, (tokens, width); what fills a batch up is not
        looked at.
        """
        x = self.token_embd(batch.tokens)
        turn = self.cos[batch.positions].unsqueeze(1), self.sin[batch.positions].unsqueeze(1)
        for layer in self.blk:
            x = layer(x, turn, batch)
        return self.output_norm(x)

    def logits(self, batch: Batch) -> Tensor:
        """Of the places alone, since the output matrix is large: (places, vocabulary)."""
        hidden = self(batch)[batch.places]
        return functional.linear(hidden, self.token_embd.weight).float()

    def loss(self, batch: Batch, held_to: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted cross entropy of what follows the places; and the share of the fully weighted
        ones that were the best guess.

        `held_to`, (held places, vocabulary), is how likely each token is to be where the network
        is held to another: half of the loss there is against it (distillation: Hinton et al. 2015;
        against forgetting: Li and Hoiem 2016).
        """
        logits = self.logits(batch)
        targets, weights = batch.tokens[batch.places + 1], batch.weights
        losses = functional.cross_entropy(logits, targets, reduction="none")
        if held_to is not None:
            held = batch.held.nonzero().squeeze(1)
            softened = functional.cross_entropy(logits[held], held_to, reduction="none")
            losses = losses.index_copy(0, held, (losses[held] + softened) / 2)
        full = (weights == 1).float()
        right = ((logits.argmax(-1) == targets) * full).sum() / full.sum()
        return (losses * weights).sum() / weights.sum(), right


def start(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
