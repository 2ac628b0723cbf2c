"""worldjepa.data.environments: any environment as frames of one size and actions in a bounded box."""

import importlib.util

import counting_env
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Tuple

from worldjepa.config import EnvConfig
from worldjepa.data.environments import GoalFrames, OneHot, _is_vector, is_bounded, make_env
from worldjepa.errors import UserError


def made(name: str, size: int = 64) -> gymnasium.Env:
    return make_env(EnvConfig(id=name, image_size=size))


def averaged(picture: np.ndarray, size: int) -> np.ndarray:
    """Area averaging by the book: each side as a matrix of overlaps."""

    def overlaps(length: int) -> np.ndarray:
        edges = np.arange(size + 1) * length / size
        left, right = (
            np.maximum(edges[:-1, None], np.arange(length)),
            np.minimum(edges[1:, None], np.arange(length) + 1),
        )
        return np.maximum(right - left, 0) * size / length

    rows, columns = (overlaps(length) for length in picture.shape[:2])
    return np.einsum("ih,hwc,jw->ijc", rows, picture.astype(float), columns)


# Frames


def test_an_image_environment_of_the_right_size_is_seen_as_it_is():
    env, plain = made("counting_env:Counting-v0", 4), counting_env.Counting()
    action = np.array([0.5, 1], np.float32)
    np.testing.assert_array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
    np.testing.assert_array_equal(env.step(action)[0], plain.step(action)[0])


@pytest.mark.parametrize("size", [10, 20, 7])
def test_pictures_of_another_size_are_averaged_over_areas(size: int):
    env = made("own_envs:Gauge-v0", size)
    assert env.observation_space == Box(0, 255, (size, size, 3), np.uint8)
    for seed in range(5):
        frame, _ = env.reset(seed=seed)
        assert env.observation_space.contains(frame)
        np.testing.assert_allclose(frame, averaged(env.unwrapped.render(), size), atol=0.5 + 1e-9)
        np.testing.assert_array_equal(frame, env.render())


def test_a_larger_frame_repeats_pixels():
    env = made("counting_env:Counting-v0", 8)
    small = counting_env.Counting().reset(seed=0)[0]
    np.testing.assert_array_equal(env.reset(seed=0)[0], small.repeat(2, 0).repeat(2, 1))


def test_the_environments_own_numbers_are_told():
    env = made("own_envs:Gauge-v0")
    _, info = env.reset(seed=0)
    level = env.unwrapped.level.copy()
    # A Dict's entries in the order of their names: the lamp, one-hot, then the level.
    np.testing.assert_array_equal(info["observation"], [1, 0, 0, *level])
    _, _, _, _, info = env.step(np.ones(1, np.float32))
    np.testing.assert_allclose(info["observation"], [0, 1, 0, *np.clip(level + 0.05, 0, 1)])


NUMBERS = Box(-np.inf, np.inf, (3,))
PICTURE = Box(0, 255, (8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (NUMBERS, True),
        (Discrete(3), True),
        (MultiDiscrete([2, 3]), True),
        (Dict({"a": NUMBERS, "b": Dict({"c": Discrete(2)})}), True),
        (Tuple([NUMBERS, MultiBinary(2)]), True),
        (PICTURE, False),
        (Dict({"a": NUMBERS, "b": Dict({"c": PICTURE})}), False),
        (Tuple([NUMBERS, PICTURE]), False),
        (Sequence(NUMBERS), False),
    ],
    ids=str,
)
def test_numbers_are_told_and_pictures_are_not(space: gymnasium.Space, told: bool):
    assert _is_vector(space) == told


OTHERS = ["Pendulum-v1", "CartPole-v1"]
if importlib.util.find_spec("gym_pusht"):
    OTHERS.append("gym_pusht:gym_pusht/PushT-v0")


@pytest.mark.parametrize("name", OTHERS)
def test_environments_of_others(name: str):
    """Seen by their pictures, which change as they move, the same for the same seed and actions."""
    runs = []
    for _ in range(2):
        env = made(name, 32)
        assert is_bounded(env.action_space)
        env.action_space.seed(0)
        seen = [env.reset(seed=1)]
        for _ in range(8):
            frame, _, _, _, info = env.step(env.action_space.sample())
            seen.append((frame, info))
        runs.append((np.stack([f for f, _ in seen]), np.stack([info["observation"] for _, info in seen])))
        env.close()
    frames, numbers = runs[0]
    assert frames.shape == (9, 32, 32, 3)
    assert (frames[0] != frames[-1]).any()
    assert (numbers[0] != numbers[-1]).any()
    np.testing.assert_array_equal(frames, runs[1][0])
    np.testing.assert_array_equal(numbers, runs[1][1])


