"""worldjepa.data.episodes: who acted, what was seen, and what of it becomes columns."""

import dataclasses

import counting_env
import gymnasium
import numpy as np
import own_envs
import pytest

from worldjepa.config import CollectConfig, EnvConfig
from worldjepa.data.behaviours import choose
from worldjepa.data.environments import make_env
from worldjepa.data.episodes import collect_episode, common

THIRTY = CollectConfig(episode_length=30)
COUNTING = gymnasium.make("counting_env:Counting-v0")
GAUGE, KEYS = (make_env(EnvConfig(id=f"own_envs:{name}-v0", image_size=10)) for name in ("Gauge", "Keys"))


def episode(env: gymnasium.Env, index: int = 0, **changes) -> dict[str, np.ndarray]:
    return collect_episode(env, dataclasses.replace(THIRTY, **changes), index)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("env", [COUNTING, GAUGE, KEYS], ids=["counting", "gauge", "keys"])
@pytest.mark.parametrize("behaviour", ["uniform", "coloured", "repeat", "uniform,coloured,repeat"])
def test_an_episode_depends_on_seed_and_number_alone(env: gymnasium.Env, behaviour: str):
    there = [episode(env, number, behaviour=behaviour) for number in range(5)]
    back = [episode(env, number, behaviour=behaviour) for number in reversed(range(5))][::-1]
    assert all(map(same, there, back))
    assert not any(map(same, there, there[1:]))
    other = episode(env, 0, behaviour=behaviour, seed=1)
    assert (other["pixels"][0] != there[0]["pixels"][0]).any(), "another seed starts elsewhere"
    assert (other["action"][0] != there[0]["action"][0]).any() or env is KEYS


@pytest.mark.parametrize("behaviour", ["uniform", "coloured"])
def test_who_acts(behaviour: str):
    options = {"behaviour": behaviour, "noise_exponent": 2.0, "episode_length": 200}
    actions = np.concatenate([episode(COUNTING, number, **options)["action"] for number in range(40)])
    space = counting_env.Counting.action_space
    assert space.contains(actions.min(0))
    assert space.contains(actions.max(0))
    neighbours = np.corrcoef(actions[1:, 1], actions[:-1, 1])[0, 1]
    assert (neighbours > 0.8) == (behaviour == "coloured")


def test_row_t_holds_frame_t_and_the_action_that_leads_to_frame_t_plus_1():
    """An environment that hands out its own arrays, which it changes, is no hindrance."""
    columns = episode(GAUGE)
    level, action = columns["qpos"][:, 0], columns["action"][:, 0]
    np.testing.assert_allclose(level[1:], np.clip(level[:-1] + 0.05 * action[:-1], 0, 1))
    assert len(np.unique(level)) > 10
    np.testing.assert_array_equal(columns["observation"][:, 3], level)
    white = columns["pixels"].mean((1, 2, 3)) / 255
    np.testing.assert_allclose(white, np.ceil(20 * level) / 20, atol=0.01)


def test_numbers_and_vectors_of_the_info_become_columns_and_nothing_else():
    columns = episode(GAUGE)
    assert list(columns) == ["pixels", "action", "observation", "odd", "qpos", "steps"]
    assert {name: (rows.shape[1:], rows.dtype.kind) for name, rows in columns.items()} == {
        "pixels": ((10, 10, 3), "u"),
        "action": ((1,), "f"),
        "observation": ((4,), "f"),
        "odd": ((), "b"),
        "qpos": ((1,), "f"),
        "steps": ((), "i"),
    }
    np.testing.assert_array_equal(columns["steps"], np.arange(30))
    assert columns["action"].dtype == np.float32


def test_discrete_actions_are_stored_one_hot():
    columns = episode(KEYS)
    assert columns["action"].shape == (30, 3)
    moved = np.clip(columns["qpos"][:-1, 0] + 0.05 * (columns["action"][:-1] @ [-1, 0, 1]), 0, 1)
    np.testing.assert_allclose(columns["qpos"][1:, 0], moved)


def test_a_policy_sees_the_frame_and_the_info_and_its_draws_are_the_episodes_own(
    monkeypatch: pytest.MonkeyPatch,
):
    seen = []

    def policy(env: gymnasium.Env, rng: np.random.Generator):
        assert isinstance(env.unwrapped, own_envs.Gauge)

        def act(frame: np.ndarray, info: dict) -> np.ndarray:
            seen.append((frame.copy(), info["steps"]))
            return rng.uniform(-2, 3, 1)

        return act

    monkeypatch.setattr(own_envs, "as_said", policy)
    columns = episode(GAUGE, behaviour="own_envs:as_said")
    np.testing.assert_array_equal(columns["pixels"], [frame for frame, _ in seen])
    assert [step for _, step in seen] == list(range(30))
    assert same(columns, episode(GAUGE, behaviour="own_envs:as_said"))


def test_in_a_mixture_each_part_does_what_it_does_alone():
    parts = ["uniform", "coloured", "repeat", "own_envs:to_the_middle"]
    who = []
    for number in range(12):
        mixed = episode(GAUGE, number, behaviour=",".join(parts))
        assert mixed["behaviour"].dtype == np.uint8
        assert set(mixed["behaviour"]) == {choose(CollectConfig(behaviour=",".join(parts)), number)}
        who.append(mixed.pop("behaviour")[0])
        assert same(mixed, episode(GAUGE, number, behaviour=parts[who[-1]]))
    assert len(set(who)) == 4


def test_frames_are_counted_as_they_come():
    counted = []
    collect_episode(GAUGE, THIRTY, 0, lambda: counted.append(1))
    assert len(counted) == 30


def test_columns_that_not_all_episodes_have_in_one_shape_are_left_out():
    one = {
        "pixels": np.zeros((2, 4, 4, 3)),
        "action": np.zeros((2, 1)),
        "a": np.zeros(2),
        "b": np.zeros((2, 3)),
    }
    two = {
        "pixels": np.zeros((5, 4, 4, 3)),
        "action": np.zeros((5, 1)),
        "b": np.zeros((5, 2)),
        "c": np.zeros(5),
    }
    assert [list(columns) for columns in common([one, two])] == [["pixels", "action"]] * 2
    assert [list(columns) for columns in common([one, one])] == [list(one)] * 2
    assert common([two, one])[1]["action"] is one["action"]
