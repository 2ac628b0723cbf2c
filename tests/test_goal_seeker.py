"""Collecting with a trained run's planner: goals are reached and follow one another, noise is remembered, an
episode depends on its number alone, and what can't be is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from moving_dot import DotModel, dot_frames, write_dots
from scipy.stats import kstest

from worldjepa.cli import main
from worldjepa.config import CollectConfig, EnvConfig
from worldjepa.data.collect import about
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode
from worldjepa.data.shards import Store
from worldjepa.data.windows import split_episodes
from worldjepa.errors import UserError
from worldjepa.evaluation import goal_seeker
from worldjepa.evaluation.goal_seeker import Seeker, Trained
from worldjepa.planning.agent import build_agent
from worldjepa.planning.costs import COSTS
from worldjepa.planning.dynamics import LatentDynamics
from worldjepa.recipes import load_config

DOT = EnvConfig(id="moving_dot:Dot-v0", image_size=32)
PLANS = ["plan.num_samples=64", "plan.num_elites=8", "plan.iterations=4", "plan.horizon=4"]
PLANS += ["data.frameskip=2", "plan.budget=20"]
STEPS = 60
# A behaviour that needs a run; which one does not matter where `load` is another.
OPTIONS = CollectConfig(
    behaviour="planner", run="none", goals="none", nearest=1, noise=0.0, episode_length=STEPS
)


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(write_dots(tmp_path_factory.mktemp("dots"), episodes=12))


@pytest.fixture
def dot_env() -> gymnasium.Env:
    return make_env(DOT)


Knowing = Callable[..., Trained]


@pytest.fixture
def knowing(dots: Store, monkeypatch: pytest.MonkeyPatch) -> Knowing:
    """Puts a model of the dot, perfect or not, in the place of a run's."""

    def put(moves: float = 1.0) -> Trained:
        config = load_config("smoke", PLANS)
        training, _ = split_episodes(len(dots.lengths), config.data.held_out, config.data.split_seed)
        model = DotModel(moves).eval()
        model.takes = lambda numbers: numbers == 2  # type: ignore[assignment]
        dynamics = LatentDynamics(model, COSTS["closest"], torch.device("cpu"))
        trained = Trained(config, model, dynamics, dots, training)
        monkeypatch.setattr(goal_seeker, "load", lambda run, goals: trained)
        return trained

    return put


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The states of the goals that are drawn, in order."""
    states: list[np.ndarray] = []
    plain = Seeker.next_goal

    def noting(self: Seeker, frame: np.ndarray) -> None:
        plain(self, frame)
        assert self.state is not None
        states.append(self.state)

    monkeypatch.setattr(Seeker, "next_goal", noting)
    return states


def changed(options: CollectConfig, **changes: Any) -> CollectConfig:
    return CollectConfig(**{**vars(options), **changes})


# What it does


@pytest.mark.parametrize(("moves", "least", "most"), [(1.0, 5, STEPS // 2), (0.0, 3, 4)])
def test_a_goal_that_is_reached_gives_way_to_the_next(
    knowing: Knowing, dot_env: gymnasium.Env, drawn: list[np.ndarray], moves: float, least: int, most: int
) -> None:
    """With a perfect model goals follow one another; with one that knows nothing each takes its 20 steps."""
    trained = knowing(moves)
    for index in range(3):
        drawn.clear()
        episode = collect_episode(dot_env, OPTIONS, index)
        assert least <= len(drawn) <= most
        assert episode["pixels"].shape == (STEPS, 32, 32, 3)
        assert np.abs(episode["action"]).max() <= 1
        if moves:
            # Every goal but the last was come to, in the order in which they were drawn.
            errors = np.stack([dot_env.unwrapped.goal_error(episode["qpos"], goal) for goal in drawn])
            there = (errors.max(-1) < 1).argmax(1)[:-1]
            assert (errors.max(-1) < 1).any(1)[:-1].all()
            assert len(set(there)) > 1
    assert trained.config.plan.budget == 20


def test_goals_are_frames_of_training_episodes(
    knowing: Knowing, dot_env: gymnasium.Env, drawn: list[np.ndarray], dots: Store
) -> None:
    trained = knowing()
    for index in range(12):
        collect_episode(dot_env, OPTIONS, index)
    states = dots.gather("state", np.arange(12), np.tile(np.arange(40), (12, 1)))
    found = [np.argwhere((states == goal).all(-1))[0] for goal in drawn]
    episodes = {int(episode) for episode, _ in found}
    assert len(drawn) > 60
    assert episodes <= set(trained.training.tolist())
    assert len(episodes) == len(trained.training)
    assert len({int(step) for _, step in found}) > 20


def test_of_several_random_frames_the_nearest_is_the_goal(
    knowing: Knowing, dot_env: gymnasium.Env, drawn: list[np.ndarray]
) -> None:
    """A dot's latent is its two angles, as points on circles: what is near in one is near in the other."""
    knowing()
    far = []
    for nearest in (1, 8, 64):
        drawn.clear()
        options = changed(OPTIONS, nearest=nearest, episode_length=1)
        starts = [collect_episode(dot_env, options, index)["qpos"][0] for index in range(40)]
        chords = 2 * np.sin(np.pi * (np.stack(starts) - np.stack(drawn)))
        far.append(np.sqrt(np.square(chords).sum(-1)))
    assert np.median(far[0]) > 1.5 * np.median(far[1]) > 1.5**2 * np.median(far[2])
    # Of 64 uniform points on the torus one lies within 0.25 with a probability of more than 99.9 %.
    assert far[2].max() < 2 * np.pi * 0.25


