"""Descent through the model: what it needs, what it leaves alone, and what comes after another solver."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from worldjepa.planning.cem import CEM
from worldjepa.planning.gradient import Gradient, InTurn
from worldjepa.planning.solver import Objective, Solver

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])


def solver(**changes: Any) -> Gradient:
    options: dict[str, Any] = {
        "starts": 4,
        "iterations": 200,
        "initial_std": 1.0,
        "learning_rate": 0.1,
        "seed": 0,
    }
    return Gradient(LOW, HIGH, **{**options, **changes})


def bowl(target: Tensor) -> Objective:
    return lambda plans: (plans - target).square().sum((-1, -2))


@pytest.mark.parametrize("context", [nullcontext, torch.no_grad, torch.inference_mode])
def test_it_descends_whatever_the_caller_has_turned_off(context: Callable[[], Any]) -> None:
    with context():
        plan = solver().solve(bowl(torch.tensor([0.3, 1.2])), solver().centre(2, 3))
        assert not plan.requires_grad
    torch.testing.assert_close(plan, torch.tensor([0.3, 1.2]).expand(2, 3, 2), rtol=0, atol=1e-3)


def test_a_model_gathers_no_gradients() -> None:
    model = nn.Linear(2, 1)
    solver().solve(lambda plans: model(plans).square().sum((-1, -2)), solver().centre(1, 3))
    assert [parameter.grad for parameter in model.parameters()] == [None, None]


def test_costs_without_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match="no gradients to descend along"):
        solver().solve(lambda plans: plans.detach().sum((-1, -2)), solver().centre(1, 3))


def test_a_plan_leaves_the_bound_that_it_was_pushed_to() -> None:
    """The projection must not take the gradient away there."""
    start = torch.stack([LOW, HIGH]).expand(1, 2, 2)
    plan = solver(starts=1).solve(bowl(torch.tensor([0.3, 1.2])), start)
    torch.testing.assert_close(plan, torch.tensor([0.3, 1.2]).expand(1, 2, 2), rtol=0, atol=0.02)


def test_a_batch_of_episodes_descends_as_each_alone() -> None:
    targets = torch.rand(3, 1, 4, 2)
    starts = torch.rand(3, 4, 2)
    together = solver(starts=1).solve(bowl(targets), starts)
    for episode in range(3):
        alone = solver(starts=1).solve(bowl(targets[[episode]]), starts[[episode]])
        torch.testing.assert_close(together[[episode]], alone)


def test_several_starts_find_the_deeper_of_two_valleys() -> None:
    """From the middle the slope leads to the shallow one, at -0.5; the deep one is at 0.75."""

    def valleys(plans: Tensor) -> Tensor:
        x = plans[..., 0].mean(-1)
        return -(-((x + 0.5) ** 2) / 0.1).exp() - 2 * (-((x - 0.75) ** 2) / 0.02).exp()

    plans = [solver(starts=starts).solve(valleys, solver().centre(1, 1)) for starts in (1, 16)]
    assert [plan[0, 0, 0].item() for plan in plans] == pytest.approx([-0.5, 0.75], abs=0.02)


def test_the_cheapest_plan_on_the_way_is_kept() -> None:
    """Here the first: all get dearer with time."""
    seen: list[Tensor] = []

    def objective(plans: Tensor) -> Tensor:
        seen.append(plans.detach().clone())
        return bowl(torch.tensor([0.3, 1.2]))(plans) + 100 * len(seen)

    plan = solver(iterations=7).solve(objective, solver().centre(1, 2))
    assert len(seen) == 7
    assert (plan[0] == seen[0][0]).all((1, 2)).any()
    assert not (plan[0] == seen[1][0]).all((1, 2)).any()


def test_nothing_that_is_no_number_enters_a_plan() -> None:
    def broken(plans: Tensor) -> Tensor:
        # The square root's slope is infinite, times zero, at the centre's 0.
        return (plans[..., 0].abs().sqrt() * 0).sum(-1) + plans[..., 1].sum(-1)

    plan = solver(starts=1).solve(broken, solver().centre(1, 2))
    torch.testing.assert_close(plan, torch.tensor([0.0, 0.0]).expand(1, 2, 2), rtol=0, atol=1e-4)


class Noting(Solver):
    """A solver that adds one, and writes down what it is told."""

    def __init__(self) -> None:
        super().__init__(LOW, HIGH, 0)
        self.told: list[Any] = []

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        self.told.append(deadline)
        return mean + 1

    def reset(self) -> None:
        self.told.append("reset")

    def advance(self) -> None:
        self.told.append("advance")

    def keep(self, mask: np.ndarray) -> None:
        self.told.append("keep")


def test_one_solver_goes_on_from_the_others_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldjepa.planning.gradient.time.perf_counter", lambda: 10.0)
    both = InTurn(Noting(), Noting(), share=0.75)
    both.reset()
    assert (both.solve(bowl(LOW), torch.zeros(1, 2, 2)) == 2).all()
    both.solve(bowl(LOW), torch.zeros(1, 2, 2), deadline=14.0)
    both.advance()
    both.keep(np.array([True]))
    assert both.first.told == ["reset", None, 13.0, "advance", "keep"]
    assert both.second.told == ["reset", None, 14.0, "advance", "keep"]


def test_a_descent_refines_what_sampling_found() -> None:
    target = torch.rand(3, 1, 6, 2) * (HIGH - LOW) + LOW
    cem = CEM(LOW, HIGH, 32, 6, 3, 1.0, 0)
    both = InTurn(CEM(LOW, HIGH, 32, 6, 3, 1.0, 0), solver(iterations=20, initial_std=0.1), 0.5)
    cost = bowl(target)
    rough, fine = (cost(s.solve(cost, s.centre(3, 6))[:, None]) for s in (cem, both))
    assert (fine < 0.1 * rough).all()
