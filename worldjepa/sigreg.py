"""SIGReg: random slices × a univariate test of Gaussianity (LeJEPA, arXiv 2511.08544, Definition 2).

    SIGReg(EppsPulley(), num_slices=1024)(z)    # z (..., N, D) to a scalar

The tests are exchangeable (`univariate.py` has the other ones of the paper's section 4.2): a module that
takes samples (..., N) and `factor`, which stands in place of N before the statistic, and gives (...). Under
data parallelism the samples are those of all ranks (`distributed.py`).
"""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .distributed import sum_samples
from .errors import UserError


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
        reference_batch: float | None = 128,
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
        return (slices / slices.norm(dim=0)).to(device)

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

    Neither sines nor cosines of t_j·x are taken or stored: they follow from those of t_1·x by angle addition,
    block by block, in the backward once more. So memory is linear in the samples, whatever the knots. The
    second derivative is not implemented: asking for it raises a RuntimeError.

    Args:
        t_max: upper end of the quadrature.
        knots: number of quadrature points on [0, t_max], at least 2.
        bandwidth: σ of the weight; √2 makes it exp(-t²/2), as in the paper's Algorithm 1.
        debiased: take (N·|φ_N|² - 1) / (N - 1), which has no bias, for |φ_N|² (Theorem 6); it may be
            negative. At N = 1 nothing is taken off.
        fused: sums and gradient go through torch.compile: about three times faster on a CPU, after up
            to a minute of compiling, and it needs a C++ compiler there, Triton on a GPU.

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
        sums = _HarmonicSums.apply(rows, self.t_max / (self.knots - 1), len(t), self.fused)
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


class _HarmonicSums(torch.autograd.Function):
    """Rows of samples (R, N) to Σ_n cos(j·a·x_n) and Σ_n sin(j·a·x_n), j = 1..J, as (J, 2, R)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: float, J: int, fused: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.arguments = a, fused
        sums = x.new_empty(2 * (J + J % 2), len(x))
        for rows in _blocks(x, fused):
            sums[:, rows] = _kernels(fused)[0](x[rows] * a, (J + 1) // 2)
        return sums.unflatten(0, (-1, 2))[:J]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (x,), (a, fused) = ctx.saved_tensors, ctx.arguments
        J = len(gradient)
        frequency = a * torch.arange(1, J + 1, device=x.device, dtype=x.dtype)[:, None]
        coefficients = x.new_zeros(J + J % 2, 2, len(x))
        coefficients[:J, 0] = frequency * gradient[:, 1]
        coefficients[:J, 1] = -frequency * gradient[:, 0]
        coefficients = coefficients.view(-1, 4, len(x), 1)
        result = torch.empty_like(x)
        for rows in _blocks(x, fused):
            result[rows] = _kernels(fused)[1](x[rows] * a, coefficients[:, :, rows])
        return result, None, None, None


def _blocks(x: Tensor, fused: bool) -> Iterator[slice]:
    """Slices of the rows of `x` (R, N): what a block works on, 13 times its size, stays in a CPU's cache;
    elsewhere it is large enough to be worth a launch. A fused block keeps nothing."""
    samples = x.numel() if fused else 2**17 if x.device.type == "cpu" else 2**21
    rows = max(1, samples // x.shape[1])
    return (slice(first, first + rows) for first in range(0, len(x), rows))


@cache
def _kernels(fused: bool) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    return (torch.compile(_sums), torch.compile(_series)) if fused else (_sums, _series)


def _sums(angle: Tensor, groups: int) -> Tensor:
    """Angles (R, N) to the sums over N of their `groups` groups of harmonics, (4·groups, R)."""
    return torch.cat([sign * group.sum(-1) for sign, group in _harmonics(angle, groups)])


def _series(angle: Tensor, coefficients: Tensor) -> Tensor:
    """Angles (R, N) to the trigonometric series with `coefficients` (groups, 4, R, 1), (R, N)."""
    series: Tensor | None = None
    for (sign, group), coefficient in zip(_harmonics(angle, len(coefficients)), coefficients, strict=True):
        if series is None:
            series = group * coefficient
        else:
            series.addcmul_(group, coefficient, value=sign)
    assert series is not None
    return series.sum(0)


def _harmonics(angle: Tensor, groups: int) -> Iterator[tuple[int, Tensor]]:
    """Cosine and sine of k·angle and of (k+1)·angle, as (4, *angle.shape), for k = 1, 3, 5, ..., each with
    the sign that its group has to be multiplied by; a group is overwritten two groups later.

    By angle addition, f(k+2) = 2 cos(2·angle) · f(k) - f(k-2) for either function. Steps of two instead of
    one, cos(2·angle) from the sine, and a start afresh after 32 harmonics keep the error in float32 at that
    of sines and cosines taken one by one: near 0 it grows with the square of the steps. The signs let every
    group be one fused operation in place.
    """
    cosine, sine = angle.cos(), angle.sin()
    now = torch.stack([cosine, sine, 1 - 2 * sine * sine, 2 * sine * cosine])
    before = torch.stack([cosine, -sine, torch.ones_like(sine), torch.zeros_like(sine)])
    step = 2 * now[2]
    for group in range(groups):
        if group and group % 16 == 0:
            before, now = _two_harmonics(angle, 2 * group - 1), _two_harmonics(angle, 2 * group + 1)
        elif group:
            before.addcmul_(step, now, value=-1 if group % 2 else 1)
            now, before = before, now
        yield (1, -1, -1, 1)[group % 4], now


def _two_harmonics(angle: Tensor, k: int) -> Tensor:
    """Cosine and sine of k·angle and of (k+1)·angle, as (4, *angle.shape), taken one by one."""
    first, second = k * angle, (k + 1) * angle
    return torch.stack([first.cos(), first.sin(), second.cos(), second.sin()])
