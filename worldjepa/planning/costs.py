"""What a plan costs, given how far from the goal it is after each action block."""

from collections.abc import Callable

from torch import Tensor

# Distances (..., H), after each block, to costs (...).
Cost = Callable[[Tensor], Tensor]


def closest(distance: Tensor) -> Tensor:
    """Minimum over the horizon + 0.1 × mean: come as close as possible at some time, and soon."""
    return distance.amin(-1) + 0.1 * distance.mean(-1)


def last(distance: Tensor) -> Tensor:
    """The distance after the last block alone (LeWM, appendix B)."""
    return distance[..., -1]


COSTS: dict[str, Cost] = {"closest": closest, "last": last}
