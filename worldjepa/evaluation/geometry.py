"""The shape of the latent cloud: does it fill its space, or has it collapsed?"""

import torch
from torch import Tensor


def rank_me(z: Tensor) -> float:
    """Effective rank of latents (N, D): exp of the entropy of their normalised singular values (RankMe, arXiv
    2210.02885, equation 1). From 1, collapsed to a line, to D, isotropic."""
    singular = torch.linalg.svdvals(z.double())
    share = singular / singular.sum() + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def spread(z: Tensor) -> tuple[float, float]:
    """Smallest and mean standard deviation over the D axes of latents (N, D); 1 under SIGReg's target."""
    std = z.std(0)
    return float(std.min()), float(std.mean())
