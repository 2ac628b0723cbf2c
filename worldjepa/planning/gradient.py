"""Descent through the model, alone or after another solver."""

import time

import numpy as np
import torch
from torch import Tensor

from .solver import Objective, Search, Solver


class Gradient(Solver):
    """Adam on several plans side by side, projected to the bounds; the cheapest on the way is taken.

    The objective must be differentiable in the plans.

    Args:
        low, high: (n,) bounds of one step of a plan.
        starts: plans that descend: where to start, and others around it.
        iterations: steps of Adam, at most.
        initial_std: of the other starts around it, as a multiple of half the range.
        learning_rate: of Adam at first, as a multiple of half the range: about how far an action moves in a
            step. It falls to 0 linearly.
        seed: of the generator.
        stop_below: as of `Search`.
    """

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        starts: int,
        iterations: int,
        initial_std: float,
        learning_rate: float,
        seed: int,
        stop_below: float = 0.0,
    ):
        super().__init__(low, high, seed, stop_below)
        self.starts, self.iterations, self.learning_rate = starts, iterations, learning_rate
        self.initial_std = initial_std * (high - low) / 2

    # A caller may have turned gradients off for everything else that it does.
    @torch.inference_mode(False)
    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        """(E, H, n), the cheapest plan that the descent came by.

        Raises:
            ValueError: the objective gives costs without gradients.
        """
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        first = self.around(mean, self.initial_std.expand_as(mean), self.starts)
        # In units of half the range every action has the same step and the same bounds.
        unit = ((first - middle) / half).clamp(-1, 1)
        adam = torch.optim.Adam([unit], self.learning_rate)
        search = Search(objective, self.iterations, self.stop_below, deadline)
        for number in search:
            # Steps get smaller to the end, or Adam would circle around the optimum.
            adam.param_groups[0]["lr"] = self.learning_rate * (1 - number / self.iterations)
            plans = (middle + half * unit).clamp(self.low, self.high).requires_grad_()
            costs = search(plans)
            if not costs.requires_grad:
                raise ValueError("the objective has no gradients to descend along; use a solver that samples")
            # Of the plans alone: the model's weights gather no gradients.
            (slope,) = torch.autograd.grad(costs.sum(), plans)
            unit.grad = (half * slope).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            adam.step()
            unit.clamp_(-1, 1)
        return search.plan


class InTurn(Solver):
    """One solver, and another that starts from its plan.

    Args:
        first, second: of the same bounds.
        share: of the time until a deadline, what the first may use.
    """

    def __init__(self, first: Solver, second: Solver, share: float):
        self.first, self.second, self.share = first, second, share
        self.low, self.high = first.low, first.high

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        """(E, H, n), the second one's plan."""
        now = time.perf_counter()
        half_way = None if deadline is None else now + self.share * (deadline - now)
        return self.second.solve(objective, self.first.solve(objective, mean, half_way), deadline)

    def reset(self) -> None:
        for solver in (self.first, self.second):
            solver.reset()

    def advance(self) -> None:
        for solver in (self.first, self.second):
            solver.advance()

    def keep(self, mask: np.ndarray) -> None:
        for solver in (self.first, self.second):
            solver.keep(mask)
