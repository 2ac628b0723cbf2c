"""The agent: when it plans, from where, and which actions come out."""

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from worldjepa.config import PlanConfig
from worldjepa.planning.agent import Agent, build_agent
from worldjepa.planning.cem import CEM
from worldjepa.planning.solver import Objective

EPISODES, HORIZON, FRAMESKIP, ACTION = 3, 4, 2, 2
BLOCK = FRAMESKIP * ACTION


class Remembering:
    """Dynamics that write down what an agent tells them."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.blocks: list[Tensor] = []

    def reset(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        self.told.append(f"reset {len(frames)}")

    def observe(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        self.told.append(f"observe {len(frames)}")

    def cost(self, plans: Tensor) -> Tensor:
        return plans.sum((-1, -2))

    def acted(self, block: Tensor) -> None:
        self.told.append("acted")
        self.blocks.append(block)

    def keep(self, mask: np.ndarray) -> None:
        self.told.append(f"keep {mask.sum()}")


class Counter(CEM):
    """A solver whose n-th plan says so: block h of episode e's plan is 100 n + 10 h + e."""

    def __init__(self) -> None:
        super().__init__(torch.full((BLOCK,), -2.0), torch.full((BLOCK,), 4.0), 4, 2, 1, 1.0, 0)
        self.started_from: list[Tensor] = []

    def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
        self.started_from.append(mean)
        number = (
            100 * len(self.started_from)
            + 10 * torch.arange(HORIZON)[None, :]
            + torch.arange(len(mean))[:, None]
        )
        return number[..., None].expand(-1, -1, BLOCK).float()


def agent(replan_every: int) -> Agent:
    agent = Agent(Remembering(), Counter(), HORIZON, FRAMESKIP, replan_every)
    agent.reset(pixels(EPISODES))
    return agent


def pixels(count: int) -> np.ndarray:
    return np.zeros((count, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("replan_every", "numbers"),
    [
        (1, [100, 200, 300, 400, 500]),
        (2, [100, 110, 200, 210, 300]),
        (3, [100, 110, 120, 200, 210]),
        (HORIZON, [100, 110, 120, 130, 200]),
    ],
)
def test_the_first_blocks_of_a_plan_are_carried_out(replan_every: int, numbers: list[int]) -> None:
    planner = agent(replan_every)
    blocks = [planner.act(pixels(EPISODES)) for _ in numbers]
    assert [block.shape for block in blocks] == [(EPISODES, FRAMESKIP, ACTION)] * len(numbers)
    for block, number in zip(blocks, numbers, strict=True):
        assert (block == number + np.arange(EPISODES)[:, None, None]).all()
    assert len(planner.solver.started_from) == max(numbers) // 100
    # The dynamics are told the same blocks.
    told = torch.stack(planner.dynamics.blocks).reshape(len(numbers), EPISODES, FRAMESKIP, ACTION)
    assert np.array_equal(told.numpy(), np.stack(blocks))
    assert planner.dynamics.told == ["reset 3", *["observe 3", "acted"] * len(numbers)]


@pytest.mark.parametrize("replan_every", [1, 3])
def test_a_plan_starts_from_what_is_left_of_the_last_one(replan_every: int) -> None:
    planner = agent(replan_every)
    for _ in range(replan_every + 1):
        planner.act(pixels(EPISODES))
    first, second = planner.solver.started_from
    assert (first == 1).all(), "the first plan starts in the middle of the bounds"
    left = [100 + 10 * h for h in range(replan_every, HORIZON)]
    assert second[0, :, 0].tolist() == [*left, *[1] * replan_every]
    assert second[2, :, 0].tolist() == [*(value + 2 for value in left), *[1] * replan_every]


def test_kept_episodes_keep_their_plans() -> None:
    planner = agent(replan_every=2)
    planner.act(pixels(EPISODES))
    planner.keep(np.array([False, True, True]))
    assert planner.act(pixels(2))[:, 0, 0].tolist() == [111, 112]
    planner.keep(np.array([False, True]))
    planner.act(pixels(1))
    assert planner.solver.started_from[-1][:, :, 0].tolist() == [[122, 132, 1, 1]]
    assert [t for t in planner.dynamics.told if "keep" in t] == ["keep 2", "keep 1"]


def test_a_reset_begins_anew() -> None:
    planner = agent(replan_every=3)
    planner.act(pixels(EPISODES))
    planner.reset(pixels(2))
    assert planner.act(pixels(2))[:, 0, 0].tolist() == [200, 201]
    assert (planner.solver.started_from[-1] == 1).all()


def test_an_agent_is_built_as_its_options_say() -> None:
    plan = PlanConfig(
        horizon=6, num_samples=9, num_elites=3, iterations=2, initial_std=0.5, replan_every=2, seed=4
    )
    space = gymnasium.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 8], np.float32))
    built = build_agent(plan, 3, space, Remembering(), torch.device("cpu"))
    assert (built.horizon, built.frameskip, built.replan_every) == (6, 3, 2)
    solver = built.solver
    assert (solver.num_samples, solver.num_elites, solver.iterations) == (9, 3, 2)
    assert solver.low.tolist() == [-1, 0] * 3
    assert solver.high.tolist() == [1, 8] * 3
    assert solver.initial_std.tolist() == [0.5, 2] * 3
    assert solver.generator.initial_seed() == 4
    built.reset(pixels(2))
    actions = built.act(pixels(2))
    assert actions.shape == (2, 3, 2)
    assert actions.dtype == np.float32
    # The cheapest plan is the one with the smallest sum; what comes out has been searched for.
    assert actions.mean((0, 1))[1] < 4
    assert all(space.contains(action) for block in actions for action in block)
