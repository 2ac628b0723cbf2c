"""worldjepa.envs on reacher: Gymnasium's contract, pixels to the byte, states, true dynamics."""

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import gymnasium
import numpy as np
import pytest
import worldjepa.envs
from gymnasium.utils.env_checker import check_env
from reacher_env import ID, TURN, closing, play, random_actions, reacher
from worldjepa.envs.pixel_env import PixelEnv
from worldjepa.envs.rendering import QUALITIES
from worldjepa.envs.tasks import TASKS, wrap_angle


@pytest.fixture
def make() -> Iterator[Callable[..., PixelEnv]]:
    """`reacher`, closing what it made at the test's end."""
    yield from closing(reacher)


# The Gymnasium contract


def test_gymnasium_checker_is_content():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(reacher())


def test_spaces():
    env = gymnasium.make(ID, image_size=40)
    frame, info = env.reset(seed=0)
    assert env.observation_space.shape == frame.shape == (40, 40, 3)
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    assert {name: value.shape for name, value in info.items()} == {
        "qpos": (2,),
        "qvel": (2,),
        "state": env.unwrapped.get_state().shape,
        "observation": (6,),
    }
    np.testing.assert_array_equal(env.render(), frame)
    env.close()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"task": "Wlaker"}, "Reacher, .*Walker"),
        ({"protocol": "square"}, "circle, lewm"),
        ({"image_size": 4}, "8 pixels"),
        ({"render_quality": "best"}, "fast, smooth, full"),
    ],
)
def test_wrong_options_are_refused(options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        PixelEnv(**{"task": "Reacher", **options})


def test_wrong_reset_options_are_refused(make):
    env = make()
    state = env.get_state()
    for options in ({"stat": state}, {"state": state[:-1]}, {"state": state * np.nan}, {"goal": state[:-1]}):
        with pytest.raises(ValueError, match=r"reset options|finite numbers"):
            env.reset(options=options)


def test_importing_the_package_imports_no_simulator():
    heavy = ["mujoco", "dm_control", "torch", "OpenGL", "worldjepa.config", "worldjepa.data"]
    program = f"import sys, worldjepa.envs; print([m for m in {heavy} if m in sys.modules])"
    assert python(program).stdout.strip() == "[]"


def python(program: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}
    )


# Pixels


def test_same_seed_and_actions_give_the_same_pixels(make):
    actions = random_actions(20)
    one, other = make(), make()
    frames = play(one, actions, seed=3)
    np.testing.assert_array_equal(play(other, actions, seed=3), frames)
    np.testing.assert_array_equal(play(one, actions, seed=3), frames, "a second episode of one environment")
    assert (play(one, actions, seed=4) != frames).any()
    assert (play(one, -actions, seed=3) != frames).any()


@pytest.mark.parametrize("quality", QUALITIES)
def test_another_process_draws_the_same_pixels(make, quality: str):
    actions = random_actions(20)
    program = f"""
import hashlib, gymnasium, numpy as np
env = gymnasium.make("{ID}", image_size=32, render_quality="{quality}")
frames = [env.reset(seed=3)[0]]
for action in np.frombuffer(bytes.fromhex("{actions.tobytes().hex()}"), np.float32).reshape(20, 2):
    frames.append(env.step(action)[0])
env.close()
print(hashlib.sha256(np.stack(frames).tobytes()).hexdigest())
"""
    here = hashlib.sha256(play(make(render_quality=quality), actions, seed=3).tobytes()).hexdigest()
    assert python(program).stdout.strip() == here


def test_qualities_differ_in_the_picture_and_in_nothing_else(make):
    fast, *others = (make(render_quality=quality).reset(seed=0) for quality in QUALITIES)
    for frame, info in others:
        assert frame.shape == fast[0].shape
        assert (frame != fast[0]).any()
        np.testing.assert_array_equal(info["state"], fast[1]["state"])


