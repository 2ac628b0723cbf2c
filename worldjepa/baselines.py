"""The terms of rival losses, for images and for world models, and the averaged copy that some of them need.

Each is a function of the samples of all ranks (`all_samples`), so every rank computes the same loss, and W
processes give the gradient of one on the whole batch.
"""

import copy
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from .distributed import gather_samples


def all_samples(z: Tensor) -> Tensor:
    """Every rank's samples (..., B, D) together, (..., ΣB, D), at least in float32."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    return gather_samples(z.mT).mT


def view_pairs(views: int, centres: int) -> list[tuple[int, int]]:
    """Pairs of different views of which the first at least is one of the `centres` global ones, which come
    first: those that a loss on two views is averaged over where there are more."""
    return [pair for pair in combinations(range(views), 2) if pair[0] < centres]


def variance(z: Tensor, least: float = 1.0, epsilon: float = 1e-4) -> Tensor:
    """VICReg's variance term, the mean over the dimensions of max(0, γ - √(Var + ε)), Var unbiased over the
    samples (Bardes et al., arXiv 2105.04906, equations 1 and 2). (..., N, D) to (...)."""
    return torch.relu(least - (z.var(-2) + epsilon).sqrt()).mean(-1)


def covariance(z: Tensor) -> Tensor:
    """VICReg's covariance term, the sum of the squares beside the diagonal of the covariance matrix, divided
    by D (likewise, equations 3 and 4). (..., N, D) to (...)."""
    samples, dimensions = z.shape[-2:]
    centred = z - z.mean(-2, keepdim=True)
    matrix = centred.mT @ centred / (samples - 1)
    beside = matrix.square().sum((-2, -1)) - matrix.diagonal(dim1=-2, dim2=-1).square().sum(-1)
    return beside / dimensions


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss of two views (N, D) each: cross-entropy of finding a sample's other view among the 2N - 1
    samples that are not itself, by cosine similarity / temperature (Chen et al., arXiv 2002.05709, equation
    1, and Algorithm 1's mean over both directions)."""
    count = len(one)
    z = nn.functional.normalize(torch.cat([one, other]), dim=1)
    similarity = z @ z.T / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=z.device)
    place = torch.arange(2 * count, device=z.device)
    return nn.functional.cross_entropy(
        similarity.masked_fill(itself, -torch.inf), (place + count) % (2 * count)
    )


def direction_error(predicted: Tensor, target: Tensor) -> Tensor:
    """BYOL's squared distance of unit vectors, 2 - 2 · cosine (Grill et al., arXiv 2006.07733, equation 2),
    (..., D) to (...)."""
    return 2 - 2 * nn.functional.cosine_similarity(predicted, target, dim=-1)


class Averaged(nn.Module):
    """A copy of some modules whose weights follow theirs, ξ ← m·ξ + (1 - m)·θ, without gradient (BYOL,
    section 3.1). BatchNorm's statistics are its own.

    Args:
        modules: copied, in this order; called one on the other's output.
        momentum: m.
    """

    def __init__(self, modules: list[nn.Module], momentum: float):
        super().__init__()
        self.momentum = momentum
        self.copies = nn.Sequential(*(copy.deepcopy(module) for module in modules)).requires_grad_(False)

    @torch.no_grad()
    def follow(self, modules: list[nn.Module]) -> None:
        """One step of the average; to be called once for each step of the optimizer."""
        ours: list[Tensor] = list(self.copies.parameters())
        theirs: list[Tensor] = [p for module in modules for p in module.parameters()]
        torch._foreach_lerp_(ours, theirs, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, x: Tensor, **named: Any) -> Tensor:
        """What the copies make of x, each of the one before it; `named` are arguments of the first."""
        first, *others = self.copies
        x = first(x, **named)
        for module in others:
            x = module(x)
        return x
