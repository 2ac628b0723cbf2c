"""SIGReg: random slices × a univariate test of Gaussianity (LeJEPA, arXiv 2511.08544, Definition 2).

This is the plain form, exact and readable: every sine and cosine is taken, in the dtype of float32 or above.
"""

import torch
from torch import Tensor, nn


class EppsPulley(nn.Module):
    """The Epps-Pulley test against N(0, 1), by quadrature (LeJEPA, section 4.2.3).

        N · ∫ |φ_N(t) - exp(-t²/2)|² exp(-t²/2) dt,   φ_N(t) = mean_n exp(i t x_n),

    over [-t_max, t_max]. The integrand is even, so the trapezoid rule runs over [0, t_max] and is doubled.
    A perfect Gaussian sample gives 2 ∫_0^t_max exp(-t²/2) (1 - exp(-t²)) dt on average, 1.05 for t_max = 3,
    whatever N is; away from it the statistic grows with N.

    Args:
        t_max: upper end of the quadrature.
        knots: number of quadrature points, at least 2.
    """

    t: Tensor
    target: Tensor
    weight: Tensor

    def __init__(self, t_max: float = 3.0, knots: int = 17):
        super().__init__()
        t = torch.linspace(0, t_max, knots, dtype=torch.float64)
        target = torch.exp(-(t**2) / 2)
        weight = torch.full_like(t, 2 * t_max / (knots - 1))
        weight[[0, -1]] /= 2
        # Constants of the configuration: in the module for its device, not in its checkpoints.
        for name, value in (("t", t), ("target", target), ("weight", weight * target)):
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Samples (..., N), floating, to the statistic (...), never negative."""
        angle = x.unsqueeze(-1) * self.t.to(x.dtype)
        cosine = angle.cos().mean(-2)
        sine = angle.sin().mean(-2)
        error = (cosine - self.target.to(x.dtype)).square() + sine.square()
        return x.shape[-1] * (error * self.weight.to(x.dtype)).sum(-1)


class SIGReg(nn.Module):
    """Mean of a univariate test over random directions (LeJEPA, Definition 2 and Algorithm 1).

    The directions are drawn anew at every forward in training mode, from a generator seeded by a counter that
    is a buffer: it is saved with the weights, so a resumed run draws what an undisturbed one would have
    drawn. In evaluation mode the counter stands still.

    Args:
        test: (..., N) to (...).
        num_slices: K, directions of a step.
    """

    step: Tensor

    def __init__(self, test: nn.Module, num_slices: int):
        super().__init__()
        self.test, self.num_slices = test, num_slices
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def directions(self, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """This step's unit vectors, (D, K); the same on every device, since they are drawn on the CPU."""
        generator = torch.Generator().manual_seed(int(self.step))
        slices = torch.randn(dim, self.num_slices, generator=generator, dtype=dtype)
        return (slices / slices.norm(dim=0)).to(device)

    def forward(self, z: Tensor) -> Tensor:
        """Embeddings (..., N, D), N samples of D dimensions in each of the leading axes, to a scalar: the
        mean over leading axes and slices, at least in float32 (autocast is off inside)."""
        with torch.autocast(z.device.type, enabled=False):
            z = z if z.dtype == torch.float64 else z.float()
            slices = self.directions(z.shape[-1], z.device, z.dtype)
            statistic = self.test((z @ slices).transpose(-1, -2)).mean()
        if self.training:
            self.step += 1
        return statistic
