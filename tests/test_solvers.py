"""Every solver that the options name: known optima, the bounds, one seed one plan, episodes kept apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are
from torch import Tensor

from worldjepa.config import PlanConfig
from worldjepa.limits import SOLVERS
from worldjepa.planning.solver import Solver
from worldjepa.planning.solvers import build_solver

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
SEARCHING = tuple(name for name in SOLVERS if name != "shooting")
SAMPLING = ("cem", "icem", "mppi")


def solver(name: str, low: Tensor = LOW, high: Tensor = HIGH, **changes: Any) -> Solver:
    options = {"num_samples": 256, "num_elites": 32, "iterations": 10}
    return build_solver(PlanConfig(solver=name, **{**options, **changes}), low, high, 1)


def bowl(target: Tensor) -> Callable[[Tensor], Tensor]:
    """Plans (E, S, H, 2) to their squared distance (E, S) from target, (2,) or (E, H, 2)."""
    target = target.expand(1, 1, 2) if target.ndim == 1 else target
    return lambda plans: (plans - target[:, None]).square().sum((-1, -2))


@pytest.mark.parametrize("name", SEARCHING)
@pytest.mark.parametrize(
    ("target", "optimum"),
    [((0.3, 1.2), (0.3, 1.2)), ((5.0, 1.2), (1.0, 1.2)), ((-9.0, 9.0), (-1.0, 4.0))],
    ids=["inside", "past a bound", "past a corner"],
)
def test_a_quadratic(name: str, target: tuple, optimum: tuple) -> None:
    """Its optimum is the target, as near as the bounds let it be; to 2.5 % of the range."""
    search = solver(name)
    plan = search.solve(bowl(torch.tensor(target)), search.centre(2, 3))
    assert plan.shape == (2, 3, 2)
    torch.testing.assert_close(plan, torch.tensor(optimum).expand(2, 3, 2), rtol=0, atol=0.1)


class DoubleIntegrator:
    """A mass on a line: position and velocity (2,), pushed for 0.3 s at a time; cost x'Qx + u'Ru."""

    A = np.array([[1, 0.3], [0, 1]])
    B = np.array([[0.045], [0.3]])
    Q = np.diag([1, 0.1])
    R = np.array([[0.1]])

    def regulator(self, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Best pushes (E, steps) from starts (E, 2), and their cost (E,): the Riccati recursion."""
        P, gains = self.Q, []
        for _ in range(steps):
            gains.append(np.linalg.solve(self.R + self.B.T @ P @ self.B, self.B.T @ P @ self.A))
            P = self.Q + self.A.T @ P @ (self.A - self.B @ gains[-1])
        x, pushes = start.T, []
        for gain in reversed(gains):
            pushes.append(-gain @ x)
            x = self.A @ x + self.B @ pushes[-1]
        return np.concatenate(pushes).T, np.einsum("ei,ij,ej->e", start, P, start)

    def objective(self, start: np.ndarray) -> Callable[[Tensor], Tensor]:
        A, B, Q = (torch.as_tensor(matrix).float() for matrix in (self.A, self.B, self.Q))

        def cost(plans: Tensor) -> Tensor:
            x = torch.as_tensor(start).float()[:, None].expand(-1, plans.shape[1], -1)
            total = (x @ Q * x).sum(-1)
            for push in plans.unbind(2):
                x = x @ A.T + push @ B.T
                total = total + (x @ Q * x).sum(-1) + self.R.item() * push.square().sum(-1)
            return total

        return cost


STARTS = np.array([[1.0, 0.0], [-0.5, 0.8], [0.0, 1.0]])


def test_the_riccati_recursion_settles_where_scipy_says() -> None:
    world = DoubleIntegrator()
    P = solve_discrete_are(world.A, world.B, world.Q, world.R)
    expected = np.einsum("ei,ij,ej->e", STARTS, P, STARTS)
    assert world.regulator(STARTS, 200)[1] == pytest.approx(expected, rel=1e-6)


# By how much a plan of 10 steps may cost more than the best one, as a share; shooting comes to 0.4 at least.
EXCESS = {"cem": 0.002, "icem": 0.03, "mppi": 0.002, "gradient": 1e-4, "cem_gradient": 0.002}