def test_smooth_frames_are_averages_of_larger_ones(make):
    smooth, large = make(render_quality="smooth", image_size=16), make(image_size=64)
    smooth.reset(seed=0)
    large.reset(seed=0)
    for action in random_actions(5):
        frame, *_ = smooth.step(action)
        drawn = large.step(action)[0].reshape(16, 4, 16, 4, 3)
        np.testing.assert_array_equal(frame, np.floor(drawn.mean((1, 3)) + 0.5))


def test_smooth_frames_change_evenly_where_less_than_a_pixel_moves(make):
    def unevenness(quality: str) -> float:
        """Greatest by least change of the picture while the shoulder turns by 0.05 rad, about a pixel at
        the finger, in equal parts."""
        env = make(render_quality=quality, image_size=64)
        env.reset(seed=0)
        state, frames = env.get_state(), []
        for turn in np.linspace(0, 0.05, 21):
            state[1:3] = turn, 0
            env.set_state(state)
            frames.append(env.render().astype(int))
        changes = np.abs(np.diff(frames, axis=0)).sum((1, 2, 3))
        return changes.max() / changes.min()

    assert unevenness("fast") > 5
    assert unevenness("smooth") < 2


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_suites_target_is_hidden(make, quality: str):
    env = make(render_quality=quality, image_size=64)
    frame, _ = env.reset(seed=0)

    def moved(x: float, y: float) -> np.ndarray:
        env._physics.named.model.geom_pos["target", ["x", "y"]] = x, y
        env.set_state(env.get_state())
        return env.render()

    for place in ((0.0, 0.0), (0.2, -0.1), (-0.15, 0.2)):
        np.testing.assert_array_equal(moved(*place), frame)
    env._physics.named.model.geom_rgba["target", "a"] = 1
    assert (moved(0.2, -0.1) != frame).any(), "a target that is not hidden would show"


@pytest.mark.parametrize("quality", QUALITIES)
def test_what_moves_is_told_from_what_stands(make, quality: str):
    env = make(image_size=64, render_quality=quality)
    env.reset(seed=0)
    state = env.get_state()
    masks, frames = [], []
    for shoulder in (0.0, 0.5 * np.pi, np.pi):
        state[1:3] = shoulder, 0
        env.set_state(state)
        frames.append(env.render())
        masks.append(env.moving_parts())
        np.testing.assert_array_equal(env.render(), frames[-1])
    assert masks[0].shape == (64, 64)
    assert masks[0].dtype == bool
    # The arm is stretched out to the right, then up, then to the left.
    (right, up, left) = (np.argwhere(mask).mean(0) - 31.5 for mask in masks)
    assert right[1] > 8 > abs(right[0]) - 4
    assert up[0] < -8
    assert left[1] < -8
    if quality == "fast":
        # Without shadows and reflections a pixel changes only where something was or is that moves; the
        # mask is drawn without what smooths its edges.
        changed = (frames[0] != frames[2]).any(-1)
        assert (changed & ~(masks[0] | masks[2])).mean() < 0.01
        assert changed[masks[0] ^ masks[2]].mean() > 0.9


def test_frames_are_copies(make):
    env = make()
    first, info = env.reset(seed=0)
    kept = first.copy(), {name: value.copy() for name, value in info.items()}
    for action in random_actions(5):
        env.step(action)
    np.testing.assert_array_equal(first, kept[0])
    for name, value in info.items():
        np.testing.assert_array_equal(value, kept[1][name], name)


def test_an_environment_that_is_closed_leaves_the_others_pictures_alone():
    stays, goes = gymnasium.make(ID, image_size=32), gymnasium.make(ID, image_size=32)
    frame, _ = stays.reset(seed=1)
    goes.reset(seed=2)
    stays.render()  # now its context is the current one
    goes.close()
    np.testing.assert_array_equal(stays.render(), frame)
    stays.close()


# Actions


