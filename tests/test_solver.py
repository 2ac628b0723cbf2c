"""What solvers share: the cheapest plan so far, when a decision ends, plans that are carried over."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from worldjepa.planning import solver as module
from worldjepa.planning.solver import Search, Solver, cheapest

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])


def first_number(plans: Tensor) -> Tensor:
    return plans[:, :, 0, 0]


def plans(*costs: list[float]) -> Tensor:
    """Plans (E, S, 1, 1) that cost so much under `first_number`."""
    return torch.tensor(costs)[:, :, None, None]


def test_the_cheapest_plans_are_remembered_for_each_episode() -> None:
    search = Search(first_number, 9)
    assert search(plans([3.0, 1.5, 2], [5.0, 6, 7])).tolist() == [[3, 1.5, 2], [5, 6, 7]]
    assert search.cost.tolist() == [1.5, 5]
    search(plans([2.0, 2, 2], [9.0, 9, 4]))
    assert search.cost.tolist() == [1.5, 4]
    assert search.plan.tolist() == [[[1.5]], [[4]]]


def test_what_is_no_number_costs_most() -> None:
    search = Search(first_number, 9)
    costs = search(plans([torch.nan, 2.0, torch.inf]))
    assert costs.isfinite().all()
    assert costs.argmin() == 1
    assert search.cost.tolist() == [2]


def test_a_search_has_so_many_iterations() -> None:
    assert list(Search(first_number, 4)) == [0, 1, 2, 3]


def test_a_search_ends_when_no_episodes_cost_falls_by_the_share_any_more() -> None:
    search = Search(first_number, 9, stop_below=0.1)
    falling = [plans([10.0], [10.0]), plans([9.5], [8.0]), plans([8.7], [8.0]), plans([8.0], [7.9])]
    done = 0
    for number in search:
        search(falling[number])
        done += 1
    assert done == 3, "the second episode's fell by a fifth, then stood; the first one's fell by less"


def test_a_cost_that_rises_stands_still() -> None:
    search = Search(first_number, 9, stop_below=0.1)
    assert sum(1 for number in search if search(plans([1.0 + number])) is not None) == 2


@pytest.mark.parametrize(("deadline", "done"), [(0.0, 1), (1.5, 1), (2.5, 2), (4.5, 4), (99.0, 6)])
def test_an_iteration_that_would_end_too_late_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, deadline: float, done: int
) -> None:
    """Each takes a second by this clock, which is read once at the start and once before each further one."""
    clock = itertools.count()
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    search = Search(first_number, 6, deadline=deadline)
    assert sum(1 for _ in search if search(plans([1.0])) is not None) == done


def test_without_a_deadline_no_clock_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    assert len(list(Search(first_number, 6))) == 6
    assert next(clock) <= 1


def test_the_cheapest_come_in_order() -> None:
    candidates = torch.arange(10.0).reshape(1, 5, 1, 2)
    chosen = cheapest(candidates, torch.tensor([[3.0, 1.0, 4.0, 0.0, 5.0]]), 3)
    assert chosen.tolist() == [[[[6, 7]], [[2, 3]], [[0, 1]]]]


def test_a_shifted_plan_rests_at_its_end() -> None:
    solver = Solver(LOW, HIGH, 0)
    left = solver.shifted(torch.tensor([[[[1.0, 1], [0.5, 3], [-1, 4]]]]))
    assert left.tolist() == [[[[0.5, 3], [-1, 4], [0, 2]]]]
    assert solver.shifted(torch.ones(2, 3, 2)).tolist() == [[[1, 1], [1, 1], [0, 2]]] * 2


def test_what_is_remembered_follows_the_episodes() -> None:
    solver = Solver(LOW, HIGH, 0)
    for change in (solver.reset, solver.advance, lambda: solver.keep(np.array([True]))):
        change()
        assert solver.memory is None
    solver.memory = torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)
    solver.keep(np.array([True, False, True]))
    solver.advance()
    assert solver.memory.tolist() == [[[[0, 0], [0, 2]]], [[[2, 2], [0, 2]]]]
    solver.reset()
    assert solver.memory is None
