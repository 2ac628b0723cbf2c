"""The improved cross-entropy method: coloured noise, and elites that are remembered (arXiv 2008.06389)."""

import torch
from torch import Tensor

from .cem import CEM
from .solver import Objective, Search, cheapest

# As in the paper: candidates of an iteration over those of the next, the share of the elites that is kept,
# and the weight of the old Gaussian in the new one.
DECAY, KEPT, MOMENTUM = 1.25, 0.3, 0.1


def coloured(white: Tensor, exponent: float) -> Tensor:
    """Noise of power spectrum 1/f^exponent and variance 1 (Timmer and König 1995).

    Args:
        white: (..., 2T, A) independent standard normal numbers. Twice the length: the noise is a window of a
            periodic signal that does not close on itself.
        exponent: 0 is white, 1 pink, 2 red.

    Returns:
        (..., T, A), correlated along T.
    """
    length = white.shape[-2]
    frequency = torch.fft.fftfreq(length, device=white.device).abs()
    scale = torch.where(frequency > 0, frequency.clamp(min=1 / length) ** (-exponent / 2), 0)
    scale = scale / scale.square().mean().sqrt()
    spectrum = torch.fft.rfft(white, dim=-2) * scale[: length // 2 + 1, None]
    return torch.fft.irfft(spectrum, length, dim=-2)[..., : length // 2, :]


def shares(num_samples: int, smallest: int, iterations: int) -> list[int]:
    """Candidates of each iteration: `smallest` and more, fewer each time, num_samples · iterations in all."""
    weights = torch.tensor(DECAY, dtype=torch.float64) ** -torch.arange(iterations)
    spare = (num_samples - smallest) * iterations
    ends = (spare * weights.cumsum(0) / weights.sum()).round().long()
    return [smallest + int(n) for n in torch.diff(ends, prepend=ends.new_zeros(1))]


class ICEM(CEM):
    """CEM whose candidates are smooth in time, and which remembers its best plans.

    Candidates deviate from the mean by noise that is coloured over the H · k actions of a plan. Some of the
    elites are candidates of the next iteration too, and, shifted by what was carried out, of the next
    decision's first. The mean is a candidate of the last iteration alone. Each iteration has fewer candidates
    than the one before; all together have as many as CEM's.

    Args:
        low, high, num_elites, iterations, initial_std, seed, stop_below: as of CEM.
        num_samples: S, candidates of an iteration on average.
        noise_exponent: β, of the noise's power spectrum 1/f^β.
        frameskip: k, actions in one step of a plan.
    """

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        num_samples: int,
        num_elites: int,
        iterations: int,
        initial_std: float,
        seed: int,
        stop_below: float = 0.0,
        noise_exponent: float = 2.0,
        frameskip: int = 1,
    ):
        super().__init__(low, high, num_samples, num_elites, iterations, initial_std, seed, stop_below)
        self.noise_exponent, self.frameskip = noise_exponent, frameskip
        # Room for a kept elite and the mean.
        self.counts = shares(num_samples, max(2, num_elites), iterations)
        self.kept = max(1, round(KEPT * num_elites))

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        """(E, H, n), the cheapest candidate of all."""
        std = self.initial_std.expand_as(mean)
        kept = mean[:, None][:, :0] if self.memory is None else self.memory
        search = Search(objective, self.iterations, self.stop_below, deadline)
        for number in search:
            old = [kept, mean[:, None]] if number == self.iterations - 1 else [kept]
            fresh = self.counts[number] - sum(plans.shape[1] for plans in old)
            plans = torch.cat([*old, self._smooth(mean, std, fresh)], 1).clamp(self.low, self.high)
            elites = cheapest(plans, search(plans), self.num_elites)
            kept = elites[:, : self.kept]
            mean = MOMENTUM * mean + (1 - MOMENTUM) * elites.mean(1)
            std = MOMENTUM * std + (1 - MOMENTUM) * elites.std(1, correction=0)
        self.memory = kept
        return search.plan

    def _smooth(self, mean: Tensor, std: Tensor, count: int) -> Tensor:
        """Plans (E, count, H, n) around mean and std (E, H, n)."""
        episodes, horizon, width = mean.shape
        steps = horizon * self.frameskip
        noise = coloured(self.white(episodes, count, 2 * steps, width // self.frameskip), self.noise_exponent)
        return mean[:, None] + std[:, None] * noise.reshape(episodes, count, horizon, width)
