"""Surprise: what is drawn where, the t-test and the area by the book, planted effects found, others not."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moving_dot import SPEED, DotModel, DotWorld, dot_episode, dot_frames, write_dots, write_episodes
from scipy.stats import mannwhitneyu, t
from torch import Tensor

from worldjepa.config import Config, EnvConfig, VariationsConfig
from worldjepa.data.environments import make_env
from worldjepa.data.shards import Store
from worldjepa.data.windows import split_episodes
from worldjepa.errors import UserError
from worldjepa.evaluation.goals import without_counting
from worldjepa.evaluation.perturbations import draw, painter, still, teleports
from worldjepa.evaluation.stretches import Stretches, sample_stretches
from worldjepa.evaluation.surprise import compare, summarise, surprise
from worldjepa.evaluation.surprise_figures import surprise_figure, surprise_table
from worldjepa.recipes import load_config

NAMES = ["unperturbed", "teleport", "small teleport", "colour change"]
AT, FRAMES = 4, 9


# Episodes


def dots(*options: str) -> Config:
    return load_config("smoke", ["env.id=moving_dot:Dot-v0", "env.image_size=32", *options])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Thirty episodes of 40 frames, of which ten are held out."""
    return Store(write_dots(tmp_path_factory.mktemp("dots"), episodes=30))


@pytest.fixture(scope="module")
def stretches(store: Store) -> Stretches:
    return sample_stretches(dots(), store, make_env(dots().env), 10, FRAMES - 1, seed=0)


def test_stretches_are_of_held_out_episodes_one_of_each(store: Store, stretches: Stretches) -> None:
    _, held_out = split_episodes(30, 0.34, 0)
    whole = store.gather("state", held_out, np.arange(40)[None].repeat(10, 0))
    acted = store.gather("action", held_out, np.arange(40)[None].repeat(10, 0))
    assert stretches.new == 0
    assert np.array_equal(stretches.pool, whole.reshape(400, 2))
    assert np.array_equal(stretches.owner, np.repeat(np.arange(10), 40))
    firsts = []
    for i in range(10):
        (first,) = np.flatnonzero((whole[i] == stretches.states[i, 0]).all(1))
        firsts.append(int(first))
        assert np.array_equal(stretches.states[i], whole[i, first : first + FRAMES])
        assert np.array_equal(stretches.actions[i], acted[i, first : first + FRAMES - 1])
    assert len(set(firsts)) > 5


def test_where_too_few_are_held_out_new_ones_are_played(store: Store) -> None:
    config = dots("collect.episode_length=30")
    found = sample_stretches(config, store, make_env(config.env), 14, 20, seed=0)
    assert (len(found), found.new) == (14, 4)
    assert np.bincount(found.owner).tolist() == [40] * 10 + [30] * 4
    moved = (found.states[:, 1:] - found.states[:, :-1] - SPEED * found.actions + 0.5) % 1 - 0.5
    assert np.abs(moved).max() < 1e-6
    known = store.gather("state", np.arange(30), np.arange(1)[None].repeat(30, 0)).reshape(30, 2)
    assert not (found.pool[400:, None] == known).all(-1).any()


def test_the_data_say_how_new_episodes_are_played(tiny_data: Path) -> None:
    """The run's configuration may be of a longer, other collection."""
    config = load_config("smoke", ["collect.episode_length=200", "collect.behaviour=coloured"])
    env = make_env(config.env)
    found = sample_stretches(config, Store(tiny_data), env, 3, 30, seed=0)
    assert (found.new, np.bincount(found.owner).tolist()) == (1, [60, 60, 60])
    env.close()


def test_what_can_not_be_drawn_again_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"PendulumEnv has no set_state\(\)"):
        sample_stretches(dots(), store, make_env(EnvConfig("Pendulum-v1")), 2, 5, 0)
    env = make_env(dots().env)
    episode = dot_episode(np.zeros((20, 2), np.float32), np.zeros(2))
    (tmp_path / "a").mkdir()
    blind = Store(write_episodes(tmp_path / "a", [{k: v for k, v in episode.items() if k != "state"}] * 3))
    with pytest.raises(UserError, match="has no column state"):
        sample_stretches(dots(), blind, env, 2, 5, 0)
    with pytest.raises(UserError, match=r"stretch of 101 frames is longer .* lower surprise\.before"):
        sample_stretches(dots(), store, env, 2, 100, 0)
    other = Store(write_episodes(tmp_path / "b", [episode | {"state": np.zeros((20, 3))}] * 3))
    for count in (1, 3):  # of held-out episodes alone, and with new ones
        with pytest.raises(UserError, match="a state has 3 numbers, the environment's has 2"):
            sample_stretches(dots(), other, env, count, 5, 0)
    planned = dots("collect.behaviour=planner", "collect.run=somewhere")
    with pytest.raises(UserError, match=r"planner's to play.* surprise\.episodes=14 may be 10 at most"):
        sample_stretches(planned, store, env, 14, 5, 0)