def test_without_states_or_rules_each_goal_has_its_budget(
    knowing: Knowing, dot_env: gymnasium.Env, monkeypatch: pytest.MonkeyPatch, dots: Store
) -> None:
    knowing()
    monkeypatch.setattr(dots, "has", lambda column: False)
    calls: list[int] = []
    plain = Seeker.next_goal
    monkeypatch.setattr(
        Seeker, "next_goal", lambda self, frame: (calls.append(self.left), plain(self, frame))
    )
    collect_episode(dot_env, OPTIONS, 0)
    assert calls == [0, 0, 0]


def test_an_agent_remembers_what_was_carried_out() -> None:
    plan = load_config("smoke", PLANS).plan
    dynamics = LatentDynamics(DotModel().eval(), COSTS["closest"], torch.device("cpu"))
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    instead = torch.tensor([0.25, -0.5, 1.0, 0.0])
    agent = build_agent(plan, 2, space, dynamics, torch.device("cpu"), lambda block: instead.expand_as(block))
    frames = dot_frames(np.array([[0.2, 0.3], [0.6, 0.1]]))
    agent.reset(frames[:1])
    for _ in range(3):
        np.testing.assert_array_equal(agent.act(frames[1:]), instead.view(1, 2, 2))
    assert dynamics.past is not None
    assert torch.equal(dynamics.past, instead.expand(1, 3, 4))


def test_noise_is_gaussian_about_the_plan(knowing: Knowing, dot_env: gymnasium.Env) -> None:
    """Of two episodes that differ in noise alone the first block is planned alike."""
    knowing()
    spread, differences = 0.05, []
    for index in range(60):
        still, shaken = (
            collect_episode(dot_env, changed(OPTIONS, noise=noise, episode_length=2), index)["action"]
            for noise in (0.0, spread)
        )
        assert np.abs(shaken).max() <= 1
        # Near its bounds an action is clipped.
        differences.append((shaken - still)[np.abs(still) < 1 - 4 * spread])
    found = np.concatenate(differences) / spread
    assert len(found) > 100
    assert kstest(found, "norm").pvalue > 1e-3


def test_an_episode_depends_on_its_number_alone(knowing: Knowing, dot_env: gymnasium.Env) -> None:
    knowing()
    options = changed(OPTIONS, noise=0.3, episode_length=20)
    first, second, _ = (collect_episode(dot_env, options, index) for index in range(3))
    again = collect_episode(dot_env, options, 1)
    for name, values in second.items():
        np.testing.assert_array_equal(values, again[name])
    assert (first["action"] != second["action"]).any()
    other = collect_episode(dot_env, changed(options, seed=1), 1)
    assert (other["action"] != second["action"]).any()


# With a run


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "walked"
    words = [f"run={folder}", f"data.path={tiny_data}", "train.evaluate_goals=0", "train.steps=2"]
    assert main(["train", "smoke", *words, "plan.budget=10"]) == 0
    return folder


def columns(folder: Path) -> list[dict[str, np.ndarray]]:
    """Of each episode what was seen and done, and who acted."""
    store, found = Store(folder), []
    for episode, length in enumerate(store.lengths):
        steps = np.arange(length)[None]
        names = ("pixels", "action", "behaviour")
        found.append({name: store.gather(name, np.array([episode]), steps)[0] for name in names})
    return found


