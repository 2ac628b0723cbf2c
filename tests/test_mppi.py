"""MPPI: the weights of candidates, by hand."""

import pytest
import torch
from torch import Tensor

from worldjepa.planning.mppi import MPPI

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])


def solver(temperature: float, iterations: int = 1) -> MPPI:
    return MPPI(LOW, HIGH, 64, iterations, initial_std=0.3, temperature=temperature, seed=0)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_weights_are_exponential_in_the_cost_over_its_spread(scale: float) -> None:
    costs = torch.tensor([[1.0, 3.0, 2.0, 9.0, 5.0], [4.0, 4.0, 4.0, 4.0, 4.0]])
    # The first episode's median is 2 above its best.
    expected = torch.softmax(torch.tensor([0.0, -2.0, -1.0, -8.0, -4.0]) / (0.5 * 2), 0)
    weights = solver(temperature=0.5).weights(scale * costs)
    torch.testing.assert_close(weights, torch.stack([expected, torch.full((5,), 0.2)]))


def test_cold_takes_the_best_and_hot_the_mean_of_all() -> None:
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        seen.append(plans)
        return (plans - torch.tensor([0.5, 3.0])).square().sum((-1, -2))

    cold, hot = (solver(t).solve(objective, solver(t).centre(2, 3)) for t in (1e-6, 1e6))
    best = objective(seen[0]).argmin(1)
    torch.testing.assert_close(cold, seen[0][torch.arange(2), best])
    torch.testing.assert_close(hot, seen[1].mean(1))


def test_the_spread_is_that_of_the_weighted_candidates() -> None:
    """Seen in the candidates of the second iteration, which are drawn from it."""
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        seen.append(plans)
        return (plans - torch.tensor([0.2, 2.3])).square().sum((-1, -2))

    many = MPPI(LOW, HIGH, 20000, 2, initial_std=0.3, temperature=1.0, seed=0)
    many.solve(objective, many.centre(1, 1))
    weight = many.weights(objective(seen[0]))[0, :, None, None]
    mean = (weight * seen[0][0]).sum(0)
    std = (weight * (seen[0][0] - mean) ** 2).sum(0).sqrt()
    torch.testing.assert_close(seen[1][0].mean(0), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(seen[1][0].std(0), std, rtol=0.05, atol=0)