@pytest.mark.parametrize("name", SEARCHING)
def test_a_double_integrator_is_driven_as_by_the_linear_quadratic_regulator(name: str) -> None:
    world, bound = DoubleIntegrator(), torch.tensor([4.0])
    pushes, least = world.regulator(STARTS, 10)
    assert np.abs(pushes).max() < 4, "the bounds must not be in the way"
    objective = world.objective(STARTS)
    torch.testing.assert_close(
        objective(torch.tensor(pushes)[:, None, :, None].float())[:, 0], torch.tensor(least).float()
    )
    search = solver(name, -bound, bound, iterations=20)
    plan = search.solve(objective, search.centre(3, 10))
    excess = objective(plan[:, None])[:, 0].numpy() / least - 1
    assert excess.max() < EXCESS[name]


def path(plans: Tensor) -> Tensor:
    """Plans (..., H, 2) to the places (..., H, 2) that they pass from the origin."""
    return 0.5 * plans.cumsum(-2)


def in_the_wall(places: Tensor) -> Tensor:
    """A bar across the straight way to (2, 0), which ends above it at 0.3, below it at -1.1."""
    x, y = places.unbind(-1)
    return ((x - 1).abs() < 0.3) & (y < 0.3) & (y > -1.1)


def behind_the_wall(plans: Tensor) -> Tensor:
    """Mean squared distance from (2, 0), and much for every step inside the wall: no slope leads round it."""
    places = path(plans)
    return (places - torch.tensor([2.0, 0.0])).square().sum(-1).mean(-1) + 20.0 * in_the_wall(places).sum(-1)


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_solvers_that_sample_find_the_way_round_a_wall(name: str, seed: int) -> None:
    one = torch.ones(2)
    search = solver(name, -one, one, seed=seed)
    places = path(search.solve(behind_the_wall, search.centre(2, 8)))
    assert not in_the_wall(places).any()
    assert (places[:, -1] - torch.tensor([2.0, 0.0])).norm(dim=-1).max() < 0.4
    assert (places[..., 1].amax(-1) > 0.3).all(), "above it is the shorter way"


def test_a_single_descent_is_caught_before_the_wall() -> None:
    """Or the test above would say nothing."""
    one = torch.ones(2)
    search = solver("gradient", -one, one, num_samples=2, starts=1, iterations=50)
    plan = search.solve(behind_the_wall, search.centre(1, 8))
    assert path(plan)[..., 0].max() < 0.75


@pytest.mark.parametrize("name", SOLVERS)
def test_candidates_and_plan_keep_to_the_bounds_and_are_as_many_as_said(name: str) -> None:
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        assert plans.shape[0] == 2
        assert plans.shape[2:] == (3, 2)
        seen.append(plans.detach().clone())
        return bowl(torch.tensor([9.0, -9.0]))(plans)

    search = solver(name, initial_std=3.0, num_samples=32, num_elites=8, iterations=5)
    plan = search.solve(objective, search.centre(2, 3))
    for plans in (*seen, plan):
        assert (plans >= LOW).all()
        assert (plans <= HIGH).all()
    assert sum(plans.shape[1] for plans in seen) == 32 * 5


@pytest.mark.parametrize("name", SOLVERS)
def test_one_seed_one_plan(name: str) -> None:
    # Too hard to be solved: what comes out depends on what was drawn.
    target = torch.rand(2, 12, 2) * (HIGH - LOW) + LOW

    def hilly(plans: Tensor) -> Tensor:
        return bowl(target)(plans) + (9 * plans).sin().sum((-1, -2))

    def plans(seed: int) -> list[Tensor]:
        search = solver(name, seed=seed, iterations=2, starts=128)
        return [search.solve(hilly, LOW.expand(2, 12, 2)) for _ in range(2)]

    torch.manual_seed(1)
    one = plans(7)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one, plans(7), strict=True))
    assert not torch.equal(one[0], plans(8)[0])
    assert not torch.equal(one[0], one[1]), "a second decision draws anew"


