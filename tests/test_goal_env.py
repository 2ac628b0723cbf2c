"""worldjepa.envs.goal_env on reacher: goals, their pictures, the success rule under both protocols."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from reacher_env import TURN, closing, play, random_actions, reacher
from worldjepa.envs.goal_env import GoalEnv
from worldjepa.envs.tasks import TASKS, wrap_angle


@pytest.fixture
def make() -> Iterator[Callable[..., GoalEnv]]:
    """`reacher`, closing what it made at the test's end."""
    yield from closing(reacher)


def test_a_goals_image_is_the_picture_drawn_there(make):
    env = make()
    frames = play(env, random_actions(15), seed=0)
    goal, start = env.get_state(), make().reset(seed=1)[1]["state"]
    frame, info = env.reset(seed=2, options={"state": start, "goal": goal})
    np.testing.assert_array_equal(info["goal_pixels"], frames[-1])
    np.testing.assert_array_equal(info["state"], start)
    np.testing.assert_array_equal(frame, make().reset(options={"state": start})[0])
    np.testing.assert_array_equal(env.step(np.zeros(2, np.float32))[4]["goal_pixels"], frames[-1])
    np.testing.assert_array_equal(env.set_goal(goal), frames[-1])
    assert "goal_pixels" not in env.reset(seed=2)[1], "the next episode has no goal unless it is given one"


def test_setting_a_goal_does_not_disturb_the_episode(make):
    actions = random_actions(10)
    plain, with_goals = make(), make()
    goal = make().reset(seed=8)[1]["state"]
    plain.reset(seed=7)
    with_goals.reset(seed=7)
    for action in actions:
        with_goals.set_goal(goal)
        np.testing.assert_array_equal(with_goals.step(action)[0], plain.step(action)[0])
    np.testing.assert_array_equal(with_goals.get_state(), plain.get_state())


def test_a_goal_without_a_picture(make):
    env = make()
    _, info = env.reset(seed=0)
    assert env.set_goal(info["state"], draw=False) is None
    info = env.step(np.zeros(2, np.float32))[4]
    assert "success" in info
    assert "goal_pixels" not in info


SUCCESS = [
    # (shoulder, wrist) away from the goal, in radians: reached on the circle, reached by LeWM's rule
    ((0.0, 0.0), True, True),
    ((0.0499, -0.0499), True, True),
    ((0.05 + 1e-9, 0.0), False, False),
    ((0.0501, 0.0), False, False),
    ((0.0, -0.0501), False, False),
    ((0.0499, 0.0501), False, False),
    ((TURN, 0.0), True, False),
    ((-TURN - 0.0499, 0.0), True, False),
    ((3 * TURN + 0.0501, 0.0), False, False),
    ((np.pi, 0.0), False, False),
]


@pytest.mark.parametrize("protocol", ["circle", "lewm"])
def test_success_rule(make, protocol: str):
    env = make(protocol=protocol)
    _, info = env.reset(seed=0)
    goal = info["state"]
    for offset, circle, lewm in SUCCESS:
        state = goal.copy()
        state[1:3] += offset
        _, info = env.reset(options={"state": state, "goal": goal})
        assert info["success"] is (circle if protocol == "circle" else lewm), offset
        scaled = env.goal_error(env.qpos_of(state), env.qpos_of(goal))
        np.testing.assert_allclose(scaled, info["error"] / 0.05)
        assert bool((scaled < 1).all()) is info["success"]


def test_errors_have_names_and_units(make):
    env = make()
    assert env.error_names == ("shoulder [rad]", "wrist [rad]")
    _, info = env.reset(seed=0)
    env.set_goal(info["state"])
    assert env.step(np.zeros(2))[-1]["error"].shape == (2,)


def test_exactly_the_tolerance_is_not_success():
    task = TASKS["Reacher"]
    error = task.error(np.array([0.05, 0.0]), np.zeros(2), "lewm")
    assert (error[0], *task.tolerance) == (0.05, 0.05, 0.05)
    assert not (error < task.tolerance).all()


def test_reaching_the_goal_ends_the_episode_with_reward_one(make):
    env = make()
    actions = random_actions(10)
    play(env, actions, seed=4)
    goal = env.get_state()
    _, info = env.reset(seed=4, options={"goal": goal})
    assert info["success"] is False
    outcomes = [env.step(action)[1:] for action in actions]
    assert [terminated for _, terminated, _, _ in outcomes[:5]] == [False] * 5
    reward, terminated, truncated, info = outcomes[-1]
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)


@pytest.mark.parametrize(
    ("angle", "wrapped"), [(0.0, 0.0), (np.pi, -np.pi), (-np.pi, -np.pi), (3.0, 3.0), (4.0, 4.0 - TURN)]
)
def test_wrap_angle(angle: float, wrapped: float):
    for turns in (-2, 0, 5):
        difference = wrap_angle(np.array(angle + turns * TURN)) - wrapped
        assert min(abs(difference), abs(abs(difference) - TURN)) < 1e-12
