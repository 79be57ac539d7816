"""Trains the network for a fixed number of steps, in one or more processes of one thread each.

All that happens follows from the seed, the number of processes and the number of steps, up to the
order in which floating-point sums are made. A checkpoint is written every few minutes; --resume
goes on from it.
"""

import argparse
import os
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import tokenizer as vocabulary
import torch
import torch.multiprocessing as processes
from batches import Batch, Rows, batches
from network import Network, Shape
from optimizer import Optimizer
from torch import distributed

# glibc gives large blocks back at once; faulting them in again halves the speed of training.
KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
}
CHECKPOINT = Path(__file__).parent / "out" / "checkpoint.pt"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=3072, help="in a batch of one process")
    parser.add_argument("--warm-up", type=int, default=60, help="steps until the full rate")
    parser.add_argument("--decay", type=float, default=0.45, help="share of steps that slow down")
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--layers", type=int, default=Shape().layers)
    parser.add_argument("--save-every", type=float, default=180, help="seconds")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


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
        tokenizer = vocabulary.load()
        self.shape = Shape(vocabulary=tokenizer.get_vocab_size(), layers=options.layers)
        self.rows = Rows(tokenizer, self.shape.context)
        self.network = Network(self.shape)
        self.optimizer = Optimizer(self.network, options.matrix_rate, options.other_rate)
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        if options.resume:
            self.load()

    def run(self) -> None:
        options = self.options
        stream = batches(self.rows, options.seed, self.rank, options.processes, options.tokens)
        smooth, saved = 0.0, time.monotonic()
        for batch in islice(stream, self.step, options.steps):
            began = time.monotonic()
            loss, right = self.advance(batch)
            self.step += 1
            self.seconds += time.monotonic() - began
            self.tokens += batch[0].numel() * options.processes
            smooth = loss if smooth == 0.0 else 0.97 * smooth + 0.03 * loss
            if self.rank == 0 and self.step % 50 == 0:
                self.report(smooth, right)
            if self.rank == 0 and time.monotonic() - saved > options.save_every:
                self.save()
                saved = time.monotonic()
        if self.rank == 0:
            self.save()

    def advance(self, batch: Batch) -> tuple[float, float]:
        loss, right = self.network.loss(*batch)
        loss.backward()
        self.share_gradients()
        self.optimizer.step(rate_at(self.step, self.options))
        self.network.zero_grad(set_to_none=True)
        return loss.item(), right.item()

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
            f"{self.seconds:.0f}s",
            flush=True,
        )

    def save(self) -> None:
        state = {
            "shape": asdict(self.shape),
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state(),
            "progress": (self.step, self.seconds, self.tokens),
        }
        partial = CHECKPOINT.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(CHECKPOINT)

    def load(self) -> None:
        state = torch.load(CHECKPOINT, weights_only=True)
        self.network.load_state_dict(state["weights"])
        self.optimizer.load(state["optimizer"])
        self.step, self.seconds, self.tokens = state["progress"]


def work(rank: int, options: argparse.Namespace, meeting: str) -> None:
    torch.set_num_threads(1)
    if options.processes > 1:
        distributed.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=options.processes
        )
    Training(options, rank).run()
    if options.processes > 1:
        distributed.destroy_process_group()


def main() -> None:
    options = arguments()
    CHECKPOINT.parent.mkdir(exist_ok=True)
    for name, value in KEPT_MEMORY.items():
        os.environ.setdefault(name, value)
    place = CHECKPOINT.with_name("meeting")
    place.unlink(missing_ok=True)
    processes.spawn(work, (options, f"file://{place}"), options.processes)


if __name__ == "__main__":
    main()
