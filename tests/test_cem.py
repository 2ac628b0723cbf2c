"""The cross-entropy method: finds optima, keeps to the bounds, repeats itself, and does not mix episodes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from worldjepa.planning.cem import CEM

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])


def solver(**changes: Any) -> CEM:
    options = {"num_samples": 512, "num_elites": 48, "iterations": 12, "initial_std": 1.0, "seed": 0}
    return CEM(LOW, HIGH, **{**options, **changes})


def bowl(target: Tensor):
    """Plans (E, S, H, 2) to their squared distance (E, S) from target, (2,) or (E, H, 2)."""
    target = target.expand(1, 1, 2) if target.ndim == 1 else target
    return lambda plans: (plans - target[:, None]).square().sum((-1, -2))


@pytest.mark.parametrize(
    ("target", "optimum"),
    [
        ((0.3, 1.2), (0.3, 1.2)),
        ((5.0, 1.2), (1.0, 1.2)),
        ((-9.0, 9.0), (-1.0, 4.0)),
        ((1.0, 0.0), (1.0, 0.0)),
    ],
    ids=["inside", "past a bound", "past a corner", "at a corner"],
)
def test_it_finds_the_optimum_within_the_bounds(target: tuple, optimum: tuple) -> None:
    cem = solver()
    plan = cem.solve(bowl(torch.tensor(target)), cem.centre(1, 3))
    assert plan.shape == (1, 3, 2)
    torch.testing.assert_close(plan[0], torch.tensor(optimum).expand(3, 2), rtol=0, atol=0.02)


def test_every_candidate_and_the_plan_keep_to_the_bounds() -> None:
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        assert plans.shape == (2, 512, 3, 2)
        seen.append(plans)
        return bowl(torch.tensor([9.0, -9.0]))(plans)

    cem = solver(initial_std=3.0)
    plan = cem.solve(objective, cem.centre(2, 3))
    for candidates in (*seen, plan):
        assert (candidates >= LOW).all()
        assert (candidates <= HIGH).all()
    assert len(seen) == 12


def test_it_is_these_lines_to_the_bit() -> None:
    """The method by hand, with the same generator."""
    objective = bowl(torch.rand(2, 3, 2))
    generator = torch.Generator().manual_seed(5)
    mean, std = torch.tensor([0.0, 2.0]).expand(2, 3, 2), torch.tensor([0.5, 1.0])
    for _ in range(4):
        plans = mean[:, None] + std * torch.randn((2, 64, 3, 2), generator=generator)
        plans[:, 0] = mean
        plans = plans.clamp(LOW, HIGH)
        chosen = [p[c.topk(8, largest=False).indices] for p, c in zip(plans, objective(plans), strict=True)]
        mean = torch.stack([elites.mean(0) for elites in chosen])
        std = torch.stack([elites.std(0, correction=0) for elites in chosen])[:, None]
    cem = solver(num_samples=64, num_elites=8, iterations=4, initial_std=0.5, seed=5)
    assert torch.equal(cem.solve(objective, cem.centre(2, 3)), mean)


def test_the_mean_is_a_candidate_of_every_iteration() -> None:
    means: list[Tensor] = []
    cem = solver(iterations=3)

    def objective(plans: Tensor) -> Tensor:
        means.append(plans[:, 0])
        cost = bowl(torch.tensor([0.2, 1.0]))(plans)
        elites = cost.topk(48, largest=False).indices[0]
        expected.append(plans[0, elites].mean(0))
        return cost

    expected = [cem.centre(3)]
    plan = cem.solve(objective, cem.centre(1, 3))
    torch.testing.assert_close(torch.cat([*means, plan]), torch.stack(expected))


def test_the_first_candidates_are_spread_as_asked() -> None:
    first: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        first.append(plans)
        return plans.sum((-1, -2))

    cem = solver(num_samples=4000, iterations=1, initial_std=0.1)
    cem.solve(objective, cem.centre(1, 5))
    torch.testing.assert_close(first[0].mean((0, 1, 2)), (LOW + HIGH) / 2, rtol=0, atol=0.02)
    torch.testing.assert_close(first[0].std((0, 1, 2)), 0.1 * (HIGH - LOW) / 2, rtol=0.05, atol=0)


def test_one_seed_one_plan() -> None:
    def plans(seed: int) -> list[Tensor]:
        cem = solver(seed=seed, iterations=2)
        return [cem.solve(bowl(torch.tensor([0.3, 1.2])), cem.centre(2, 3)) for _ in range(2)]

    torch.manual_seed(1)
    one = plans(7)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one, plans(7), strict=True))
    assert not torch.equal(one[0], plans(8)[0])
    assert not torch.equal(one[0], one[1]), "a second decision draws new candidates"


def test_episodes_have_objectives_of_their_own() -> None:
    targets = torch.tensor([[-0.5, 3.0], [0.0, 2.0], [0.9, 0.1]])[:, None].expand(3, 4, 2)
    cem = solver()
    plans = cem.solve(bowl(targets), cem.centre(3, 4))
    torch.testing.assert_close(plans, targets, rtol=0, atol=0.03)
    changed = targets.clone()
    changed[1] = torch.tensor([-1.0, 4.0])
    again = solver().solve(bowl(changed), cem.centre(3, 4))
    assert torch.equal(again[[0, 2]], plans[[0, 2]])


def test_a_warm_start_is_better_than_none() -> None:
    target = torch.tensor([0.9, 3.8])
    few = solver(num_samples=8, num_elites=2, iterations=1, initial_std=0.05)
    cold, warm = (few.solve(bowl(target), mean) for mean in (few.centre(1, 3), target.expand(1, 3, 2)))
    assert bowl(target)(warm[:, None]) < 0.01 < bowl(target)(cold[:, None])


def test_the_centre_rests_in_the_middle_of_the_bounds() -> None:
    assert solver().centre(2, 3).tolist() == [[[0, 2]] * 3] * 2
