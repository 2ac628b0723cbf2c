"""Every task of worldjepa.envs: Gymnasium's contract, bytes, states, success, and what a picture shows."""

import importlib.util
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from worldjepa.envs.goal_env import GoalEnv
from worldjepa.envs.pixel_env import PixelEnv
from worldjepa.envs.tasks import TASKS, Task, angles, places, table

from worldjepa.data.behaviours import BEHAVIOURS
from worldjepa.recipes import load_config

GOAL_TASKS = [name for name, task in TASKS.items() if task.has_goals]
DATA_TASKS = [name for name in TASKS if name not in GOAL_TASKS]
TURN = 2 * np.pi


@pytest.fixture(scope="module")
def envs() -> Iterator[dict[str, PixelEnv]]:
    """Every task at 64 px, made when it is first asked for."""

    class Made(dict):
        def __missing__(self, name: str) -> PixelEnv:
            self[name] = gymnasium.make(f"worldjepa.envs:worldjepa/{name}-v0").unwrapped
            return self[name]

    made = Made()
    yield made
    for env in made.values():
        env.close()


def random_actions(env: PixelEnv, *shape: int, seed: int = 0) -> np.ndarray:
    low, high = env.action_space.low, env.action_space.high
    return np.random.default_rng(seed).uniform(low, high, (*shape, len(low))).astype(np.float32)


def play(env: PixelEnv, actions: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T + 1, H, W, 3) and states (T + 1, n) of an episode."""
    frame, info = env.reset(seed=seed)
    steps = [(frame, info["state"])]
    for action in actions:
        frame, _, _, _, info = env.step(action)
        steps.append((frame, info["state"]))
    return np.stack([f for f, _ in steps]), np.stack([s for _, s in steps])


def place(env: PixelEnv, joint: str) -> int:
    """Where a joint's value stands in a state."""
    return 1 + int(env._model.joint(joint).qposadr[0])


# Every task


@pytest.mark.parametrize("name", TASKS)
def test_gymnasium_checker_is_content(envs, name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The quadruped's bounds are the suite's.
        warnings.filterwarnings("ignore", message=".*we recommend using a symmetric and normalized space")
        check_env(envs[name], skip_render_check=True)


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_same_bytes(envs, name: str):
    env = envs[name]
    actions = random_actions(env, 12)
    frames, states = play(env, actions, seed=3)
    other = gymnasium.make(f"worldjepa.envs:worldjepa/{name}-v0").unwrapped
    for again in (env, other):
        same_frames, same_states = play(again, actions, seed=3)
        np.testing.assert_array_equal(same_frames, frames)
        np.testing.assert_array_equal(same_states, states)
    other.close()
    assert (play(env, actions, seed=4)[1] != states).any()
    assert (frames[1:] != frames[:-1]).any((1, 2, 3)).any()


@pytest.mark.parametrize("name", TASKS)
def test_a_state_set_back_continues_to_the_same_bits(envs, name: str):
    """Through contacts too: the solver's warm start is part of the state."""
    env = envs[name]
    actions = random_actions(env, 40)
    frames, states = play(env, actions, seed=5)
    for step in (12, 30):
        env.reset(seed=6)
        env.set_state(states[step])
        np.testing.assert_array_equal(env.render(), frames[step])
        for number in range(step, step + 5):
            frame, _, _, _, info = env.step(actions[number])
            np.testing.assert_array_equal(info["state"], states[number + 1])
            np.testing.assert_array_equal(frame, frames[number + 1])


@pytest.mark.parametrize("name", TASKS)
def test_simulate_is_stepping_to_the_bit(envs, name: str):
    env = envs[name]
    _, states = play(env, random_actions(env, 30), seed=0)
    starts, plans = states[[5, 18, 30]], random_actions(env, 3, 20, seed=9)
    stepped = []
    for start, plan in zip(starts, plans, strict=True):
        env.set_state(start)
        stepped.append([env.step(action)[4]["qpos"] for action in plan])
    for threads in (1, 2):
        np.testing.assert_array_equal(env.simulate(starts, plans, threads), stepped)


@pytest.mark.parametrize("name", TASKS)
def test_what_the_entry_says_is_so(envs, name: str):
    env, task = envs[name], TASKS[name]
    assert int(task.actions.split(":")[0]) == env.action_space.shape[0]
    assert env._substeps * env._physics.timestep() == pytest.approx(task.control_step, rel=1e-12)
    for c in task.coordinates:
        joint = env._model.joint(c.joint)
        kind = env._mujoco.mjtJoint(int(joint.type[0])).name
        assert kind == {"rad": "mjJNT_HINGE", "m": "mjJNT_SLIDE"}[c.unit]
        if c.unit == "rad" and name != "Reacher":
            assert c.circular == (not env._model.jnt_limited[joint.id]), c.joint
    qpos = env.reset(seed=0)[1]["qpos"]
    named = env.coordinates(np.stack([qpos, qpos]))
    assert {v.shape for v in named.values()} == {(2,)}
    assert len(named) == sum(2 if c.circular else 1 for c in task.coordinates)


# What a picture shows


@pytest.mark.parametrize("name", GOAL_TASKS)
def test_a_difference_of_two_tolerances_shows_in_64_pixels(envs, name: str):
    env = envs[name]
    _, states = play(env, random_actions(env, 60), seed=1)
    for c in TASKS[name].coordinates:
        changed = []
        for state in states[10::10]:
            moved = state.copy()
            moved[place(env, c.joint)] += 2 * c.tolerance
            pictures = []
            for which in (state, moved):
                env.set_state(which)
                pictures.append(env.render().astype(int))
            changed.append(int((np.abs(pictures[0] - pictures[1]).max(-1) > 20).sum()))
        assert np.median(changed) >= 3, (c.joint, changed)


def in_the_picture(env: PixelEnv) -> np.ndarray:
    """Where the centres of all moving bodies' geoms, and the capsules' ends, are drawn, (P, 2); within ±1."""
    import mujoco  # after the environment has chosen how to draw

    model, data, camera = env._model, env._data, env._model.camera(env.task.camera).id
    moving = np.flatnonzero((model.geom_bodyid > 0) & (model.geom_rgba[:, 3] > 0))
    capsules = moving[model.geom_type[moving] == mujoco.mjtGeom.mjGEOM_CAPSULE]
    axes = data.geom_xmat[capsules].reshape(-1, 3, 3)[:, :, 2] * model.geom_size[capsules, :2].sum(1)[:, None]
    centres, middles = data.geom_xpos[moving], data.geom_xpos[capsules]
    rotation = data.cam_xmat[camera].reshape(3, 3)
    seen = (np.concatenate([centres, middles - axes, middles + axes]) - data.cam_xpos[camera]) @ rotation
    return seen[:, :2] / -seen[:, 2:] / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)


