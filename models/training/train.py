"""Trains the network for a fixed number of steps: in processes that share the cores, or on a GPU.

All that happens follows from the seed, the number of processes and the number of steps, up to the
order in which floating-point sums are made. A checkpoint is written every few minutes; --resume
goes on from it.
"""

import argparse
import copy
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tokenizer as vocabulary
import torch
import torch.multiprocessing as processes
from batches import Batch, Padded, Place, Row, Stream, cut, moved, padded
from corpus import REFINING
from export import shape_of, tokenizer_of, weights_of
from network import Network, Shape
from numpy.typing import NDArray
from optimizer import Optimizer
from places import checkpoint_of, folder_option, vocabulary_of
from torch import Tensor, distributed
from torch.nn.attention import SDPBackend, sdpa_kernel

# glibc gives large blocks back at once, and a quarter of the time goes into faulting them in again.
# (A threshold of more than 32 MB, above which blocks are mapped, is not taken: none are.)
KEPT_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
}

# On a GPU the second takes what has branches; the first takes all else, and is faster.
ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
POOLED = 8  # batches of what is hard, from which rows of like length are put together
KNOWN = 0.7  # how likely the right token must be


def arguments() -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    folder_option(parser)
    parser.add_argument("--steps", type=int, default=13_500)
    parser.add_argument("--processes", type=int, default=1 if on_gpu else 2)
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument(
        "--workers", type=int, default=ahead(on_gpu), help="that make batches ahead"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=131_072, help="in a step, of all processes")
    parser.add_argument("--warm-up", type=int, default=100, help="steps until the full rate")
    parser.add_argument("--decay", type=float, default=0.5, help="share of steps that slow down")
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--layers", type=int, default=Shape().layers)
    parser.add_argument("--width", type=int, default=Shape().width)
    parser.add_argument("--save-every", type=int, default=250, help="steps")
    parser.add_argument("--minutes", type=float, default=1e9, help="until this stretch ends")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--compile", action="store_true", help="the layers; needs a C++ compiler")
    parser.add_argument(
        "--refine", type=Path, help="a GGUF to begin with, and to train on what is hardest"
    )
    return parser.parse_args()


def ahead(on_gpu: bool) -> int:
    """A GPU trains faster than one process makes conversations up; two cores do not."""
    return max(1, (os.cpu_count() or 2) - 2) if on_gpu else 0


def rate_at(step: int, options: argparse.Namespace) -> float:
    """Up in a line, level, and down in a line to a fiftieth."""
    rise = (step + 1) / options.warm_up
    fall = (options.steps - step) / (options.steps * options.decay)
    return max(0.02, min(1.0, rise, fall))


