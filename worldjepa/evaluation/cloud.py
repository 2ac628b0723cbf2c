"""All that `worldjepa geometry` tells of a cloud of latents, as numbers and as the arrays that are drawn."""

from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from torch import nn

from .gaussianity import slice_tests
from .geometry import isotropy, rank_me, spectrum, spread

# Slices that are drawn against the Gaussian, and at how many quantiles.
DRAWN, QUANTILES = 5, 199


def describe(
    z: np.ndarray, test: nn.Module, batch_size: int, seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Rank, spread, spectrum and Gaussianity of latents, beside those of as many samples of N(0, I).

    Args:
        z: (N, D), N ≥ 2.
        test: SIGReg's, of single slices.
        batch_size: so many samples, as a training step sees, are tested, and all of them.
        seed: of what is drawn.

    Returns:
        "latent", "frames", "rank", "isotropy", "std_min", "std_mean", "gaussian": {"rank", "isotropy"} and
        "slices": what `slice_tests` tells of a batch and of all; and the arrays "spectrum" and
        "gaussian_spectrum" (D,), "p_batch" and "p_all" (D,), "levels" (Q,), quantiles of N(0, 1), beside
        "quantiles" (6, Q), those of five slices and, last, of the one that is farthest from it.
    """
    rng, latents = np.random.default_rng(seed), torch.from_numpy(z)
    gaussian = torch.from_numpy(rng.standard_normal(z.shape))
    smallest, mean = spread(latents)
    batch = rng.permutation(len(z))[:batch_size]
    few, p_batch, _ = slice_tests(test, latents[batch], seed)
    every, p_all, slices = slice_tests(test, latents, seed)
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    levels = ndtri(shares)
    quantiles = np.quantile(slices, shares, axis=1).T
    farthest = np.abs(quantiles - levels).mean(1).argmax()
    variances, ideal = spectrum(latents), spectrum(gaussian)
    results = {
        "latent": z.shape[1],
        "frames": len(z),
        "rank": rank_me(latents),
        "isotropy": isotropy(variances),
        "std_min": smallest,
        "std_mean": mean,
        "gaussian": {"rank": rank_me(gaussian), "isotropy": isotropy(ideal)},
        "slices": [few, every],
    }
    arrays = {
        "spectrum": variances.numpy(),
        "gaussian_spectrum": ideal.numpy(),
        "p_batch": p_batch,
        "p_all": p_all,
        "levels": levels,
        "quantiles": quantiles[[*range(min(DRAWN, len(quantiles))), farthest]],
    }
    return results, arrays


def distances(
    z: np.ndarray, coordinates: np.ndarray, pairs: int, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """How far the latents of random pairs of frames are apart, and how far what they show: the distance
    between coordinates, each in units of its standard deviation.

    Args:
        z: (N, D). coordinates: (N, C).

    Returns:
        "distance_correlation", Spearman's, of the two over all pairs, and "near_correlation", over the tenth
        that is nearest physically, each 0 where nothing varies; and the distances themselves,
        "latent_distance" and "physical_distance", (pairs,).
    """
    one, other = np.random.default_rng(seed).integers(len(z), size=(2, pairs))
    std = coordinates.std(0)
    scaled = coordinates[:, std > 1e-9] / std[std > 1e-9]
    latent, physical = (np.linalg.norm(x[one] - x[other], axis=1) for x in (z, scaled))
    near = np.argsort(physical)[: max(2, pairs // 10)]
    correlations = {
        "distance_correlation": _correlation(latent, physical),
        "near_correlation": _correlation(latent[near], physical[near]),
    }
    return correlations, {"latent_distance": latent, "physical_distance": physical}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    varies = np.ptp(one) > 0 and np.ptp(other) > 0
    return float(spearmanr(one, other).statistic) if varies else 0.0


def plane(z: np.ndarray) -> np.ndarray:
    """Latents (N, D) along their two principal axes, (N, 2)."""
    components = min(2, *z.shape)
    return np.pad(PCA(components).fit_transform(z), ((0, 0), (0, 2 - components)))
