"""Is every slice of the latents N(0, 1)? p-values of SIGReg's own test, by simulation."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Of the statistic under N(0, 1): p-values are multiples of 1 / (SIMULATIONS + 1).
SIMULATIONS = 4000


def random_basis(dim: int, seed: int) -> Tensor:
    """Orthonormal directions as columns, (D, D) float64. Each is uniform on the sphere, and samples of
    N(0, I) have independent slices along them, which those along independent directions are not."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def simulated(test: nn.Module, count: int, seed: int, simulations: int = SIMULATIONS) -> np.ndarray:
    """What the test gives of `count` samples of N(0, 1), so many times, in rising order, (simulations,)."""
    generator = torch.Generator().manual_seed(seed)
    # Some 16 MB at a time.
    rows = torch.arange(simulations).split(max(1, 2**22 // count))
    values = torch.cat([test(torch.randn(len(part), count, generator=generator)) for part in rows])
    return np.sort(values.numpy())


def p_values(statistics: np.ndarray, null: np.ndarray) -> np.ndarray:
    """How probable it is that N(0, 1) gives as much, (K,) each: (1 + those of the simulations (S,), in rising
    order, that do) / (1 + S), which is never 0."""
    return (1 + len(null) - np.searchsorted(null, statistics, side="left")) / (1 + len(null))


@torch.inference_mode()
def slice_tests(test: nn.Module, z: Tensor, seed: int) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """A test of Gaussianity on all slices of latents (N, D) along a random basis.

    Args:
        test: samples (..., N) to a statistic (...) with a `floor`, as those of `SIGReg`.
        seed: of the basis and of the simulations.

    Returns:
        {"samples": N, "slices": D, "mean": of the statistics, "floor": what N(0, 1) gives on average,
        "rejected": share of slices with p < 0.05, "uniform": p of a Kolmogorov-Smirnov test that the slices'
        p-values are uniform, as those of N(0, I) are}; the p-values (D,); the slices (D, N), float32, in the
        same order.
    """
    # SciPy's statistics are slow to import.
    from scipy.stats import kstest

    slices = (z.double() @ random_basis(z.shape[1], seed)).T.float().contiguous()
    statistics = test(slices).numpy()
    p = p_values(statistics, simulated(test, len(z), seed + 1))
    results = {
        "samples": len(z),
        "slices": len(p),
        "mean": float(statistics.mean()),
        "floor": test.floor,
        "rejected": float((p < 0.05).mean()),
        "uniform": float(kstest(p, "uniform").pvalue),
    }
    return results, p, slices.numpy()