# Perturbations


def torus(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance of positions (..., 2) as the environment's coordinates have it."""
    return np.linalg.norm(2 * np.sin(np.pi * (one - other)), axis=-1)


def test_bodies_go_where_others_were_far_or_as_far_as_a_step(stretches: Stretches) -> None:
    targets, jumps = teleports(DotWorld(), stretches, AT, 1, seed=0)
    before, usual = stretches.states[:, AT - 1], stretches.states[:, AT]
    for states in targets.values():
        rows = [np.flatnonzero((stretches.pool == state).all(1)) for state in states]
        assert all(stretches.owner[row].tolist() != [i] for i, row in enumerate(rows))
    step, small, far = (
        torus(states, before) for states in (usual, targets["small teleport"], targets["teleport"])
    )
    assert np.median(np.abs(small - step)) < 0.03 * np.median(step)
    assert torus(targets["small teleport"], usual).mean() > 0.5 * step.mean(), "in other directions"
    assert np.median(far) > 3 * np.median(step)
    assert jumps["small teleport"] == pytest.approx(1, abs=0.1)
    assert jumps["teleport"] > 3


def test_frames_differ_from_the_perturbed_one_on_and_actions_move_on(stretches: Stretches) -> None:
    env = without_counting(make_env(dots().env))
    targets, _ = teleports(env.unwrapped, stretches, 2, 2, seed=0)
    shown: list[int] = []

    def paint(states: np.ndarray, episode: int) -> np.ndarray:
        shown.append(episode)
        return still(env, states)

    frames = draw(env, stretches, targets, paint, 2, 2)
    assert list(frames) == NAMES
    assert shown == list(range(10))
    for i in range(10):
        plain = dot_frames(stretches.states[i, ::2])
        assert np.array_equal(frames["unperturbed"][i], plain)
        assert np.array_equal(frames["colour change"][i], plain)
        for name, states in targets.items():
            moved = SPEED * stretches.actions[i, 4:].astype(np.float64).cumsum(0)
            there = np.concatenate([states[i][None], states[i] + moved])[::2] % 1
            expected = np.concatenate([plain[:2], dot_frames(there)]).astype(int)
            assert np.abs(frames[name][i] - expected).max() <= 1


VARIED = VariationsConfig(camera="-4..4", colour="0.5..1.5")


@pytest.mark.parametrize("variations", [VariationsConfig(), VARIED])
def test_other_colours_change_colours_alone(variations: VariationsConfig) -> None:
    config = EnvConfig(image_size=32, variations=variations)
    env: Any = make_env(config).unwrapped
    state = env.reset(seed=1)[1]["state"]
    plain = still(env, state[None])
    paint = painter(config, env, "0.2..0.9", seed=0)
    first, again, other = (paint(state[None], episode) for episode in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # What is half as bright is in its old place.
    dark = painter(config, env, "0.5..0.5", seed=0)(state[None], 0)
    assert np.corrcoef(dark.ravel(), plain.ravel())[0, 1] > 0.8
    assert dark.mean() < 0.9 * plain.mean()
    if not variations.colour:
        assert np.array_equal(painter(config, env, "1..1", 0)(state[None], 0), plain)
    env.close()


def test_where_bodies_go_the_episodes_own_variation_stays() -> None:
    env: Any = make_env(EnvConfig(image_size=16, variations=VARIED)).unwrapped
    states = []
    for seed in range(3):
        told = [env.reset(seed=seed)[1]["state"]]
        told += [env.step(np.array([1.0, -1.0]))[4]["state"] for _ in range(6)]
        states.append(np.stack(told))
    each = np.stack(states)
    found = Stretches(each, np.zeros((3, 6, 2)), 0, each.reshape(21, -1), np.repeat(np.arange(3), 7))
    targets, _ = teleports(env, found, 3, 1, seed=0)
    count = len(env.variation_names)
    for states_there in targets.values():
        assert np.array_equal(states_there[:, -count:], each[:, 3, -count:])
        assert not (env.qpos_of(states_there) == env.qpos_of(each[:, 3])).all(1).any()
    env.close()


def test_frames_of_other_environments_are_tinted() -> None:
    env = without_counting(make_env(dots().env))
    states = np.array([[0.2, 0.3], [0.5, 0.5]])
    tinted = painter(dots().env, env, "0.5..0.9", seed=0)(states, 3)
    plain = dot_frames(states)
    lit = plain[..., 0] > 100
    factors = (tinted[lit] / plain[lit]).T
    assert np.ptp(factors, axis=1).max() < 0.02
    assert 0.48 < factors.min() < factors.max() < 0.92
    assert np.ptp(factors.mean(1)) > 0.02


# Numbers


@pytest.mark.parametrize("shift", [0.0, 0.3, 5.0])
def test_the_t_test_and_the_area_are_those_of_the_book(shift: float) -> None:
    rng = np.random.default_rng(0)
    plain = rng.gamma(2, size=60)
    perturbed = plain + shift + rng.normal(size=60)
    difference = perturbed - plain
    statistic = difference.mean() / (difference.std(ddof=1) / math.sqrt(60))
    wins = (perturbed[:, None] > plain).mean() + 0.5 * (perturbed[:, None] == plain).mean()
    found = compare(perturbed, plain)
    assert found["t"] == pytest.approx(statistic)
    assert found["p"] == pytest.approx(2 * t.sf(abs(statistic), 59), rel=1e-6)
    assert found["auc"] == pytest.approx(wins)
    assert found["auc"] == pytest.approx(mannwhitneyu(perturbed, plain).statistic / 3600)


def test_planted_numbers() -> None:
    found = compare(np.array([2.0, 4.0, 7.0]), np.array([1.0, 2.0, 4.0]))
    # Differences 1, 2 and 3: their mean over their standard error, 2 / (1 / √3). With 2 degrees of freedom
    # P(|T| > t) = 1 - t / √(2 + t²). Of nine pairs six are won, two tied.
    assert found["t"] == pytest.approx(2 * math.sqrt(3))
    assert found["p"] == pytest.approx(1 - math.sqrt(12 / 14))
    assert found["auc"] == pytest.approx(7 / 9)


def test_where_nothing_differs_nothing_is_found() -> None:
    same = np.array([1.0, 3.0, 2.0])
    assert compare(same, same.copy()) == {"t": 0.0, "p": 1.0, "auc": 0.5}


def test_surprise_is_the_error_of_the_next_latent_from_what_the_predictor_sees() -> None:
    class Recorder(DotModel):
        def rollout(self, z: Tensor, past: Tensor, actions: Tensor) -> Tensor:
            if actions.ndim == 3:
                seen.append((z.shape[1], past.shape[1], actions[0, :, 0].tolist()))
            return super().rollout(z, past, actions)

    seen: list[tuple[int, int, list[float]]] = []
    rng = np.random.default_rng(0)
    positions = rng.uniform(size=(11, 6, 2))
    frames = np.stack([dot_frames(each) for each in positions])
    actions = np.arange(5.0)[None, :, None] * np.ones((11, 1, 2))
    found = surprise(Recorder().eval(), frames, actions)
    assert found.shape == (11, 5)
    assert seen[:5] == [(1, 0, [0]), (2, 1, [1]), (3, 2, [2]), (3, 2, [3]), (3, 2, [4])]
    angles = 2 * np.pi * (positions[:, :-1] + SPEED * actions), 2 * np.pi * positions[:, 1:]
    expected, observed = (np.concatenate([np.cos(a), np.sin(a)], -1) for a in angles)
    assert found == pytest.approx(np.square(expected - observed).mean(-1), abs=0.01)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stretches, dict[str, np.ndarray]]:
    """Sixty episodes, unperturbed and perturbed at frame 4."""
    folder = tmp_path_factory.mktemp("many")
    config, many = dots("data.held_out=0.75"), Store(write_dots(folder, episodes=80))
    env = without_counting(make_env(config.env))
    found = sample_stretches(config, many, make_env(config.env), 60, FRAMES - 1, seed=0)
    targets, _ = teleports(env.unwrapped, found, AT, 1, seed=0)
    return found, draw(env, found, targets, painter(config.env, env, "0.5..1", 0), AT, 1)


def rows(drawn: tuple[Stretches, dict[str, np.ndarray]], model: DotModel) -> dict[str, Any]:
    stretches, frames = drawn
    surprises = {name: surprise(model.eval(), each, stretches.actions) for name, each in frames.items()}
    return summarise(surprises, AT, {"teleport": 5.0})


def test_who_knows_the_dynamics_finds_teleports_of_any_size(drawn: Any) -> None:
    found = rows(drawn, DotModel())["rows"]
    for name in ("teleport", "small teleport"):
        assert found[name]["p"] < 0.01
        assert found[name]["auc"] > 0.95
        assert found[name]["at"] > 20 * found[name]["before"]
        assert found[name]["after"] == pytest.approx(found["unperturbed"]["after"], abs=1e-3)
    # Its latent is where the dot is: no colour moves it.
    assert found["colour change"]["at"] < found["small teleport"]["at"] / 100


def test_who_believes_that_nothing_moves_finds_far_ones_alone(drawn: Any) -> None:
    """Which is what the small teleport is for: it is no larger a change than the usual ones."""
    found = rows(drawn, DotModel(moves=0.0))["rows"]
    assert found["teleport"]["auc"] > 0.95
    assert abs(found["small teleport"]["auc"] - 0.5) < 0.05


def test_rows_and_curves_are_medians_and_quartiles() -> None:
    plain = np.arange(20.0).reshape(5, 4)
    found = summarise(
        {"unperturbed": plain, "teleport": plain + np.arange(5)[:, None] ** 2}, 3, {"teleport": 2.5}
    )
    assert found["rows"]["unperturbed"] == {"before": 9, "at": 10, "after": 11}
    row = found["rows"]["teleport"]
    assert (row["before"], row["at"], row["after"], row["jump"]) == (13, 14, 15, 2.5)
    assert row["t"] == compare(plain[:, 2] + np.arange(5) ** 2, plain[:, 2])["t"]
    assert found["curves"]["unperturbed"]["low"] == [4, 5, 6, 7]
    assert found["curves"]["unperturbed"]["high"] == [12, 13, 14, 15]


# Table and figure


def result() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    surprises = {name: rng.uniform(0.1, 0.2, (12, 8)) for name in NAMES}
    surprises["teleport"][:, 3] = 1.5
    about = {"options": {"before": 4}, "episodes": 12, "new_episodes": 2, "frameskip": 5, "film_from": -2}
    film = np.full((4, 5, 32, 32, 3), 90, np.uint8)
    arrays = {"surprises": np.stack(list(surprises.values())), "film": film}
    return about | summarise(surprises, 4, {"teleport": 7.25}), arrays


def test_the_table_tells_every_number() -> None:
    results, _ = result()
    table = surprise_table(results)
    head, rule, *lines = table.splitlines()
    assert head == "| | before | at | after | jump | t | p | ROC AUC |"
    assert {line.count("|") for line in (rule, *lines[:4])} == {9}
    row = results["rows"]["teleport"]
    assert lines[1] == (
        f"| teleport | {row['before']:.3g} | 1.5 | {row['after']:.3g} | 7.2 × | {row['t']:.2f} | "
        f"{row['p']:.1g} | 1.000 |"
    )
    assert lines[0].startswith("| unperturbed | ")
    assert "12 held-out episodes, 2 of them played anew" in table


def test_the_figure_shows_every_condition(tmp_path: Path) -> None:
    results, arrays = result()
    path = tmp_path / "surprise.json"
    path.write_text(json.dumps(results))
    np.savez(path.with_suffix(".npz"), **arrays)
    found = surprise_figure(path)
    assert found == tmp_path / "surprise.png"
    assert found.stat().st_size > 20_000
    assert not list(tmp_path.glob(".*"))


def test_torch_is_left_as_it_was(drawn: Any) -> None:
    state = torch.get_rng_state()
    rows(drawn, DotModel())
    assert torch.equal(torch.get_rng_state(), state)
