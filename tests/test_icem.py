"""iCEM: the colour of its noise, its numbers of candidates, and what it remembers."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from worldjepa.planning.icem import ICEM, coloured, shares

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])


def solver(**changes: Any) -> ICEM:
    options: dict[str, Any] = {
        "num_samples": 32,
        "num_elites": 10,
        "iterations": 3,
        "initial_std": 0.5,
        "seed": 0,
    }
    return ICEM(LOW, HIGH, **{**options, **changes})


def bowl(plans: Tensor) -> Tensor:
    return (plans - torch.tensor([0.5, 3.0])).square().sum((-1, -2))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.5])
@pytest.mark.parametrize("steps", [1, 6, 25])
def test_noise_has_the_colour_that_is_asked_for(exponent: float, steps: int) -> None:
    """Its autocovariance is the Fourier sum of the power spectrum, its variance 1."""
    noise = coloured(torch.randn(20000, 2 * steps, 2), exponent)
    assert noise.shape == (20000, steps, 2)
    frequency = np.arange(1, 2 * steps) / (2 * steps)
    power = np.minimum(frequency, 1 - frequency) ** -exponent
    wave = np.cos(2 * np.pi * frequency * np.arange(steps)[:, None])
    expected = torch.tensor(wave @ power / power.sum()).float()
    covariance = torch.einsum("bta,bsa->ts", noise, noise) / 40000
    lag = (torch.arange(steps)[:, None] - torch.arange(steps)).abs()
    torch.testing.assert_close(covariance, expected[lag], rtol=0, atol=0.04)
    across = (noise[:, :, 0] * noise[:, :, 1]).mean(0)
    torch.testing.assert_close(across, torch.zeros(steps), rtol=0, atol=0.04)


def test_actions_of_a_block_are_coloured_as_those_of_different_blocks() -> None:
    """A plan of 4 blocks of 3 actions is 12 actions in a row."""
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        seen.append(plans)
        return bowl(plans.unflatten(-1, (3, 2)).flatten(2, 3))

    wide = ICEM(LOW.repeat(3), HIGH.repeat(3), 20000, 10, 1, 0.1, 0, noise_exponent=2.0, frameskip=3)
    wide.solve(objective, wide.centre(1, 4))
    actions = seen[0].unflatten(-1, (3, 2)).flatten(2, 3)[0, 1:, :, 0] / 0.1
    covariance = actions.T @ actions / len(actions)
    one_apart = covariance.diagonal(1)
    torch.testing.assert_close(covariance.diagonal(), torch.ones(12), rtol=0, atol=0.05)
    torch.testing.assert_close(one_apart, one_apart.mean().expand(11), rtol=0, atol=0.05)
    assert one_apart.mean() > 0.8


@pytest.mark.parametrize(
    ("samples", "elites", "iterations"), [(64, 8, 4), (300, 30, 10), (10, 10, 3), (2, 2, 5), (7, 2, 1)]
)
def test_candidates_get_fewer_and_are_as_many_in_all(samples: int, elites: int, iterations: int) -> None:
    counts = shares(samples, elites, iterations)
    assert len(counts) == iterations
    assert sum(counts) == samples * iterations
    assert min(counts) >= elites
    assert all(late <= early + 1 for early, late in pairwise(counts))


def test_the_candidates_decay_as_in_the_paper() -> None:
    counts = np.array(shares(3000, 0, 5))
    assert counts[:-1] / counts[1:] == pytest.approx(1.25, rel=1e-3)


def test_the_best_elites_come_again_and_the_mean_in_the_end() -> None:
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        seen.append(plans)
        return bowl(plans)

    search = solver()
    search.solve(objective, search.centre(2, 4))
    for before, after in pairwise(seen):
        best = bowl(before).topk(3, largest=False).indices
        for episode in range(2):
            assert torch.equal(after[episode, :3], before[episode, best[episode]])
    # The Gaussian's new mean has a tenth of the old one in it.
    mean = search.centre(2, 4)
    for plans in seen[:-1]:
        best = bowl(plans).topk(10, largest=False).indices
        elites = torch.stack([p[b] for p, b in zip(plans, best, strict=True)])
        mean = 0.1 * mean + 0.9 * elites.mean(1)
    torch.testing.assert_close(seen[-1][:, 3], mean)


def test_the_cheapest_candidate_of_all_is_the_plan() -> None:
    costs: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        costs.append(bowl(plans))
        return costs[-1]

    search = solver()
    plan = search.solve(objective, search.centre(2, 4))
    torch.testing.assert_close(bowl(plan[:, None])[:, 0], torch.cat(costs, 1).amin(1))


def test_the_next_decision_tries_what_is_left_of_the_last_ones_best_plans() -> None:
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        seen.append(plans)
        return bowl(plans)

    search = solver()
    search.solve(objective, search.centre(3, 4))
    elites = [p[bowl(p[None])[0].topk(3, largest=False).indices] for p in seen[-1]]
    search.keep(np.array([False, True, True]))
    search.advance()
    search.solve(objective, search.centre(2, 4))
    for candidates, kept in zip(seen[3], elites[1:], strict=True):
        assert torch.equal(candidates[:3, :3], kept[:, 1:])
        assert torch.equal(candidates[:3, 3], torch.tensor([[0.0, 2.0]] * 3))
    search.reset()
    search.solve(objective, search.centre(5, 4))
    assert seen[6].shape == (5, seen[3].shape[1], 4, 2)