class Training:
    """The state of one process."""

    def __init__(self, options: argparse.Namespace, rank: int) -> None:
        torch.manual_seed(options.seed)
        self.options, self.rank = options, rank
        self.device, self.in_half = torch.device(options.device), is_fast_in_half()
        self.shape = shape_asked_for(options)
        self.network = Network(self.shape).to(self.device)
        self.anchor = None
        if options.refine:
            self.network.load_state_dict(weights_of(options.refine))
            self.anchor = copy.deepcopy(self.network).requires_grad_(False)
        self.fills_up = options.compile and self.device.type == "cuda"  # to one shape
        if options.compile:
            for layer in self.network.blk:
                layer.compiled(one_shape=self.fills_up)
        self.optimizer = Optimizer(
            self.network, options.matrix_rate, options.other_rate, in_half=self.in_half
        )
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        self.places = [Place()] * options.processes
        if options.resume:
            self.load()

    def run(self) -> None:
        options, began = self.options, time.monotonic()
        smooth = right = torch.zeros((), device=self.device)
        place = self.places[self.rank]
        stream = (
            self.hardest(place) if options.refine else self.stream().batches(place, options.workers)
        )
        before = began
        while self.step < options.steps:
            made, place = next(stream)
            loss, right = self.advance(made)
            self.step += 1
            self.tokens += made.tokens.size * options.processes
            # On the device: to look at each loss would be to wait for each step.
            smooth = torch.where(smooth == 0, loss, 0.97 * smooth + 0.03 * loss)
            if self.step % 50 == 0 or self.step == options.steps:
                shown = smooth.item(), right.item()
                before, passed = time.monotonic(), time.monotonic() - before
                self.seconds += passed
                if self.rank == 0:
                    self.report(*shown)
            if self.step % options.save_every == 0 or self.step == options.steps:
                is_over = time.monotonic() - began > 60 * options.minutes
                if self.kept(place, is_over):
                    break

    def stream(self) -> Stream:
        options, longest = self.options, self.shape.context
        share = options.tokens // options.processes
        path = vocabulary_of(options.folder)
        first = REFINING if options.refine else 0
        return Stream(path, longest, options.seed, self.rank, options.processes, share, first)

    def advance(self, made: Padded) -> tuple[Tensor, Tensor]:
        batch = self.filled(made)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_half)
        with half, sdpa_kernel(ATTENTION):
            loss, right = self.network.loss(batch, self.held_to(made))
        loss.backward()
        self.share_gradients()
        self.optimizer.step(rate_at(self.step, self.options))
        self.network.zero_grad(set_to_none=True)
        return loss.detach(), right

    def filled(self, made: Padded) -> Batch:
        """On the device, in the one shape that the layers are compiled for, if so they are."""
        share = self.options.tokens // self.options.processes
        return moved(made, self.device, share if self.fills_up else 0)

    def held_to(self, made: Padded) -> Tensor | None:
        """What the anchor says where rows are held to it."""
        if self.anchor is None or not made.held.any():
            return None
        with torch.no_grad():
            return self.anchor.logits(moved(made.only(made.held), self.device)).softmax(-1)

    def hardest(self, place: Place) -> Iterator[tuple[Padded, Place]]:
        """What the network does not say yet, and what it is held to: of text that is mostly known
        a pass forward costs a third of what learning from it would (Jiang et al. 2019).
        """
        share = self.options.tokens // self.options.processes
        kept: list[Row] = []
        for made, after in self.stream().batches(place, self.options.workers):
            kept += made.unpadded(self.hard(made))
            if sum(map(len, kept)) >= POOLED * share:
                *full, rest = cut(sorted(kept, key=len), share)
                random.Random(f"{after.pool}/{after.batch}").shuffle(full)
                yield from ((padded(group), after) for group in full)
                kept = rest

    def hard(self, made: Padded) -> NDArray[np.bool_]:
        """Which branches have an answer with a token that is not thought likely, and all of what is
        held (rows, branches; of a row that has none, 0).
        """
        hard = np.zeros((len(made.held), made.branches.max() + 1), dtype=bool)
        hard[made.held] = True
        asked = made.only(~made.held)
        if not len(asked.tokens):
            return hard
        batch = self.filled(asked)
        with torch.no_grad():
            shares = self.network.logits(batch).softmax(-1)
        targets = batch.tokens[batch.places + 1]
        likely = shares.gather(1, targets.unsqueeze(1)).squeeze(1).cpu().numpy()
        missed = asked.places[(likely < KNOWN) & (asked.weights == 1)]
        rows = np.flatnonzero(~made.held)[missed // batch.length]
        hard[rows, asked.branches.ravel()[missed + 1]] = True
        return hard

    def share_gradients(self) -> None:
        """The mean over all processes, in one message."""
        if self.options.processes == 1:
            return
        gradients = [p.grad for p in self.network.parameters()]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.options.processes
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def report(self, loss: float, right: float) -> None:
        print(
            f"step {self.step} loss {loss:.4f} right {right:.4f} "
            f"tokens {self.tokens / 1e6:.2f}M {self.tokens / self.seconds:.0f}/s "
            f"{self.seconds:.1f}s",
            flush=True,
        )

    def kept(self, place: Place, is_over: bool) -> bool:
        """Saves where all processes are; whether the first of them finds that it is time to end."""
        states = self.gathered(torch.tensor([place.pool, place.batch, int(is_over)]))
        self.places = [Place(pool, batch) for pool, batch, _ in states]
        if self.rank == 0:
            self.save()
        return bool(states[0][2])

    def gathered(self, state: Tensor) -> list[list[int]]:
        if self.options.processes == 1:
            return [state.tolist()]
        states = [torch.zeros_like(state) for _ in range(self.options.processes)]
        distributed.all_gather(states, state)
        return [each.tolist() for each in states]

    def save(self) -> None:
        state = {
            "shape": asdict(self.shape),
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state(),
            "progress": (self.step, self.seconds, self.tokens),
            "places": [(place.pool, place.batch) for place in self.places],
        }
        path = checkpoint_of(self.options.folder)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self) -> None:
        path = checkpoint_of(self.options.folder)
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.network.load_state_dict(state["weights"])
        self.optimizer.load(state["optimizer"])
        self.step, self.seconds, self.tokens = state["progress"]
        self.places = [Place(pool, batch) for pool, batch in state["places"]]


def shape_asked_for(options: argparse.Namespace) -> Shape:
    if options.refine:
        return shape_of(options.refine)
    size = vocabulary.load(vocabulary_of(options.folder)).get_vocab_size()
    return Shape.sized(size, options.width, options.layers)


def is_fast_in_half() -> bool:
    """Whether this machine multiplies numbers of 16 bits faster than those of 32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def work(rank: int, options: argparse.Namespace, meeting: str) -> None:
    if options.device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // options.processes))
    if options.processes > 1:
        distributed.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=options.processes
        )
    Training(options, rank).run()
    if options.processes > 1:
        distributed.destroy_process_group()


def main() -> None:
    options = arguments()
    for name, value in KEPT_MEMORY.items():
        os.environ.setdefault(name, value)
    if options.refine:
        options.folder.mkdir(parents=True, exist_ok=True)
        tokenizer_of(options.refine).save(str(vocabulary_of(options.folder)))
    place = options.folder / "meeting"
    place.unlink(missing_ok=True)
    processes.spawn(work, (options, f"file://{place}"), options.processes)


if __name__ == "__main__":
    main()