@pytest.mark.parametrize("excess", [(3.0, -7.0), (1.5, 0.25), (-1e6, np.inf)])
def test_actions_are_clipped_to_the_bounds(make, excess: tuple[float, float]):
    one, other = make(), make()
    wild = np.tile(np.array(excess, np.float32), (10, 1))
    np.testing.assert_array_equal(play(one, wild, seed=1), play(other, np.clip(wild, -1, 1), seed=1))
    np.testing.assert_array_equal(one.get_state(), other.get_state())


# States

# Random torques, and a wrist driven into its stop, where the solver's warm start matters.
TORQUES = {"free": random_actions(20), "at the stop": np.tile(np.float32([0.1, 1.0]), (60, 1))}


@pytest.mark.parametrize("torques", TORQUES)
def test_a_state_set_back_continues_to_the_same_bits(make, torques: str):
    actions = TORQUES[torques]
    straight, swapped, elsewhere = make(), make(), make()
    straight.reset(seed=5)
    swapped.reset(seed=5)
    other, _ = swapped.reset(seed=6)
    away = swapped.get_state()
    swapped.reset(seed=5)
    for action in actions:
        state = swapped.get_state()
        swapped.set_state(away)
        np.testing.assert_array_equal(swapped.render(), other)
        swapped.set_state(state)
        elsewhere.reset(seed=99)
        elsewhere.set_state(state)

        frame, _, _, _, info = straight.step(action)
        for env in (swapped, elsewhere):
            again, _, _, _, its = env.step(action)
            np.testing.assert_array_equal(again, frame)
            for name in ("qpos", "qvel", "state"):
                np.testing.assert_array_equal(its[name], info[name], name)


def test_reset_to_a_state(make):
    env = make()
    play(env, random_actions(7), seed=0)
    state, frame = env.get_state(), env.render()
    again, info = make().reset(seed=123, options={"state": state})
    np.testing.assert_array_equal(again, frame)
    np.testing.assert_array_equal(info["state"], state)
    np.testing.assert_array_equal(info["qpos"], env.qpos_of(state))


# The true dynamics


def stepped(env: PixelEnv, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What `simulate` promises, through `step`."""
    result = []
    for state, plan in zip(states, actions, strict=True):
        env.set_state(state)
        result.append([env.step(action)[4]["qpos"] for action in plan])
    return np.array(result)


def visited(env: PixelEnv, count: int, drive: np.ndarray) -> np.ndarray:
    """States of `count` episodes, each 30 steps on under random actions plus `drive`."""
    states = []
    for seed in range(count):
        play(env, random_actions(30, seed=seed) + drive, seed)
        states.append(env.get_state())
    return np.stack(states)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("drive", [(0.0, 0.0), (0.0, 1.0)], ids=["free", "at the wrist's stop"])
def test_simulate_equals_stepping(make, threads: int, drive: tuple[float, float]):
    env = make()
    states = visited(env, 4, np.array(drive))
    actions = random_actions(4, 50, seed=9)
    before = env.get_state()
    result = env.simulate(states, actions, threads)
    np.testing.assert_array_equal(env.get_state(), before, "simulating leaves the episode alone")
    assert result.shape == (4, 50, 2)
    np.testing.assert_array_equal(result, stepped(env, states, actions))


# Coordinates


def test_coordinates_tell_the_joint_angles(make):
    env = make()
    qpos = env.reset(seed=0)[1]["qpos"]
    named = env.coordinates(np.stack([qpos, qpos + TURN]))
    assert list(named) == ["sin shoulder", "cos shoulder", "sin wrist", "cos wrist"]
    angles = [np.arctan2(named[f"sin {joint}"], named[f"cos {joint}"]) for joint in ("shoulder", "wrist")]
    np.testing.assert_allclose(np.stack(angles, -1), np.tile(wrap_angle(qpos), (2, 1)), atol=1e-12)


# The package


def test_registering_is_all_that_the_package_does():
    assert {f"worldjepa/{name}-v0" for name in TASKS} <= set(gymnasium.registry)
    assert "envs" not in sys.modules, "only worldjepa.envs, or every id would be registered twice"
    assert worldjepa.envs.TASKS is TASKS
