"""What every solver is and shares: bounds, a generator of its own, when to stop, the cheapest plan so far."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

# Candidate plans (E, S, H, n) to their costs (E, S), for E episodes.
Objective = Callable[[Tensor], Tensor]


class Search:
    """One decision under way: asks the objective, remembers the cheapest plans, knows when to end.

    Iterate over it for the numbers of the iterations, and call it with candidates.

    Args:
        objective: plans (E, S, H, n) to costs (E, S).
        iterations: at most.
        stop_below: end when an iteration lowers no episode's cheapest cost by more than this share of it;
            0: never.
        deadline: on `time.perf_counter`'s clock; an iteration that would not be over by then is not begun,
            but for the first.

    Attributes:
        plan: (E, H, n), the cheapest seen. cost: (E,), of these.
    """

    plan: Tensor
    cost: Tensor

    def __init__(
        self,
        objective: Objective,
        iterations: int,
        stop_below: float = 0.0,
        deadline: float | None = None,
    ):
        self.objective, self.iterations = objective, iterations
        self.stop_below, self.deadline = stop_below, deadline
        self.asked, self.settled = 0, False

    def __iter__(self) -> Iterator[int]:
        began = time.perf_counter()
        for number in range(self.iterations):
            if number and self.deadline is not None:
                now = time.perf_counter()
                if now + (now - began) / number > self.deadline:
                    return
            yield number
            if self.settled:
                return

    def __call__(self, plans: Tensor) -> Tensor:
        """Costs (E, S) of plans (E, S, H, n); one that is not a number is the highest there is."""
        costs = self.objective(plans)
        highest = torch.finfo(costs.dtype).max
        costs = costs.nan_to_num(nan=highest, posinf=highest)
        self._remember(plans.detach(), costs.detach())
        return costs

    def _remember(self, plans: Tensor, costs: Tensor) -> None:
        value, best = costs.min(1)
        plan = plans[torch.arange(len(plans), device=plans.device), best]
        if self.asked:
            lower = value < self.cost
            plan = torch.where(lower[:, None, None], plan, self.plan)
            value = torch.where(lower, value, self.cost)
            if self.stop_below:
                self.settled = bool((self.cost - value <= self.stop_below * self.cost.abs()).all())
        self.plan, self.cost = plan, value
        self.asked += 1
        if self.deadline is not None:
            # An accelerator works behind the clock's back until somebody looks.
            self.cost.sum().item()


class Solver:
    """Looks for cheap plans within bounds, for E episodes in one batch. One seed, one plan.

    Args:
        low, high: (n,) bounds of one step of a plan.
        seed: of the solver's own generator.
        stop_below: as of `Search`.

    Attributes:
        memory: (E, M, H, n), plans that the next decision tries besides its own, where a solver keeps any.
    """

    def __init__(self, low: Tensor, high: Tensor, seed: int, stop_below: float = 0.0):
        self.low, self.high, self.stop_below = low, high, stop_below
        self.generator = torch.Generator(low.device).manual_seed(seed)
        self.memory: Tensor | None = None

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        """The plans decided on.

        Args:
            objective: (E, S, H, n) to (E, S).
            mean: (E, H, n), where to start.
            deadline: when to have an answer, on `time.perf_counter`'s clock; None: no hurry.

        Returns:
            (E, H, n), within the bounds.
        """
        raise NotImplementedError

    def centre(self, *shape: int) -> Tensor:
        """Plans (*shape, n) that rest in the middle of the bounds."""
        return ((self.low + self.high) / 2).expand(*shape, -1).clone()

    def shifted(self, plans: Tensor) -> Tensor:
        """What is left of plans (..., H, n) after their first step, with a rest at the end."""
        return torch.cat([plans[..., 1:, :], self.centre(*plans.shape[:-2], 1)], -2)

    def reset(self) -> None:
        """New episodes begin."""
        self.memory = None

    def advance(self) -> None:
        """The first step of every plan has been carried out."""
        self.memory = None if self.memory is None else self.shifted(self.memory)

    def keep(self, mask: np.ndarray) -> None:
        """Go on with the episodes where mask (E,) is True."""
        chosen = torch.as_tensor(mask, device=self.low.device)
        self.memory = None if self.memory is None else self.memory[chosen]

    def white(self, *shape: int) -> Tensor:
        """Independent standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.low.device)

    def around(self, mean: Tensor, std: Tensor, count: int) -> Tensor:
        """Candidates (E, count, H, n) from a Gaussian of mean and std (E, H, n), clipped; first the mean."""
        noise = self.white(mean.shape[0], count, *mean.shape[1:])
        plans = mean[:, None] + std[:, None] * noise
        plans[:, 0] = mean
        return plans.clamp(self.low, self.high)


def cheapest(plans: Tensor, costs: Tensor, count: int) -> Tensor:
    """Of candidates (E, S, H, n) with costs (E, S) the `count` cheapest, (E, count, H, n), in order."""
    best = costs.topk(count, largest=False).indices
    return plans.gather(1, best[:, :, None, None].expand(-1, -1, *plans.shape[2:]))
