"""worldjepa.envs: Gymnasium's contract, pixels to the byte, states, goals, true dynamics, OpenGL."""

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
from worldjepa.envs import rendering
from worldjepa.envs.pixel_env import PixelEnv
from worldjepa.envs.rendering import OpenGLUnavailable, choose_backend
from worldjepa.envs.tasks import TASKS, Task, wrap_angle

ID = "worldjepa.envs:worldjepa/Reacher-v0"
TURN = 2 * np.pi


def reacher(**options) -> PixelEnv:
    env = gymnasium.make(ID, **{"image_size": 32, **options}).unwrapped
    assert isinstance(env, PixelEnv)
    return env


@pytest.fixture
def make() -> Iterator[Callable[..., PixelEnv]]:
    """`reacher`, closing what it made at the test's end."""
    made: list[PixelEnv] = []
    yield lambda **options: made.append(reacher(**options)) or made[-1]
    for env in made:
        env.close()


def random_actions(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, 2)).astype(np.float32)


def play(env: PixelEnv, actions: np.ndarray, seed: int) -> np.ndarray:
    """Frames of an episode, the first included, (T + 1, H, W, 3)."""
    first, _ = env.reset(seed=seed)
    return np.stack([first, *(env.step(action)[0] for action in actions)])


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
        ({"task": "Walker"}, "Reacher"),
        ({"protocol": "square"}, "circle, lewm"),
        ({"image_size": 4}, "8 pixels"),
        ({"render_quality": "best"}, "fast, full"),
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


@pytest.mark.parametrize("quality", ["fast", "full"])
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
    fast, full = make(render_quality="fast"), make(render_quality="full")
    fast_frame, fast_info = fast.reset(seed=0)
    full_frame, full_info = full.reset(seed=0)
    assert fast_frame.shape == full_frame.shape
    assert (fast_frame != full_frame).any()
    np.testing.assert_array_equal(fast_info["state"], full_info["state"])


@pytest.mark.parametrize("quality", ["fast", "full"])
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


def test_frames_are_copies(make):
    env = make()
    first, info = env.reset(seed=0)
    kept = first.copy(), {name: value.copy() for name, value in info.items()}
    for action in random_actions(5):
        env.step(action)
    np.testing.assert_array_equal(first, kept[0])
    for name, value in info.items():
        np.testing.assert_array_equal(value, kept[1][name], name)


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


# Goals


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


def test_exactly_the_tolerance_is_not_success():
    task = TASKS["Reacher"]
    error = task.error(np.array([0.05, 0.0]), np.zeros(2), "lewm")
    assert error[0] == task.tolerance == 0.05
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


def test_an_entry_that_is_no_angle_is_never_wrapped():
    task = Task("d", "t", "c", circular=(True, False), tolerance=0.1, coordinates=lambda qpos: {})
    np.testing.assert_allclose(task.error(np.array([TURN, TURN]), np.zeros(2)), [0, TURN], atol=1e-12)


def test_coordinates_tell_the_joint_angles(make):
    env = make()
    qpos = env.reset(seed=0)[1]["qpos"]
    named = env.coordinates(np.stack([qpos, qpos + TURN]))
    assert list(named) == ["sin shoulder", "cos shoulder", "sin wrist", "cos wrist"]
    angles = [np.arctan2(named[f"sin {joint}"], named[f"cos {joint}"]) for joint in ("shoulder", "wrist")]
    np.testing.assert_allclose(np.stack(angles, -1), np.tile(wrap_angle(qpos), (2, 1)), atol=1e-12)


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
    np.testing.assert_allclose(result, stepped(env, states, actions), rtol=0, atol=1e-12)


def test_simulate_holds_an_action_for_its_whole_control_step(make, monkeypatch: pytest.MonkeyPatch):
    """Another task is one entry of the table; the finger's control step is two of physics."""
    finger = Task("finger", "spin", "cam0", (False, False, True), 0.05, lambda qpos: {})
    monkeypatch.setitem(TASKS, "Finger", finger)
    env = PixelEnv("Finger", image_size=16)
    states = np.stack([env.reset(seed=seed)[1]["state"] for seed in range(2)])
    actions = random_actions(2, 6)
    assert env._substeps == 2
    result = env.simulate(states, actions)
    np.testing.assert_allclose(result, stepped(env, states, actions), rtol=0, atol=1e-12)
    env.close()


# The choice of OpenGL


@pytest.fixture
def no_choice_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "WORLDJEPA_GL_CHECKED", "LP_NUM_THREADS"):
        # Set first, so that the variable is put back even where it was not there.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_choice_yet")
@pytest.mark.parametrize(
    ("platform", "asked", "draw", "chosen"),
    [
        ("linux", None, {"egl", "osmesa"}, "egl"),
        ("linux", None, {"osmesa"}, "osmesa"),
        ("linux", "osmesa", {"egl", "osmesa"}, "osmesa"),
        ("linux", "glfw", {"egl", "glfw"}, "glfw"),
        ("darwin", None, {None}, "default"),
    ],
)
def test_choice_of_back_end(monkeypatch, platform: str, asked: str | None, draw: set, chosen: str):
    tried = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(rendering, "_draws", lambda v: tried.append(v) or v.get("MUJOCO_GL") in draw)
    if asked:
        monkeypatch.setenv("MUJOCO_GL", asked)
    assert choose_backend() == chosen
    assert os.environ.get("MUJOCO_GL", "default") == chosen
    assert os.environ.get("PYOPENGL_PLATFORM") == (chosen if chosen in ("egl", "osmesa") else None)
    tries = len(tried)
    assert choose_backend() == chosen
    assert len(tried) == tries, "what was found is not looked for again"


@pytest.mark.usefixtures("no_choice_yet")
@pytest.mark.parametrize(
    ("asked", "words"),
    [(None, ("libegl1", "libosmesa6")), ("osmesa", ("libosmesa6", "unset MUJOCO_GL=osmesa"))],
)
def test_where_nothing_draws_the_error_names_the_package(monkeypatch, asked: str | None, words: tuple):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(rendering, "_draws", lambda variables: False)
    if asked:
        monkeypatch.setenv("MUJOCO_GL", asked)
    with pytest.raises(OpenGLUnavailable) as caught:
        choose_backend()
    assert all(word in str(caught.value) for word in words)
    assert "WORLDJEPA_GL_CHECKED" not in os.environ


def test_a_back_end_that_can_not_draw_is_one_line_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "worldjepa", "collect", "smoke", f"data.path={tmp_path / 'data'}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "MUJOCO_GL": "none"})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "libegl1" in done.stderr
    assert "MUJOCO_GL=none" in done.stderr


def test_registering_is_all_that_the_package_does():
    assert {f"worldjepa/{name}-v0" for name in TASKS} <= set(gymnasium.registry)
    assert "envs" not in sys.modules, "only worldjepa.envs, or every id would be registered twice"
    assert worldjepa.envs.TASKS is TASKS


def test_torch_can_load_its_compiler_after_an_environment_was_drawn() -> None:
    """Triton's LLVM after Mesa's ends the process, so the environment loads Triton first."""
    program = """
import gymnasium
env = gymnasium.make("worldjepa.envs:worldjepa/Reacher-v0", image_size=8)
env.reset(seed=0)
import torch._dynamo
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
env.close()
"""
    done = python(program)
    assert done.returncode == 0, done.stderr
