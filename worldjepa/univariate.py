"""The other tests of Gaussianity of LeJEPA's section 4.2 (arXiv 2511.08544), for `SIGReg` and for comparison.

Each is against N(0, 1) and takes samples (..., N), floating, and `factor`, which multiplies in place of N
(`SIGReg` says why); it gives (...), in float32 or float64 (autocast does not reach inside). Under data
parallelism the samples of all ranks are gathered, with their gradients. Constant samples and N = 2 give
finite values and gradients.
"""

import torch
from torch import Tensor, nn

from .distributed import gather_samples


class _UnivariateTest(nn.Module):
    """N, or what stands in its place, times `divergence`.

    Attributes:
        floor: what samples of N(0, 1) give on average as N grows.
    """

    floor: float

    def forward(self, x: Tensor, factor: float | None = None) -> Tensor:
        """Samples (..., N) to the statistic (...). `factor` multiplies in place of N, the samples of all
        ranks."""
        x = gather_samples(x if x.dtype == torch.float64 else x.float())
        return (x.shape[-1] if factor is None else factor) * self.divergence(x)

    def divergence(self, x: Tensor) -> Tensor:
        """The statistic over N: samples (..., N) to (...)."""
        raise NotImplementedError


class JarqueBera(_UnivariateTest):
    """N/6 · (skewness² + (kurtosis - 3)²/4) (LeJEPA, section 4.2.1): Gaussian of whatever mean and variance.

    Args:
        epsilon: the variance is taken for at least this where it divides.
    """

    floor = 2.0

    def __init__(self, epsilon: float = 1e-8):
        super().__init__()
        self.epsilon = epsilon

    def divergence(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        variance = x.square().mean(-1).clamp_min(self.epsilon)
        skewness = x.pow(3).mean(-1) / variance**1.5
        kurtosis = x.pow(4).mean(-1) / variance.square()
        return (skewness.square() + (kurtosis - 3).square() / 4) / 6


class ExtendedJarqueBera(JarqueBera):
    """N·mean²/s² + (N-1)·(s² - 1)²/2 + Jarque-Bera (LeJEPA, section 4.2.1), s² the unbiased variance.

    The first term is the square of Student's t, the second that of the normal approximation of a χ² with N-1
    degrees.

    Args:
        epsilon: the variance is taken for at least this where it divides.
    """

    floor = 4.0

    def divergence(self, x: Tensor) -> Tensor:
        N = x.shape[-1]
        variance = _unbiased_variance(x)
        mean = x.mean(-1).square() / variance.clamp_min(self.epsilon)
        return mean + (N - 1) / N * (variance - 1).square() / 2 + super().divergence(x)


class VCReg(_UnivariateTest):
    """mean² + (s - 1)², s² the unbiased variance: the degenerate test with which LeJEPA becomes VICReg
    (section 5.2).

    It has no factor N, so `factor` changes nothing. Over many slices the first term becomes |mean|²/D, and
    the second, near the identity, (2·|Cov - I|² + tr(Cov - I)²) / (4·D·(D + 2)), in Frobenius' norm.

    Args:
        epsilon: s is the root of the variance and this.
    """

    floor = 0.0

    def __init__(self, epsilon: float = 1e-12):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x: Tensor, factor: float | None = None) -> Tensor:
        return super().forward(x, factor=1.0)

    def divergence(self, x: Tensor) -> Tensor:
        deviation = (_unbiased_variance(x) + self.epsilon).sqrt()
        return x.mean(-1).square() + (deviation - 1).square()


class CramerVonMises(_UnivariateTest):
    """N ∫ (F_N(x) - Φ(x))² dΦ(x) (LeJEPA, section 4.2.2), F_N the empirical distribution function."""

    floor = 1 / 6

    def divergence(self, x: Tensor) -> Tensor:
        distances = torch.special.ndtr(x.sort(-1).values) - _middles(x)
        return distances.square().mean(-1) + 1 / (12 * x.shape[-1] ** 2)


class Watson(CramerVonMises):
    """Cramér-von Mises - N·(mean Φ(x_n) - 1/2)² (LeJEPA, section 4.2.2): with Φ(x) on a circle, it does not
    matter where the circle begins."""

    floor = 1 / 12

    def divergence(self, x: Tensor) -> Tensor:
        return super().divergence(x) - (torch.special.ndtr(x).mean(-1) - 0.5).square()


class AndersonDarling(_UnivariateTest):
    """N ∫ (F_N(x) - Φ(x))² / (Φ(x)·(1 - Φ(x))) dΦ(x) (LeJEPA, section 4.2.2): Cramér-von Mises that looks at
    the tails.

    Logarithms of Φ are taken without Φ, so samples far out keep their value and gradient.
    """

    floor = 1.0

    def divergence(self, x: Tensor) -> Tensor:
        x = x.sort(-1).values
        # log(1 - Φ(x)) is log Φ(-x); the N+1-n th sample's stands beside the n th's.
        logarithms = torch.special.log_ndtr(x) + torch.special.log_ndtr(-x.flip(-1))
        return -1 - 2 * (_middles(x) * logarithms).mean(-1)


def _middles(x: Tensor) -> Tensor:
    """(n - 1/2)/N for n = 1..N, the middles of the steps of F_N, (N,)."""
    N = x.shape[-1]
    return (torch.arange(N, device=x.device, dtype=x.dtype) + 0.5) / N


def _unbiased_variance(x: Tensor) -> Tensor:
    """(..., N) to (...); of one sample 0."""
    return (x - x.mean(-1, keepdim=True)).square().sum(-1) / max(x.shape[-1] - 1, 1)
