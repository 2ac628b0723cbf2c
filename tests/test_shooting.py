"""Random shooting: uniform candidates, of which the cheapest is the plan."""

import torch
from torch import Tensor

from worldjepa.planning.shooting import Shooting

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])


def test_the_cheapest_of_uniform_candidates_is_the_plan() -> None:
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        seen.append(plans)
        return (plans - torch.tensor([0.5, 3.0])).square().sum((-1, -2))

    solver = Shooting(LOW, HIGH, num_samples=500, iterations=4, seed=0)
    plan = solver.solve(objective, solver.centre(2, 3))
    candidates = torch.cat(seen, 1)
    assert candidates.shape == (2, 2000, 3, 2)
    best = objective(candidates).argmin(1)
    assert torch.equal(plan, candidates[torch.arange(2), best])
    share = ((candidates - LOW) / (HIGH - LOW)).flatten()
    expected = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(share.quantile(expected), expected, rtol=0, atol=0.02)


def test_where_to_start_is_a_candidate() -> None:
    solver = Shooting(LOW, HIGH, num_samples=8, iterations=2, seed=0)
    mean = torch.tensor([0.3, 1.7]).expand(1, 4, 2)
    assert torch.equal(solver.solve(lambda plans: (plans - mean).abs().sum((-1, -2)), mean), mean)
