"""What a planner is compared with: the random floor, and the true dynamics as the bound."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worldjepa.config import PlanConfig
from worldjepa.data.shards import Store
from worldjepa.evaluation.goals import play, sample_goals
from worldjepa.evaluation.policies import RandomPolicy, TrueDynamics
from worldjepa.planning.agent import build_agent
from worldjepa.planning.costs import closest, last

LOW, HIGH = np.array([-1.0, 0.0]), np.array([1.0, 4.0])


def test_random_actions_fill_the_bounds() -> None:
    actions = RandomPolicy(LOW, HIGH, 5, seed=0).act(np.zeros((2000, 8, 8, 3), np.uint8))
    assert actions.shape == (2000, 5, 2)
    flat = actions.reshape(-1, 2)
    assert (flat >= LOW).all()
    assert (flat <= HIGH).all()
    assert np.quantile(flat, [0.1, 0.5, 0.9], axis=0) == pytest.approx(
        np.array([[-0.8, 0.4], [0, 2], [0.8, 3.6]]), abs=0.1
    )


def test_random_actions_follow_their_seed() -> None:
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    one, same, other = (RandomPolicy(LOW, HIGH, 5, seed).act(frames) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("cost", [closest, last])
def test_the_true_dynamics_score_what_comes_true(reacher: Any, tiny_data: Path, cost) -> None:
    goals = sample_goals(Store(tiny_data), np.arange(6), reacher, 2, 25, seed=0)
    plans = torch.rand(2, 3, 4, 10) * 2 - 1
    dynamics = TrueDynamics(reacher, cost, frameskip=5)
    dynamics.reset(np.empty((2, 0)), goals.goal)
    dynamics.observe(np.empty((2, 0)), goals.start)
    costs = dynamics.cost(plans)
    assert costs.shape == (2, 3)
    for e in range(2):
        for s in range(3):
            reacher.set_state(goals.start[e])
            distances = []
            for block in plans[e, s].reshape(4, 5, 2).numpy():
                for action in block:
                    info = reacher.step(action)[-1]
                distances.append(
                    (reacher.goal_error(info["qpos"], reacher.qpos_of(goals.goal[e])) ** 2).sum()
                )
            expected = cost(torch.tensor(np.array(distances)))
            torch.testing.assert_close(costs[e, s].double(), expected, rtol=1e-5, atol=0)


def test_the_true_dynamics_forget_finished_episodes(reacher: Any, tiny_data: Path) -> None:
    goals = sample_goals(Store(tiny_data), np.arange(6), reacher, 3, 25, seed=0)
    dynamics = TrueDynamics(reacher, last, frameskip=5)
    plans, mask = torch.rand(3, 2, 4, 10), np.array([True, False, True])
    dynamics.reset(np.empty((3, 0)), goals.goal)
    dynamics.observe(np.empty((3, 0)), goals.start)
    before = dynamics.cost(plans)
    dynamics.keep(mask)
    dynamics.observe(np.empty((2, 0)), goals.start[mask])
    assert torch.equal(dynamics.cost(plans[mask]), before[mask])


def test_planning_on_the_true_dynamics_reaches_the_goals(reacher: Any, tiny_data: Path) -> None:
    goals = sample_goals(Store(tiny_data), np.arange(6), reacher, 10, 25, seed=0)
    dynamics = TrueDynamics(reacher, closest, frameskip=5)
    agent = build_agent(PlanConfig(), 5, reacher.action_space, dynamics, torch.device("cpu"))
    assert play(reacher, goals, agent, budget=50).success.sum() >= 9
    floor = RandomPolicy(reacher.action_space.low, reacher.action_space.high, 5, seed=0)
    assert play(reacher, goals, floor, budget=50).success.sum() <= 6