@pytest.mark.parametrize("name", SOLVERS)
def test_what_an_episode_is_after_changes_no_other_episodes_plan(name: str) -> None:
    targets = torch.tensor([[-0.5, 3.0], [0.0, 2.0], [0.9, 0.1]])[:, None].expand(3, 4, 2)
    other = targets.clone()
    other[1] = torch.tensor([-1.0, 4.0])
    one, two = (solver(name).solve(bowl(t), solver(name).centre(3, 4)) for t in (targets, other))
    assert torch.equal(one[[0, 2]], two[[0, 2]])
    assert not torch.equal(one[1], two[1])


@pytest.mark.parametrize("name", SEARCHING)
def test_every_solver_beats_random_shooting(name: str) -> None:
    target = torch.rand(4, 5, 2) * (HIGH - LOW) + LOW
    costs = {}
    for which in (name, "shooting"):
        search = solver(which, num_samples=64, num_elites=8, iterations=4)
        costs[which] = bowl(target)(search.solve(bowl(target), search.centre(4, 5))[:, None])
    assert (costs[name] < costs["shooting"]).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_a_cost_that_is_no_number_is_never_chosen(name: str) -> None:
    """Nor does it spoil the plan: half of the candidates have none."""

    def broken(plans: Tensor) -> Tensor:
        costs = bowl(torch.tensor([0.5, 1.0]))(plans)
        return torch.where(plans[..., 0].mean(-1) < 0, torch.nan, costs)

    search = solver(name)
    mean = search.centre(2, 3) + torch.tensor([0.2, 0.0])
    plan = search.solve(broken, mean)
    assert broken(plan[:, None]).isfinite().all()
    if name != "shooting":
        torch.testing.assert_close(plan, torch.tensor([0.5, 1.0]).expand_as(plan), rtol=0, atol=0.1)


@pytest.mark.parametrize("name", SOLVERS)
def test_nothing_but_no_numbers_still_gives_a_plan_within_the_bounds(name: str) -> None:
    search = solver(name)
    plan = search.solve(lambda plans: (plans * torch.nan).sum((-1, -2)), search.centre(1, 3))
    assert ((plan >= LOW) & (plan <= HIGH)).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_a_deadline_that_is_over_leaves_one_iteration_of_each_kind(name: str) -> None:
    asked = []

    def objective(plans: Tensor) -> Tensor:
        asked.append(plans.shape[1])
        return bowl(torch.tensor([0.3, 1.2]))(plans)

    search = solver(name)
    plan = search.solve(objective, search.centre(1, 3), deadline=0.0)
    assert len(asked) == (2 if name == "cem_gradient" else 1)
    assert plan.shape == (1, 3, 2)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_decision_ends_when_the_cost_stands_still(name: str) -> None:
    def iterations(stop_below: float) -> int:
        asked = []

        def objective(plans: Tensor) -> Tensor:
            asked.append(1)
            return bowl(torch.tensor([0.3, 1.2]))(plans) + 100

        search = solver(name, stop_below=stop_below)
        search.solve(objective, search.centre(2, 3))
        return len(asked)

    assert iterations(0.0001) < iterations(0.0)
    assert iterations(0.5) == (4 if name == "cem_gradient" else 2)


def test_the_options_reach_their_solver() -> None:
    icem: Any = build_solver(PlanConfig(solver="icem", noise_exponent=3.5), LOW, HIGH, 2)
    assert (icem.noise_exponent, icem.frameskip, icem.num_samples, icem.num_elites) == (3.5, 2, 64, 8)
    mppi: Any = build_solver(PlanConfig(solver="mppi", temperature=0.7, seed=9), LOW, HIGH, 1)
    assert (mppi.temperature, mppi.num_samples, mppi.iterations) == (0.7, 64, 4)
    assert mppi.generator.initial_seed() == 9
    descent: Any = build_solver(PlanConfig(solver="gradient", learning_rate=0.3, starts=4), LOW, HIGH, 1)
    assert (descent.learning_rate, descent.starts, descent.iterations) == (0.3, 4, 64)
    both: Any = build_solver(PlanConfig(solver="cem_gradient", starts=4), LOW, HIGH, 1)
    assert (both.first.iterations, both.second.iterations, both.share) == (3, 16, 0.75)
