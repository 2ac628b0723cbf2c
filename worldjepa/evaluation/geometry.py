"""The shape of the latent cloud: does it fill its space, or has it collapsed?"""

import torch
from torch import Tensor


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
    """Smallest and mean standard deviation over the D axes of latents (N, D); 1 under SIGReg's target."""
    std = z.std(0)
    return float(std.min()), float(std.mean())
