"""How the weights move: Muon for the matrices, AdamW for the embedding and the norms."""

import torch
from network import Network
from torch import Tensor

MOMENTUM = 0.95
DECAY = 0.01
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # Newton-Schulz, quintic, as published with Muon


class Optimizer:
    def __init__(self, network: Network, matrix_rate: float, other_rate: float) -> None:
        self.matrix_rate, self.other_rate = matrix_rate, other_rate
        self.matrices = [p for p in network.blk.parameters() if p.ndim == 2]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        matrices = {id(p) for p in self.matrices}
        others = [p for p in network.parameters() if id(p) not in matrices]
        self.adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, scale: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = self.other_rate * scale
        self.adam.step()
        with torch.no_grad():
            for matrix, momentum in zip(self.matrices, self.momenta, strict=True):
                self.move(matrix, momentum, self.matrix_rate * scale)

    def move(self, matrix: Tensor, momentum: Tensor, rate: float) -> None:
        gradient = matrix.grad
        momentum.mul_(MOMENTUM).add_(gradient)
        direction = orthogonal(gradient + MOMENTUM * momentum)
        stretch = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        matrix.mul_(1 - rate * DECAY).add_(direction, alpha=-rate * stretch)

    def state(self) -> dict[str, object]:
        return {"adam": self.adam.state_dict(), "momenta": self.momenta}

    def load(self, state: dict[str, object]) -> None:
        self.adam.load_state_dict(state["adam"])
        for momentum, saved in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(saved)


def orthogonal(matrix: Tensor) -> Tensor:
    """Near the closest matrix with orthonormal rows or columns."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    a, b, c = POLYNOMIAL
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
