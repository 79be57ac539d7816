"""How the weights move: Muon for the matrices, AdamW for the embedding and the norms."""

from collections import defaultdict

import torch
from network import Network
from torch import Tensor

MOMENTUM = 0.95
DECAY = 0.01
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Newton-Schulz, quintic, as published with Muon


class Optimizer:
    def __init__(
        self, network: Network, matrix_rate: float, other_rate: float, *, in_half: bool
    ) -> None:
        self.matrix_rate, self.other_rate = matrix_rate, other_rate
        self.precision = torch.bfloat16 if in_half else torch.float32
        matrices = [p for p in network.blk.parameters() if p.ndim == 2]
        known = {id(p) for p in matrices}
        others = [p for p in network.parameters() if id(p) not in known]
        self.adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0)
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            alike[matrix.shape].append(matrix)
        self.groups = list(alike.values())  # matrices of one shape
        self.momenta = [torch.zeros_like(torch.stack(group)) for group in self.groups]

    def step(self, scale: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = self.other_rate * scale
        self.adam.step()
        with torch.no_grad():
            for matrices, momenta in zip(self.groups, self.momenta, strict=True):
                self.move(matrices, momenta, self.matrix_rate * scale)

    def move(self, matrices: list[Tensor], momenta: Tensor, rate: float) -> None:
        gradients = torch.stack([matrix.grad for matrix in matrices])
        momenta.mul_(MOMENTUM).add_(gradients)
        directions = orthogonal((gradients + MOMENTUM * momenta).to(self.precision)).float()
        stretch = max(1.0, gradients.shape[1] / gradients.shape[2]) ** 0.5
        torch._foreach_mul_(matrices, 1 - rate * DECAY)
        torch._foreach_add_(matrices, list(directions.unbind()), alpha=-rate * stretch)

    def state(self) -> dict[str, object]:
        return {"adam": self.adam.state_dict(), "momenta": self.momenta}

    def load(self, state: dict[str, object]) -> None:
        self.adam.load_state_dict(state["adam"])
        for momenta, saved in zip(self.momenta, state["momenta"], strict=True):
            momenta.copy_(saved)


def orthogonal(matrices: Tensor) -> Tensor:
    """Near the closest matrices with orthonormal rows or columns."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = POLYNOMIAL
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
