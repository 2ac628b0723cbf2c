"""Costs of plans, by hand."""

import pytest
import torch

from worldjepa.limits import COSTS as NAMES
from worldjepa.planning.costs import COSTS, ActionCost, closest, last, mean, stay, total

# Two candidate plans in each of two episodes, three blocks long.
DISTANCE = torch.tensor([[[4.0, 1.0, 7.0], [3.0, 3.0, 3.0]], [[0.0, 9.0, 3.0], [5.0, 2.0, 2.0]]])


def test_closest_is_the_minimum_and_a_tenth_of_the_mean() -> None:
    torch.testing.assert_close(closest(DISTANCE), torch.tensor([[1 + 0.4, 3 + 0.3], [0 + 0.4, 2 + 0.3]]))


def test_closest_prefers_to_arrive_soon() -> None:
    soon, late = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([8.0, 8.0, 0.0])
    assert closest(soon) < closest(late)


def test_last_is_the_distance_at_the_end() -> None:
    assert last(DISTANCE).tolist() == [[7, 3], [3, 2]]


def test_mean_and_sum_are_over_the_horizon() -> None:
    assert mean(DISTANCE).tolist() == [[4, 3], [4, 3]]
    assert total(DISTANCE).tolist() == [[12, 9], [12, 9]]


def test_stay_counts_the_farther_of_two_blocks_in_a_row() -> None:
    torch.testing.assert_close(stay(DISTANCE), torch.tensor([[4 + 0.4, 3 + 0.3], [9 + 0.4, 2 + 0.3]]))


def test_stay_prefers_to_stay_and_closest_to_pass_nearer() -> None:
    passing, staying = torch.tensor([9.0, 0.0, 9.0, 9.0]), torch.tensor([9.0, 9.0, 1.0, 1.0])
    assert stay(staying) < stay(passing)
    assert closest(passing) < closest(staying)


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_a_horizon_of_one_block_has_a_cost(cost) -> None:
    value = cost(torch.tensor([[3.0]]))
    assert value.shape == (1,)
    assert 3 <= value.item() <= 3.3 + 1e-6


def test_the_names_of_the_options() -> None:
    assert {"closest": closest, "last": last, "mean": mean, "sum": total, "stay": stay} == COSTS
    assert tuple(COSTS) == NAMES


# Bounds of two actions, whose half ranges are 1 and 2.
LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
# One episode, one plan of two blocks of two actions; before it was (1, 0).
PLAN = torch.tensor([[[[1.0, 2.0, 0.0, 2.0], [0.0, 0.0, 0.5, 0.0]]]])
BEFORE = torch.tensor([[1.0, 0.0]])


def test_the_magnitude_of_actions_is_their_mean_square_in_half_ranges() -> None:
    cost = ActionCost(LOW, HIGH, magnitude=2.0, smoothness=0.0)(PLAN, BEFORE)
    # In half ranges: (1, 1), (0, 1), (0, 0), (0.5, 0).
    torch.testing.assert_close(cost, torch.tensor([[2.0 * 3.25 / 8]]))


def test_smoothness_counts_changes_from_what_was_done_before() -> None:
    cost = ActionCost(LOW, HIGH, magnitude=0.0, smoothness=3.0)(PLAN, BEFORE)
    # Changes in half ranges: (0, 1), (-1, 0), (0, -1), (0.5, 0).
    torch.testing.assert_close(cost, torch.tensor([[3.0 * 3.25 / 8]]))
    at_rest = ActionCost(LOW, HIGH, 0.0, 1.0)(torch.ones(1, 1, 1, 2), torch.ones(1, 2))
    assert at_rest.tolist() == [[0]]


def test_the_costs_of_actions_add_up_for_each_plan() -> None:
    plans, before = torch.randn(3, 5, 4, 6), torch.randn(3, 2)
    both, one, other = (ActionCost(LOW, HIGH, *w)(plans, before) for w in ((0.3, 0.7), (0.3, 0), (0, 0.7)))
    assert both.shape == (3, 5)
    torch.testing.assert_close(both, one + other)
    alone = ActionCost(LOW, HIGH, 0.3, 0.7)(plans[1:2, 2:3], before[1:2])
    torch.testing.assert_close(alone, both[1:2, 2:3])
