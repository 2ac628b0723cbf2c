"""SIGReg: random slices × a univariate test of Gaussianity (LeJEPA, arXiv 2511.08544, Definition 2).

    SIGReg(EppsPulley(), num_slices=1024)(z)    # z (..., N, D) to a scalar

The tests are exchangeable (`univariate.py` has the other ones of the paper's section 4.2): a module that
takes samples (..., N) and `factor`, which stands in place of N before the statistic, and gives (...). Under
data parallelism the samples are those of all ranks (`distributed.py`).
"""

import math

import torch
from torch import Tensor, nn

from .distributed import sum_samples
from .errors import UserError
from .harmonics import harmonic_sums

# LeWorldModel's batch, at which it publishes its λ.
REFERENCE_BATCH = 128


class SIGReg(nn.Module):
    """A univariate test over random directions: mean (Definition 2) or maximum (equation 4).

    The directions are drawn anew at every forward in training mode, from a generator seeded by a counter that
    is a buffer: it is saved with the weights, so a resumed run draws what an undisturbed one would have
    drawn, and every rank draws the same. In evaluation mode the counter stands still.

    What multiplies: a statistic of the paper is N times a divergence from N(0, 1), so a λ beside it belongs
    to one batch size. By default a constant, `reference_batch`, multiplies in place of N (the samples of all
    ranks): one λ then means the same on 1 and on 64 GPUs, and at N = 128 nothing changes.
    `reference_batch=None` is the paper's N.

    Args:
        test: (..., N) samples and a factor to (...).
        num_slices: K, directions of a step.
        reduction: "mean" over the slices, which is trained on, or "max", the statistical test.
        resample: draw anew at each training step; otherwise the counter stands still and the directions are
            fixed, those that `step` says.
        reference_batch: what multiplies the divergence in place of N; None for N.

    Raises:
        UserError: an argument out of its range.
    """

    step: Tensor

    def __init__(
        self,
        test: nn.Module,
        num_slices: int,
        *,
        reduction: str = "mean",
        resample: bool = True,
        reference_batch: float | None = REFERENCE_BATCH,
    ):
        super().__init__()
        if num_slices < 1:
            raise UserError(f"SIGReg: num_slices={num_slices}, not at least 1")
        if reduction not in ("mean", "max"):
            raise UserError(f"SIGReg: reduction={reduction}, neither mean nor max")
        if reference_batch is not None and not reference_batch > 0:
            raise UserError(f"SIGReg: reference_batch={reference_batch}, neither more than 0 nor None")
        self.test, self.num_slices, self.reduction = test, num_slices, reduction
        self.resample, self.reference_batch = resample, reference_batch
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def floor(self) -> float:
        """What N = `reference_batch` samples of N(0, I) give on average: no training goes below it but by
        making samples more regular than random ones. N samples give reference_batch / N times as much, and as
        much as this at any N where `reference_batch` is None. For Epps-Pulley it is exact (see there)."""
        floor = self.test.floor
        assert isinstance(floor, float)
        return floor

    def directions(self, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """This step's unit vectors, (D, K); the same on every device, since they are drawn on the CPU."""
        generator = torch.Generator().manual_seed(int(self.step))
        slices = torch.randn(dim, self.num_slices, generator=generator).to(dtype)
        # Twenty times faster than norm(dim=0), which reads against the memory's order.
        return (slices / slices.square().sum(0).sqrt()).to(device)

    def statistics(self, z: Tensor) -> Tensor:
        """Embeddings (..., N, D), N samples of D dimensions in each of the leading axes, to this step's
        statistic of every slice, (..., K), at least in float32 (autocast is off inside). The counter stays.

        Raises:
            UserError: not floating numbers of at least 2 axes, or no samples.
        """
        if z.ndim < 2 or not z.is_floating_point() or 0 in z.shape:
            raise UserError(f"SIGReg: embeddings are {z.dtype} {tuple(z.shape)}, not floating (..., N, D)")
        with torch.autocast(z.device.type, enabled=False):
            z = z if z.dtype == torch.float64 else z.float()
            slices = self.directions(z.shape[-1], z.device, z.dtype).T
            samples = z.flatten(0, -3) if z.ndim > 2 else z[None]
            # bmm leaves every slice's samples side by side, as the tests want them; matmul would not.
            projected = torch.bmm(slices.expand(len(samples), -1, -1), samples.mT)
            return self.test(projected, self.reference_batch).view(*z.shape[:-2], self.num_slices)

    def forward(self, z: Tensor) -> Tensor:
        """Embeddings (..., N, D) to a scalar: mean or maximum over the slices, mean over the leading axes."""
        statistics = self.statistics(z)
        if self.training and self.resample:
            self.step += 1
        return statistics.mean() if self.reduction == "mean" else statistics.amax(-1).mean()


class EppsPulley(nn.Module):
    """The Epps-Pulley test against N(0, 1), by quadrature (LeJEPA, section 4.2.3).

        N · ∫ |φ_N(t) - exp(-t²/2)|² w(t) dt,   φ_N(t) = mean_n exp(i t x_n),   w(t) = exp(-t²/σ²),

    over [-t_max, t_max]. The integrand is even, so the trapezoid rule runs over [0, t_max] and is doubled.
    With growing t_max and knots it becomes a double sum over samples, the BHEP statistic.

    Neither sines nor cosines of t_j·x are taken or stored (`harmonics.py`): memory is linear in the samples,
    whatever the knots. The second derivative is not implemented: asking for it raises a RuntimeError.

    Args:
        t_max: upper end of the quadrature.
        knots: number of quadrature points on [0, t_max], at least 2.
        bandwidth: σ of the weight; √2 makes it exp(-t²/2), as in the paper's Algorithm 1.
        debiased: take (N·|φ_N|² - 1) / (N - 1), which has no bias, for |φ_N|² (Theorem 6); it may be
            negative. At N = 1 nothing is taken off.
        fused: leave sums and gradient to torch.compile (see `harmonic_sums`).

    Raises:
        UserError: an argument out of its range.
    """

    def __init__(
        self,
        t_max: float = 3.0,
        knots: int = 17,
        *,
        bandwidth: float = math.sqrt(2),
        debiased: bool = False,
        fused: bool = False,
    ):
        super().__init__()
        if knots < 2 or not t_max > 0 or not bandwidth > 0:
            raise UserError(
                f"EppsPulley: t_max={t_max}, knots={knots}, bandwidth={bandwidth}, not > 0, at least 2, > 0"
            )
        self.t_max, self.knots, self.bandwidth = t_max, knots, bandwidth
        self.debiased, self.fused = debiased, fused

    @property
    def floor(self) -> float:
        """Mean of the statistic over samples of N(0, 1), exact for any N: 2 ∫_0^t_max (1 - exp(-t²)) w(t) dt
        by the same quadrature, 1.0525 by default; 0 if debiased."""
        _, target, weight = self.quadrature(torch.empty(0, dtype=torch.float64))
        return 0.0 if self.debiased else float((weight * (1 - target.square())).sum())

    def quadrature(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Knots t_j = j·t_1 without t_0, where nothing is to be tested, N(0, 1)'s characteristic function
        there, and weights; (knots - 1,) each, in the dtype and on the device of `like`."""
        spacing = self.t_max / (self.knots - 1)
        t = spacing * torch.arange(1, self.knots, device=like.device, dtype=like.dtype)
        weight = 2 * spacing * torch.exp(-(t / self.bandwidth).square())
        weight[-1] /= 2
        return t, torch.exp(-t.square() / 2), weight

    def forward(self, x: Tensor, factor: float | None = None) -> Tensor:
        """Samples (..., N), floating, to the statistic (...), in float32 or float64. `factor` multiplies in
        place of N, the samples of all ranks."""
        x = x if x.dtype == torch.float64 else x.float()
        t, target, weight = (value[:, None] for value in self.quadrature(x))
        rows = x.reshape(-1, x.shape[-1])
        sums = harmonic_sums(rows, self.t_max / (self.knots - 1), len(t), fused=self.fused)
        sums, count = sum_samples(sums, x.shape[-1])
        cosine, sine = (sums / count).unbind(1)
        error = (cosine - target).square() + sine.square()
        if self.debiased:
            error = error - (1 - cosine.square() - sine.square()) / (count - 1).clamp_min(1)
        statistic = (weight * error).sum(0) * (count if factor is None else factor)
        return statistic.view(x.shape[:-1])

    def extra_repr(self) -> str:
        quadrature = f"t_max={self.t_max}, knots={self.knots}, bandwidth={self.bandwidth:.4g}"
        return f"{quadrature}, debiased={self.debiased}"