# Actions


def test_discrete_actions_are_taken_from_rows():
    env = made("own_envs:Keys-v0")
    assert isinstance(env, OneHot)
    assert env.action_space == Box(0, 1, (3,), np.float32)
    assert [env.action(row) for row in np.eye(3)] == [5, 6, 7]
    np.testing.assert_array_equal([env.row(key) for key in (5, 6, 7, 8)], [*np.eye(3), np.zeros(3)])
    rows = env.one_hot(np.array([[0.2, 0.9, 0.1], [0.5, 0.4, 0.45]]))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [[0, 1, 0], [1, 0, 0]])
    env.reset(seed=0)
    before = env.unwrapped.level.copy()
    env.step(rows[0])
    assert env.unwrapped.level == before
    env.step(rows[1])
    assert env.unwrapped.level < before


@pytest.mark.parametrize(
    ("space", "good"),
    [
        (Box(-1, 1, (2,)), True),
        (Box(np.array([0, -5]), np.array([1, 5]), dtype=np.float64), True),
        (Discrete(4), False),
        (MultiBinary(3), False),
        (Dict({"a": Box(-1, 1, (2,))}), False),
        (Box(-np.inf, np.inf, (2,)), False),
        (Box(np.zeros(2, np.float32), np.array([1, np.inf], np.float32)), False),
        (Box(-1, 1, (2, 3)), False),
        (Box(-1, 1, ()), False),
        (Box(0, 255, (2,), np.uint8), False),
    ],
    ids=str,
)
def test_what_bounded_actions_are(space: gymnasium.Space, good: bool):
    assert is_bounded(space) == good


# What is wrong is named


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Nothing-v0", "env.id=Nothing-v0: .*Nothing"),
        (
            "no_such_module:Env-v0",
            "No module named 'no_such_module'; is it installed, or its folder in PYTHON",
        ),
        ("./counting_env:Counting-v0", "Counting-v0"),
        ("counting_env:Counting-v9", "Counting"),
        ("own_envs:Blind-v0", r"shows Dict\(.*\), not pictures, .* has no rgb_array"),
    ],
)
def test_what_can_not_be_made(name: str, words: str):
    with pytest.raises(UserError, match=words) as caught:
        made(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_envs:Grey-v0", r"Grey shows or draws \(20, 30\), not pictures"),
        ("own_envs:Undrawable-v0", "Undrawable: crayons are not installed"),
    ],
)
def test_what_can_not_be_drawn(name: str, words: str):
    env = made(name)
    with pytest.raises(UserError, match=words):
        env.reset(seed=0)


# Goals


def test_an_environment_with_goals_keeps_its_methods_and_gets_frames():
    env = GoalFrames(made("moving_dot:Dot-v0").unwrapped, 16)
    goal = np.array([0.25, 0.5])
    env.set_state(np.array([0.5, 0.5]))
    frame = env.render()
    assert frame.shape == (16, 16, 3)
    assert env.set_goal(goal, draw=False) is None
    goal_frame = env.set_goal(goal)
    assert (goal_frame != frame).any()
    moved, _, reached, _, _ = env.step(np.array([-1.0, 0.0]))
    assert moved.shape == (16, 16, 3)
    assert not reached
    np.testing.assert_allclose(env.get_state(), [0.4, 0.5])
    assert set(env.coordinates(goal)) == {"sin 0", "sin 1", "cos 0", "cos 1"}
    env.set_state(goal)
    np.testing.assert_array_equal(env.render(), goal_frame)
    assert not hasattr(env, "simulate")


def test_the_state_of_an_environment_with_goals_is_told():
    _, info = made("moving_dot:Dot-v0", 32).reset(seed=0)
    np.testing.assert_array_equal(info["state"], info["qpos"])
    assert info["state"].shape == (2,)
    _, info = made("own_envs:Gauge-v0").reset(seed=0)
    assert "state" not in info
