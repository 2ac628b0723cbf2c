"""The cross-entropy method."""

from torch import Tensor

from .solver import Objective, Search, Solver, cheapest


class CEM(Solver):
    """Draw plans from a Gaussian, refit it to the cheapest, repeat (Rubinstein 1999; as in LeWM, appendix D).

    Every candidate is clipped to the bounds, and the mean is itself a candidate.

    Args:
        low, high: (n,) bounds of one step of a plan.
        num_samples: S, candidates of an iteration.
        num_elites: how many of them the Gaussian is refitted to.
        iterations: how often, at most.
        initial_std: of the first Gaussian, as a multiple of half the range.
        seed: of the generator.
        stop_below: as of `Search`.
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
    ):
        super().__init__(low, high, seed, stop_below)
        self.num_samples, self.num_elites, self.iterations = num_samples, num_elites, iterations
        self.initial_std = initial_std * (high - low) / 2

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        """(E, H, n), the mean of the last elites."""
        std = self.initial_std.expand_as(mean)
        search = Search(objective, self.iterations, self.stop_below, deadline)
        for _ in search:
            plans = self.around(mean, std, self.num_samples)
            elites = cheapest(plans, search(plans), self.num_elites)
            mean, std = elites.mean(1), elites.std(1, correction=0)
        return mean
