"""The cross-entropy method, for many episodes in one batch."""

from collections.abc import Callable

import torch
from torch import Tensor

# Candidate plans (E, S, H, n) to their costs (E, S), for E episodes.
Objective = Callable[[Tensor], Tensor]


class CEM:
    """Draw plans from a Gaussian, refit it to the cheapest, repeat (Rubinstein 1999; as in LeWM, appendix D).

    Every candidate is clipped to the bounds, the mean is itself a candidate, and the generator is the
    solver's own: one seed, one plan.

    Args:
        low, high: (n,) bounds of one step of a plan.
        num_samples: S, candidates of an iteration.
        num_elites: how many of them the Gaussian is refitted to.
        iterations: how often.
        initial_std: of the first Gaussian, as a multiple of half the range.
        seed: of the generator.
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
    ):
        self.low, self.high = low, high
        self.num_samples, self.num_elites, self.iterations = num_samples, num_elites, iterations
        self.initial_std = initial_std * (high - low) / 2
        self.generator = torch.Generator(low.device).manual_seed(seed)

    def centre(self, *shape: int) -> Tensor:
        """Plans (*shape, n) that rest in the middle of the bounds."""
        return ((self.low + self.high) / 2).expand(*shape, -1).clone()

    def solve(self, objective: Objective, mean: Tensor) -> Tensor:
        """The cheapest plans found.

        Args:
            objective: (E, S, H, n) to (E, S).
            mean: (E, H, n), where to start.

        Returns:
            (E, H, n), the mean of the last elites.
        """
        std = self.initial_std.expand_as(mean)
        for _ in range(self.iterations):
            shape = (mean.shape[0], self.num_samples, *mean.shape[1:])
            noise = torch.randn(shape, generator=self.generator, device=mean.device)
            plans = mean[:, None] + std[:, None] * noise
            plans[:, 0] = mean
            plans = plans.clamp(self.low, self.high)
            best = objective(plans).topk(self.num_elites, largest=False).indices
            elites = plans.gather(1, best[:, :, None, None].expand(-1, -1, *plans.shape[2:]))
            mean, std = elites.mean(1), elites.std(1, correction=0)
        return mean