@pytest.mark.parametrize("name", GOAL_TASKS)
def test_no_part_of_the_body_leaves_the_picture(envs, name: str):
    """In the postures that the actions of the task's own recipe lead to."""
    env, options = envs[name], load_config(re.sub("(?<!^)(?=[A-Z])", "_", name).lower()).collect
    for seed in range(4):
        env.reset(seed=seed)
        actions = BEHAVIOURS[options.behaviour](env.action_space, options, np.random.default_rng(seed))
        for step, action in enumerate(actions):
            env.step(action)
            if step % 5 == 0:
                assert np.abs(in_the_picture(env)).max() < 1


@pytest.mark.parametrize(("name", "stays"), [("SwimmerAboard", True), ("Swimmer", False)])
def test_from_aboard_the_body_looks_the_same_wherever_it_is_and_heads(envs, name: str, stays: bool):
    env = envs[name]
    _, states = play(env, random_actions(env, 40), seed=2)
    env.set_state(states[-1])
    before = env.moving_parts()
    assert before.sum() > 50
    moved = states[-1].copy()
    for joint, by in {"rootx": 0.4, "rooty": -0.3, "rootz": 1.0}.items():
        moved[place(env, joint)] += by
    env.set_state(moved)
    # A pixel on the edge may fall to the other side by rounding.
    assert bool((env.moving_parts() != before).sum() <= 2) is stays


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.hidden])
def test_the_suites_target_is_hidden(envs, name: str):
    env = envs[name]
    frame, _ = env.reset(seed=0)
    model = env._physics.named.model
    for hidden in TASKS[name].hidden:
        kind = "geom" if hidden in model.geom_rgba.axes.row.names else "site"
        places, colours = getattr(model, f"{kind}_pos"), getattr(model, f"{kind}_rgba")
        before = places[hidden].copy()
        places[hidden] = before + 0.05
        env.set_state(env.get_state())
        np.testing.assert_array_equal(env.render(), frame)
        places[hidden] = before
        assert colours[hidden][3] == 0


