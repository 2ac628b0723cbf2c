"""The agent: when it plans, from where, and which actions come out."""

from contextlib import nullcontext

import gymnasium
import numpy as np
import pytest
import torch
from moving_dot import SPEED, DotModel, dot_frames
from torch import Tensor

from worldjepa.config import PlanConfig
from worldjepa.limits import SOLVERS
from worldjepa.planning.agent import Agent, build_agent
from worldjepa.planning.cem import CEM
from worldjepa.planning.costs import COSTS, ActionCost
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.planning.icem import ICEM
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


def test_the_bounds_of_a_block_are_those_of_its_actions() -> None:
    space = gymnasium.spaces.Box(np.array([-1, 0], np.float32), np.array([1, 8], np.float32))
    built = build_agent(PlanConfig(solver="icem"), 3, space, Remembering(), torch.device("cpu"))
    assert isinstance(built.solver, ICEM)
    assert built.solver.frameskip == 3
    assert built.solver.high.tolist() == [1, 8] * 3
    assert (built.action_cost, built.seconds) == (None, 0.0)


def test_actions_cost_what_the_options_say_and_count_from_the_last_one() -> None:
    """The dynamics give every plan the same cost: what is left is the cost of actions."""

    class Indifferent(Remembering):
        def cost(self, plans: Tensor) -> Tensor:
            scored.append(plans)
            return torch.full(plans.shape[:2], 7.0)

    class Watching(CEM):
        def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
            costs.append(objective(plans))
            return plans[:, 0]

    scored: list[Tensor] = []
    costs: list[Tensor] = []
    low, high = torch.full((ACTION,), -2.0), torch.full((ACTION,), 4.0)
    plans = torch.rand(EPISODES, 5, HORIZON, BLOCK)
    solver = Watching(low.repeat(2), high.repeat(2), 4, 2, 1, 1.0, 0)
    weigh = ActionCost(low, high, 0.3, 0.7)
    planner = Agent(Indifferent(), solver, HORIZON, FRAMESKIP, 1, weigh)
    planner.reset(pixels(EPISODES))
    block = planner.act(pixels(EPISODES))
    planner.keep(np.array([True, False, True]))
    plans = plans[[0, 2]]
    planner.act(pixels(2))
    torch.testing.assert_close(costs[0], 7 + weigh(scored[0], torch.zeros(EPISODES, ACTION)))
    torch.testing.assert_close(costs[1], 7 + weigh(plans, torch.tensor(block[[0, 2], -1])))


def test_the_options_for_actions_and_time_reach_the_agent() -> None:
    space = gymnasium.spaces.Box(-2, 2, (2,), np.float32)
    plan = PlanConfig(action_cost=0.2, smoothness_cost=0.1, seconds_per_decision=0.25)
    built = build_agent(plan, 3, space, Remembering(), torch.device("cpu"))
    assert built.seconds == 0.25
    assert built.action_cost is not None
    assert (built.action_cost.magnitude, built.action_cost.smoothness) == (0.2, 0.1)
    assert built.action_cost.half.tolist() == [2, 2]


def test_the_time_for_a_decision_begins_with_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timed(Counter):
        def solve(self, objective: Objective, mean: Tensor, deadline: float | None = None) -> Tensor:
            deadlines.append(deadline)
            return super().solve(objective, mean)

    class Slow(Remembering):
        def observe(self, frames: np.ndarray, states: np.ndarray | None) -> None:
            now[0] += 5.0

    deadlines: list[float | None] = []
    now = [100.0]
    monkeypatch.setattr("worldjepa.planning.agent.time.perf_counter", lambda: now[0])
    for seconds in (0.0, 0.25):
        planner = Agent(Slow(), Timed(), HORIZON, FRAMESKIP, 1, seconds=seconds)
        planner.reset(pixels(1))
        planner.act(pixels(1))
    assert deadlines == [None, 105.25]


def test_what_a_solver_remembers_follows_the_episodes() -> None:
    space = gymnasium.spaces.Box(-1, 1, (ACTION,), np.float32)
    plan = PlanConfig(solver="icem", horizon=HORIZON, num_samples=16, num_elites=4, iterations=2)
    planner = build_agent(plan, FRAMESKIP, space, Remembering(), torch.device("cpu"))
    planner.reset(pixels(EPISODES))
    planner.act(pixels(EPISODES))
    memory = planner.solver.memory
    assert memory is not None
    assert memory.shape == (EPISODES, 1, HORIZON, BLOCK)
    # The block at its end is the one that nobody has thought of yet.
    assert (memory[:, :, -1] == 0).all()
    assert (memory[:, :, :-1] != 0).all()
    planner.keep(np.array([True, False, True]))
    assert torch.equal(planner.solver.memory, memory[[0, 2]])
    planner.act(pixels(2))
    planner.reset(pixels(4))
    assert planner.solver.memory is None
    assert planner.act(pixels(4)).shape == (4, FRAMESKIP, ACTION)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("context", [nullcontext, torch.inference_mode])
def test_a_stream_of_frames_is_all_that_an_agent_needs(name: str, context) -> None:
    """Two dots on a torus go to where the pictures show them, and stay; nothing but frames is exchanged."""
    plan = PlanConfig(solver=name, horizon=3, iterations=8, starts=16, cost="mean")
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    cpu = torch.device("cpu")
    planner = build_agent(plan, 1, space, LatentDynamics(DotModel(), COSTS[plan.cost], cpu), cpu)
    places, goals = np.array([[0.1, 0.2], [0.9, 0.5]]), np.array([[0.25, 0.1], [0.05, 0.45]])
    with context():
        planner.reset(dot_frames(goals))
        for _ in range(6):
            actions = planner.act(dot_frames(places))[:, 0]
            places = (places + SPEED * actions) % 1
    off = np.abs((places - goals + 0.5) % 1 - 0.5)
    # A step is 0.1; random shooting comes near, the others stand on the place.
    assert off.max() < (0.06 if name == "shooting" else 0.01)
