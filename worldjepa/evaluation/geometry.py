"""The shape of the latent cloud: does it fill its space, or has it collapsed? And how straight time runs
through it."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity


def rank_me(z: Tensor) -> float:
    """Effective rank of latents (N, D): exp of the entropy of their normalised singular values (RankMe, arXiv
    2210.02885, equation 1). From 1, collapsed to a line, to D, isotropic."""
    singular = torch.linalg.svdvals(z.double())
    share = singular / singular.sum() + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def whitening(z: Tensor, floor: float = 0.1) -> Tensor:
    """A linear map W (D, D) after which latents (N, D) have about the identity as their covariance Σ:
    (Σ + floor · trace(Σ)/D · I)^(-1/2), so that directions in which hardly anything varies stay small.
    """
    values, vectors = torch.linalg.eigh(torch.cov(z.double().T))
    # Rounding leaves eigenvalues of a flat cloud a little below 0.
    scale = (values.clamp_min(0) + floor * values.mean()).rsqrt()
    return ((vectors * scale) @ vectors.T).to(z.dtype)


def spread(z: Tensor) -> tuple[float, float]:
    """Smallest and mean standard deviation over the D axes of latents (N, D); 1 under SIGReg's target. Of one
    latent, NaN."""
    if len(z) < 2:
        return math.nan, math.nan
    std = z.std(0)
    return float(std.min()), float(std.mean())


def spectrum(z: Tensor) -> Tensor:
    """Variances of latents (N, D), N ≥ 2, along their principal axes, the largest first, (D,) float64."""
    # Rounding leaves eigenvalues of a flat cloud a little below 0.
    return torch.linalg.eigvalsh(torch.cov(z.double().T).reshape(z.shape[1], -1)).flip(0).clamp_min(0)


def isotropy(variances: Tensor) -> float:
    """How many of D principal axes share the variance, as a share of D: (Σλ)² / (D · Σλ²), the participation
    ratio. From 1/D, one axis has it all, to 1, all have the same; of a cloud without any variance 1/D."""
    squares = variances.square().sum()
    return float(variances.sum().square() / squares) / len(variances) if squares > 0 else 1 / len(variances)


def straightness(z: Tensor) -> float:
    """Mean cosine between successive steps of latents (B, T, D), T ≥ 3: S of LeWorldModel's appendix H
    (arXiv 2603.19312). 1 is a straight line, 0 a random walk, -1/2 frames without any order."""
    steps = (z[:, 1:] - z[:, :-1]).double()
    return float(cosine_similarity(steps[:, 1:], steps[:, :-1], dim=-1, eps=1e-12).mean())
