"""What a plan costs: how far from the goal it is after each action block, and what its actions cost."""

from collections.abc import Callable

import torch
from torch import Tensor

# Distances (..., H), after each block, to costs (...).
Cost = Callable[[Tensor], Tensor]


def closest(distance: Tensor) -> Tensor:
    """Minimum over the horizon + 0.1 × mean: come as close as possible at some time, and soon."""
    return distance.amin(-1) + 0.1 * distance.mean(-1)


def last(distance: Tensor) -> Tensor:
    """The distance after the last block alone (LeWM, appendix B)."""
    return distance[..., -1]


def mean(distance: Tensor) -> Tensor:
    """The mean over the horizon: be near all the time, so come soon and stay."""
    return distance.mean(-1)


def total(distance: Tensor) -> Tensor:
    """The sum over the horizon; beside a cost of actions it weighs H times as much as the mean."""
    return distance.sum(-1)


def stay(distance: Tensor) -> Tensor:
    """As `closest`, but of two blocks in a row the farther counts: come close and be there a block later."""
    pairs = torch.maximum(distance[..., :-1], distance[..., 1:]) if distance.shape[-1] > 1 else distance
    return pairs.amin(-1) + 0.1 * distance.mean(-1)


COSTS: dict[str, Cost] = {"closest": closest, "last": last, "mean": mean, "sum": total, "stay": stay}


class ActionCost:
    """What a plan's actions cost in themselves, added to what its distances cost.

    Args:
        low, high: (A,) bounds of an action; an action counts in units of half its range.
        magnitude: weight of the mean square of the actions; 0 is rest.
        smoothness: weight of the mean square of the changes from one action to the next.
    """

    def __init__(self, low: Tensor, high: Tensor, magnitude: float, smoothness: float):
        self.half = (high - low) / 2
        self.magnitude, self.smoothness = magnitude, smoothness

    def __call__(self, plans: Tensor, before: Tensor) -> Tensor:
        """Plans (E, S, H, k·A), and the action (E, A) before their first, to costs (E, S)."""
        actions = plans.unflatten(-1, (-1, len(self.half))).flatten(2, 3)
        before = before[:, None, None].expand(-1, plans.shape[1], -1, -1)
        change = torch.cat([before, actions], 2).diff(dim=2)
        size, roughness = (((x / self.half) ** 2).mean((2, 3)) for x in (actions, change))
        return self.magnitude * size + self.smoothness * roughness
