"""Policies that act from one look at the goal: what they learn, and in which units they act."""

import numpy as np
import pytest
import torch
from moving_dot import SPEED, DotModel, DotWorld, dot_windows, write_dots

from worldjepa.evaluation.goals import Goals, play
from worldjepa.evaluation.policies import RandomPolicy
from worldjepa.evaluation.rivals import ReactivePolicy, fit, rivals

LOW, HIGH = np.array([-1.0, -1.0], np.float32), np.array([1.0, 1.0], np.float32)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ReactivePolicy]:
    """Learnt from the moving dot, one action in a block."""
    windows = dot_windows(write_dots(tmp_path_factory.mktemp("dots"), episodes=30, length=60), 4, 1)
    return rivals(DotModel().eval(), windows, LOW, HIGH, steps=800, seed=0)


def test_inverse_dynamics_knows_the_action_between_two_frames(policies: dict[str, ReactivePolicy]) -> None:
    rng = np.random.default_rng(1)
    states, actions = rng.uniform(0, 1, (200, 2)), rng.uniform(-0.9, 0.9, (200, 2))
    world, frames = DotWorld(), []
    for state in np.concatenate([states, states + SPEED * actions]):
        world.set_state(state)
        frames.append(world.render())
    policy = policies["inverse dynamics"]
    policy.reset(np.stack(frames[200:]))
    acted = policy.act(np.stack(frames[:200]))[:, 0]
    assert np.abs(acted - actions).mean() < 0.05


def test_both_reach_more_goals_than_chance(policies: dict[str, ReactivePolicy]) -> None:
    rng = np.random.default_rng(2)
    start = rng.uniform(0, 1, (40, 2))
    goals = Goals(
        start, (start + SPEED * rng.uniform(-2.5, 2.5, (40, 2))) % 1, np.arange(40), np.zeros(40, int), 0
    )
    reached = {
        name: play(DotWorld(), goals, policy, budget=10).success.mean()
        for name, policy in {**policies, "random": RandomPolicy(LOW, HIGH, 1, 0)}.items()
    }
    assert reached["random"] < 0.3
    assert min(reached["behaviour cloning"], reached["inverse dynamics"]) > 0.8


def test_actions_have_the_range_of_the_environment_and_stay_in_it() -> None:
    low, high = np.array([0.0, 10.0]), np.array([1.0, 30.0])
    for out, expected in (
        (-5.0, low),
        (0.0, (low + high) / 2),
        (0.5, low + 0.75 * (high - low)),
        (9.0, high),
    ):
        network = lambda z, out=out: torch.full((len(z), 6), out)  # noqa: E731
        policy = ReactivePolicy(DotModel().eval(), network, low, high)
        frames = np.zeros((4, 32, 32, 3), np.uint8)
        policy.reset(frames)
        assert policy.act(frames).shape == (4, 3, 2)
        np.testing.assert_allclose(policy.act(frames), np.broadcast_to(expected, (4, 3, 2)), rtol=1e-6)


def test_finished_episodes_are_forgotten() -> None:
    policy = ReactivePolicy(DotModel().eval(), lambda z: z[:, :2], LOW, HIGH)
    frames = np.stack([np.roll(np.eye(32, dtype=np.uint8) * 255, i, 0) for i in range(3)])[..., None].repeat(
        3, -1
    )
    policy.reset(frames)
    goal = policy.goal.clone()
    policy.keep(np.array([True, False, True]))
    assert torch.equal(policy.goal, goal[[0, 2]])


def test_one_seed_one_network_and_the_callers_generator_is_left_alone() -> None:
    z, actions = torch.randn(50, 3, 4), torch.rand(50, 2, 2)
    state = torch.get_rng_state()
    one, same, other = (fit(z, actions, [1, 2], seed, "fit", steps=5) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.randn(6, 8)
    assert torch.equal(one(x), same(x))
    assert not torch.equal(one(x), other(x))


def test_the_horizon_is_drawn_among_those_named() -> None:
    # The action is told by which two latents are shown: one step apart, or two.
    z = torch.randn(400, 3, 2)
    actions = torch.zeros(400, 2, 1)
    near = fit(z, actions + 1, [1], 0, "fit", steps=100)
    assert float((near(z[:, :2].flatten(1)).detach() - 1).abs().mean()) < 0.1
    # Two ahead there is one start alone, so the second action is never a target.
    actions[:, 1] = 5
    far = fit(z, actions, [2], 0, "fit", steps=100)
    assert float(far(torch.cat([z[:, 0], z[:, 2]], -1)).detach().abs().mean()) < 0.1
