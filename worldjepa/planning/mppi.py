"""Model-predictive path integral control: every candidate counts, the cheaper the more."""

import torch
from torch import Tensor

from .solver import Objective, Search, Solver


class MPPI(Solver):
    """A Gaussian over plans, refitted to all candidates with weights exp(-cost / λ).

    The weights are those of Williams et al. 2017 (Information-theoretic MPC), without their cost of control.
    The spread is refitted as well as the mean, as by Hansen et al. 2022 (arXiv 2203.04955). Costs differ in
    scale from goal to goal, so λ is a multiple of how far the median candidate is above the best.

    Args:
        low, high: (n,) bounds of one step of a plan.
        num_samples: S, candidates of an iteration, of which the mean is one.
        iterations: how often the Gaussian is refitted, at most.
        initial_std: of the first Gaussian, as a multiple of half the range.
        temperature: that multiple. Towards 0 the best candidate alone counts.
        seed: of the generator.
        stop_below: as of `Search`.
    """

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        num_samples: int,
        iterations: int,
        initial_std: float,
        temperature: float,
        seed: int,
        stop_below: float = 0.0,
    ):
        super().__init__(low, high, seed, stop_below)
        self.num_samples, self.iterations, self.temperature = num_samples, iterations, temperature
        self.initial_std = initial_std * (high - low) / 2

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        """(E, H, n), the weighted mean of the last candidates."""
        std = self.initial_std.expand_as(mean)
        search = Search(objective, self.iterations, self.stop_below, deadline)
        for _ in search:
            plans = self.around(mean, std, self.num_samples)
            weight = self.weights(search(plans))[:, :, None, None]
            mean = (weight * plans).sum(1)
            std = (weight * (plans - mean[:, None]).square()).sum(1).sqrt()
        return mean

    def weights(self, costs: Tensor) -> Tensor:
        """Weights (E, S) of candidates with costs (E, S): positive, 1 in sum."""
        above = costs - costs.amin(1, keepdim=True)
        scale = self.temperature * above.median(1, keepdim=True).values
        return torch.softmax(-above / scale.clamp(min=torch.finfo(costs.dtype).tiny), 1)
