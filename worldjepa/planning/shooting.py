"""Random shooting: what every other solver has to beat."""

import torch
from torch import Tensor

from .solver import Objective, Search, Solver


class Shooting(Solver):
    """Plans uniform within the bounds, of which the cheapest is taken; where to start is one of them.

    Args:
        low, high: (n,) bounds of one step of a plan.
        num_samples: S, candidates of an iteration.
        iterations: how often they are drawn, which is the same as drawing S · iterations at once.
        seed: of the generator.
        stop_below: as of `Search`.
    """

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        num_samples: int,
        iterations: int,
        seed: int,
        stop_below: float = 0.0,
    ):
        super().__init__(low, high, seed, stop_below)
        self.num_samples, self.iterations = num_samples, iterations

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        """(E, H, n), the cheapest candidate."""
        shape = (mean.shape[0], self.num_samples, *mean.shape[1:])
        search = Search(objective, self.iterations, self.stop_below, deadline)
        for number in search:
            share = torch.rand(shape, generator=self.generator, device=mean.device)
            plans = self.low + share * (self.high - self.low)
            if number == 0:
                plans[:, 0] = mean
            search(plans.clamp(self.low, self.high))
        return search.plan
