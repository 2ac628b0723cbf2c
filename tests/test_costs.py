"""Costs of plans, by hand."""

import torch

from worldjepa.planning.costs import COSTS, closest, last

# Two candidate plans in each of two episodes, three blocks long.
DISTANCE = torch.tensor([[[4.0, 1.0, 7.0], [3.0, 3.0, 3.0]], [[0.0, 9.0, 3.0], [5.0, 2.0, 2.0]]])


def test_closest_is_the_minimum_and_a_tenth_of_the_mean() -> None:
    torch.testing.assert_close(closest(DISTANCE), torch.tensor([[1 + 0.4, 3 + 0.3], [0 + 0.4, 2 + 0.3]]))


def test_closest_prefers_to_arrive_soon() -> None:
    soon, late = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([8.0, 8.0, 0.0])
    assert closest(soon) < closest(late)


def test_last_is_the_distance_at_the_end() -> None:
    assert last(DISTANCE).tolist() == [[7, 3], [3, 2]]


def test_the_names_of_the_options() -> None:
    assert {"closest": closest, "last": last} == COSTS