def test_it_is_collected_by_any_number_of_processes_and_goes_on(
    run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "planned"
    words = ["collect", "smoke", f"data.path={folder}", "collect.behaviour=planner=3,uniform=1"]
    words += [f"collect.run={run}", "collect.episode_length=30", "data.context=2"]
    assert main([*words, "collect.episodes=4", "collect.workers=2"]) == 0
    said = Store(folder).about["collect"]  # type: ignore[index]
    assert (said["run"], said["goals"], said["noise"]) == ("walked/checkpoints/00000002", "smoke", 0.3)
    config = load_config("smoke", words[2:])
    options = changed(config.collect, run=str(run / "checkpoints" / "00000002"), goals=str(tiny_data))
    env = make_env(config.env)
    for index in (3, 0):
        here, there = collect_episode(env, options, index), columns(folder)[index]
        for name, values in there.items():
            np.testing.assert_array_equal(values, here[name])
    assert {int(episode["behaviour"][0]) for episode in columns(folder)} == {0, 1}

    before = columns(folder)
    (folder / "shard-00000.h5").unlink()
    assert main([*words, "collect.episodes=4", "collect.workers=1"]) == 0
    for one, other in zip(before, columns(folder), strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])
    capsys.readouterr()

    # By a later checkpoint they would be other data.
    moved = tmp_path / "walked"
    shutil.copytree(run, moved)
    (moved / "checkpoints" / "00000002").rename(moved / "checkpoints" / "00000009")
    assert main([*words[:-3], f"collect.run={moved}", *words[-2:], "collect.episodes=4"]) == 2
    assert "was collected with other options" in capsys.readouterr().err


def test_other_behaviours_say_nothing_of_it() -> None:
    """What was collected before there was a planner goes on."""
    said = about(EnvConfig(), CollectConfig(run="runs/x", goals="data/x", noise=0.7))["collect"]
    assert {"run", "goals", "nearest", "noise"} & set(said) == set()
    mixed = about(EnvConfig(), changed(OPTIONS, behaviour="uniform,planner"))["collect"]
    assert {"run", "goals", "nearest", "noise"} <= set(mixed)


# What can't be


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    capsys.readouterr()
    few = ("collect.episodes=1", "collect.workers=1", "collect.behaviour=planner")
    assert main(["collect", "smoke", f"data.path={folder}/new", *few, *words]) == 2
    error = capsys.readouterr().err.rpartition("\r")[2].strip()
    assert "\n" not in error
    assert not list((folder / "new").glob("*.h5"))
    return error.removeprefix("worldjepa: ")


def test_a_run_is_needed_and_one_data_set(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = "recipe smoke: collect.run: name the trained run that plans, as in collect.run=runs/smoke"
    assert refused(capsys, tmp_path) == needed
    nothing = f"{tmp_path}/nothing"
    missing = f"{nothing}: no run there; `worldjepa train` makes one"
    assert refused(capsys, tmp_path, f"collect.run={nothing}") == missing
    several = tmp_path / "several"
    shutil.copytree(run, several)
    text = (several / "config.yaml").read_text()
    path = load_config(str(several)).data.path
    (several / "config.yaml").write_text(text.replace(f"path: {path}", f"path: {path},data/other"))
    expected = f"collect.goals: {several} was trained on 2 data sets; name the one whose frames are goals, "
    assert refused(capsys, tmp_path, f"collect.run={several}") == expected + f"as in collect.goals={path}"


def test_what_the_model_does_not_take_is_refused(
    run: Path, tiny_data: Path, dots: Store, dot_env: gymnasium.Env
) -> None:
    checkpoint = run / "checkpoints" / "00000002"
    real = changed(OPTIONS, run=str(checkpoint), goals=str(tiny_data))
    rng = np.random.default_rng(0)
    keys = make_env(EnvConfig(id="moving_dot:DotKeys-v0", image_size=32))
    with pytest.raises(UserError, match="needs an environment whose actions are a bounded Box"):
        goal_seeker.seek(keys, rng, real)
    gauge = make_env(EnvConfig(id="own_envs:Gauge-v0", image_size=32))
    with pytest.raises(UserError, match=rf"{checkpoint}: takes no actions of 1 numbers"):
        goal_seeker.seek(gauge, rng, real)
    with pytest.raises(UserError, match="its states are of another environment"):
        collect_episode(dot_env, real, 0)
    small = make_env(EnvConfig(id="moving_dot:Dot-v0", image_size=16))
    with pytest.raises(UserError, match=r"encode: frames are torch.uint8 \(1, 16, 16, 3\)"):
        collect_episode(small, changed(real, goals=str(dots.path)), 0)