# Goals


@pytest.mark.parametrize("name", GOAL_TASKS)
def test_success_is_every_coordinate_within_its_tolerance(envs, name: str):
    env, task = envs[name], TASKS[name]
    assert isinstance(env, GoalEnv)
    _, states = play(env, random_actions(env, 15), seed=2)
    goal = states[-1]

    def reached(state: np.ndarray) -> bool:
        _, info = env.reset(options={"state": state, "goal": goal})
        assert info["error"].shape == (len(task.coordinates),)
        scaled = env.goal_error(env.qpos_of(state), env.qpos_of(goal))
        assert bool((scaled < 1).all()) is info["success"]
        return info["success"]

    assert reached(goal)
    for c in task.coordinates:
        for sign in (-1, 1):
            for factor, expected in ((0.99, True), (1.01, False)):
                state = goal.copy()
                state[place(env, c.joint)] += sign * factor * c.tolerance
                assert reached(state) is expected, (c.joint, factor)
            state = goal.copy()
            state[place(env, c.joint)] += sign * TURN
            assert reached(state) is c.circular, c.joint


@pytest.mark.parametrize("name", GOAL_TASKS)
def test_velocities_and_what_does_not_show_do_not_count(envs, name: str):
    env, task = envs[name], TASKS[name]
    _, info = env.reset(seed=2)
    goal = info["state"]
    counted = {place(env, c.joint) for c in task.coordinates}
    moved = goal.copy()
    for index in range(1, 1 + len(info["qpos"]) + len(info["qvel"])):
        moved[index] += 0.0 if index in counted else 0.3
    assert (moved != goal).any()
    assert env.reset(options={"state": moved, "goal": goal})[1]["success"]


@pytest.mark.parametrize("name", DATA_TASKS)
def test_a_data_task_has_no_goals_and_says_so(envs, name: str):
    env = envs[name]
    state = env.get_state()
    with pytest.raises(ValueError, match=r"reset options \['goal'\] are unknown; .* knows state"):
        env.reset(options={"goal": state})
    assert not hasattr(env, "set_goal")
    assert "success" not in env.step(env.action_space.low)[4]


# The table


def test_errors_are_on_the_circle_where_there_are_no_limits():
    task = Task("d", "t", "c", 0.1, "1: none", (*angles("a", 0.1, circular=True), *places("b", 0.1)))
    np.testing.assert_allclose(task.error(np.array([TURN, TURN]), np.zeros(2)), [0, TURN], atol=1e-12)
    np.testing.assert_allclose(task.error(np.array([TURN, TURN]), np.zeros(2), "lewm"), TURN)
    assert task.rule() == "a within 0.1 rad on the circle, b within 0.1 m"


def test_an_entry_has_tolerances_for_all_coordinates_or_for_none():
    for name, task in TASKS.items():
        assert task.has_goals or all(c.tolerance is None for c in task.coordinates), name
    assert len(GOAL_TASKS) == 9


def test_the_docstrings_tell_every_task():
    for env in (PixelEnv, GoalEnv):
        assert table() in (env.__doc__ or "")
    assert len(table().splitlines()) == 2 + len(TASKS)
    assert all(f"`worldjepa/{name}-v0`" in table() for name in TASKS)


# What was measured

ROOT = Path(__file__).parents[1]


def test_every_row_was_measured_on_the_task_as_it_is_now_and_meets_the_bars(task_table):
    results = json.loads((ROOT / "results" / "tasks.json").read_text("utf-8"))
    assert set(results) == set(task_table.RECIPES)
    assert {name for name, task in TASKS.items() if task.has_goals} == {
        task_table.load_config(recipe, ()).env.id.split("/")[-1].removesuffix("-v0") for recipe in results
    }
    for recipe, result in results.items():
        config = task_table.load_config(recipe, task_table.HELD_OUT)
        name = config.env.id.split("/")[-1].removesuffix("-v0")
        assert task_table.unchanged(result["options"], task_table.options(config, TASKS[name])), recipe
        assert result["rule"] == TASKS[name].rule()
        assert result["pairs"] == 100
        assert result["rows"]["random actions"]["success"] <= 25, recipe
        assert result["rows"]["true dynamics"]["success"] >= 80, recipe


@pytest.fixture(scope="module")
def task_table():
    """scripts/task_table.py as a module."""
    spec = importlib.util.spec_from_file_location("task_table", ROOT / "scripts" / "task_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
