"""worldjepa.envs.variations: drawn from the episode's seed, part of the state, recorded."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from worldjepa.envs.pixel_env import PixelEnv
from worldjepa.envs.tasks import TASKS
from worldjepa.envs.variations import KINDS

from worldjepa.cli import main
from worldjepa.config import CollectConfig, EnvConfig, VariationsConfig
from worldjepa.data.collect import collect
from worldjepa.data.environments import as_described, described, make_env
from worldjepa.data.rewrite import common_columns
from worldjepa.data.shards import Store
from worldjepa.errors import UserError
from worldjepa.evaluation.goals import play, require_goals, sample_goals
from worldjepa.recipes import load_config

RANGES = {
    "colour": (0.4, 1.5),
    "light": (0.6, 1.2),
    "camera": (-5, 5),
    "mass": (0.5, 2),
    "friction": (0.5, 2),
}
WRITTEN = {
    "colour": "0.4..1.5",
    "light": "0.6..1.2",
    "camera": "-5..5",
    "mass": "0.5..2",
    "friction": "0.5..2",
}
VARIED = EnvConfig(image_size=16, variations=VariationsConfig(**WRITTEN))
SMALL = CollectConfig(episodes=5, episode_length=30, shard_episodes=2, workers=1)


def make(name: str, **ranges: tuple[float, float]) -> PixelEnv:
    return gymnasium.make(f"worldjepa.envs:worldjepa/{name}-v0", image_size=32, variations=ranges).unwrapped


def constants(env: PixelEnv) -> dict[str, np.ndarray]:
    """Every array of the model, and the numbers that stand apart."""
    model = env._model
    found = {n: getattr(model, n) for n in dir(model) if n[0] != "_"}
    found |= {f"stat.{n}": getattr(model.stat, n) for n in dir(model.stat) if n[0] != "_"}
    found |= {f"light.{n}": getattr(model.vis.headlight, n) for n in dir(model.vis.headlight) if n[0] != "_"}
    return {n: np.copy(v) for n, v in found.items() if isinstance(v, np.ndarray | float | int)}


@pytest.fixture(scope="module", params=["Reacher", "Finger", "Walker"])
def env(request) -> Iterator[PixelEnv]:
    made = make(request.param, **RANGES)
    yield made
    made.close()


def episode(env: PixelEnv, seed: int, steps: int = 15) -> tuple[list[np.ndarray], list[dict]]:
    rng = np.random.default_rng(seed)
    told = [env.reset(seed=seed)]
    for _ in range(steps):
        frame, *_, info = env.step(rng.uniform(env.action_space.low, env.action_space.high))
        told.append((frame, info))
    return [frame for frame, _ in told], [info for _, info in told]


def test_an_episode_depends_on_its_seed_alone(env: PixelEnv):
    frames, infos = episode(env, 3)
    other = episode(env, 4)
    again = episode(env, 3)
    np.testing.assert_array_equal(again[0], frames)
    np.testing.assert_array_equal([i["state"] for i in again[1]], [i["state"] for i in infos])
    assert (infos[0]["variation"] != other[1][0]["variation"]).mean() > 0.99
    assert all((info["variation"] == infos[0]["variation"]).all() for info in infos)
    assert infos[0]["variation"].shape == (len(env.variation_names),)


def test_values_lie_in_their_ranges_and_fill_them(env: PixelEnv):
    drawn = np.stack([env.reset(seed=seed)[1]["variation"] for seed in range(60)])
    kinds = env._variations._slices
    assert set(kinds) == set(RANGES) == set(KINDS)
    for kind, (low, high) in RANGES.items():
        values = drawn[:, kinds[kind]]
        assert low <= values.min() < values.max() <= high
        assert np.ptp(values, 0).min() > 0.8 * (high - low)


@pytest.mark.parametrize("name", TASKS)
def test_off_is_as_if_there_were_none_and_on_and_off_again_too(name: str):
    """Every constant of the model to the bit; the same pictures and moves."""
    plain, varied = make(name), make(name, **RANGES)
    frames, infos = episode(plain, 1, 3)
    before = constants(plain)
    varied.reset(seed=5)
    varied.set_state(np.concatenate([infos[0]["state"], varied._variations.nominal]))
    for index, action in enumerate(np.random.default_rng(1).uniform(
        plain.action_space.low, plain.action_space.high, (3, *plain.action_space.shape)
    )):  # fmt: skip
        np.testing.assert_array_equal(varied.render(), frames[index])
        _, *_, info = varied.step(action)
        np.testing.assert_array_equal(info["qpos"], infos[index + 1]["qpos"])
    # The suite places its own target at each reset.
    placed = ("geom_pos", "geom_size", "geom_rbound", "geom_aabb", "bvh_aabb", "light_pos", "light_pos0")
    for field, values in constants(varied).items():
        if field not in placed:
            np.testing.assert_array_equal(values, before[field], field)
    assert "variation" not in infos[0]
    assert plain.variation_names == ()
    plain.close()
    varied.close()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_what_it_says_and_nothing_else(kind: str):
    plain, varied = make("Finger"), make("Finger", **{kind: RANGES[kind]})
    (frames, infos), (other_frames, other_infos) = (episode(env, 2) for env in (plain, varied))
    np.testing.assert_array_equal(infos[0]["qpos"], other_infos[0]["qpos"], "where it starts")
    moves_alike = all((a["qpos"] == b["qpos"]).all() for a, b in zip(infos, other_infos, strict=True))
    looks_alike = (frames[0] == other_frames[0]).all()
    assert moves_alike is (kind not in ("mass", "friction"))
    assert looks_alike == (kind in ("mass", "friction"))
    both = make("Finger", **{kind: RANGES[kind], "light": RANGES["light"]})
    part = both._variations._slices[kind]
    np.testing.assert_array_equal(
        both.reset(seed=2)[1]["variation"][part], other_infos[0]["variation"][part], "whatever else varies"
    )
    for env in (plain, varied, both):
        env.close()


def test_a_state_carries_its_variation(env: PixelEnv):
    """Set back after another episode, it goes on to the same frames and bits."""
    frames, infos = episode(env, 7)
    actions = np.random.default_rng(7).uniform(
        env.action_space.low, env.action_space.high, (15, *env.action_space.shape)
    )
    env.reset(seed=8)
    env.set_state(infos[5]["state"])
    np.testing.assert_array_equal(env.render(), frames[5])
    for step in range(5, 15):
        frame, *_, info = env.step(actions[step])
        np.testing.assert_array_equal(frame, frames[step + 1])
        np.testing.assert_array_equal(info["state"], infos[step + 1]["state"])


def test_simulate_is_stepping_to_the_bit_in_every_variation(env: PixelEnv):
    starts = np.stack([episode(env, seed)[1][9]["state"] for seed in (1, 2, 1)])
    low, high = env.action_space.low, env.action_space.high
    plans = np.random.default_rng(0).uniform(low, high, (3, 12, len(low)))
    stepped = []
    for start, plan in zip(starts, plans, strict=True):
        env.set_state(start)
        stepped.append([env.step(action)[-1]["qpos"] for action in plan])
    before = env.get_state()
    np.testing.assert_array_equal(env.simulate(starts, plans, 2), stepped)
    np.testing.assert_array_equal(env.get_state(), before)


def test_a_heavier_body_is_accelerated_less():
    """Cartpole's cart and pole, at twice the mass and no friction: half the acceleration."""
    env = make("Cartpole", mass=(2, 2), friction=(1e-9, 1e-9))
    light = make("Cartpole", mass=(1, 1), friction=(1e-9, 1e-9))
    speeds = []
    for each in (env, light):
        state = each.reset(seed=0)[1]["state"]
        # The pole hangs, everything rests.
        state[1:5] = 0, np.pi, 0, 0
        each.set_state(state)
        speeds.append(each.step(np.ones(1))[-1]["qvel"][0])
        each.close()
    assert speeds[0] == pytest.approx(speeds[1] / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("ranges", "words"),
    [({"size": (1, 2)}, "'size'.*colour"), ({"mass": (0, 1)}, "no range"), ({"light": (2, 1)}, "no range")],
)
def test_wrong_ranges_are_refused(ranges: dict, words: str):
    with pytest.raises(ValueError, match=words):
        make("Reacher", **ranges)


# In data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varied") / "data"
    collect(folder, VARIED, SMALL)
    return folder


def rows(store: Store, column: str) -> list[np.ndarray]:
    return [store.gather(column, np.array([e]), np.arange(n)[None])[0] for e, n in enumerate(store.lengths)]


def test_shards_record_each_episodes_variation(data: Path):
    store, env = Store(data), make_env(VARIED).unwrapped
    assert store.about["env"]["variations"] == WRITTEN
    assert as_described(store.about["env"]) == VARIED
    for frames, states, varied in zip(
        *(rows(store, c) for c in ("pixels", "state", "variation")), strict=True
    ):
        assert (varied == varied[0]).all()
        env.set_state(states[11])
        np.testing.assert_array_equal(env._variations.values, varied[0])
        np.testing.assert_array_equal(env.render(), frames[11])
    assert len({each[0].tobytes() for each in rows(store, "variation")}) == 5
    env.close()


def test_parts_and_resumed_collections_have_the_same_bytes(data: Path, tmp_path: Path):
    for part in ("2/2", "1/2"):
        collect(tmp_path, VARIED, dataclasses.replace(SMALL, shard=part))
    (tmp_path / "shard-00001.h5").unlink()
    collect(tmp_path, VARIED, dataclasses.replace(SMALL, workers=2))
    for path in data.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_nothing_is_said_of_variations_that_are_off(tmp_path: Path):
    assert "variations" not in described(EnvConfig())
    collect(tmp_path, EnvConfig(image_size=16), dataclasses.replace(SMALL, episodes=1))
    assert not Store(tmp_path).has("variation")


def test_merge_split_and_convert_carry_them(data: Path, tmp_path: Path):
    assert main(["data", "merge", str(data), f"store.to={tmp_path}/a.h5"]) == 0
    assert main(["data", "convert", f"{tmp_path}/a.h5", f"store.to={tmp_path}/b.h5"]) == 0
    assert main(["data", "split", f"{tmp_path}/b.h5", f"store.to={tmp_path}/c"]) == 0
    for path in (tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c"):
        for found, wanted in zip(rows(Store(path), "variation"), rows(Store(data), "variation"), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_data_with_and_without_are_not_merged(data: Path, tiny_data: Path, tmp_path: Path):
    collect(tmp_path, EnvConfig(image_size=16), dataclasses.replace(SMALL, episodes=1))
    with pytest.raises(UserError, match="state is "):
        common_columns([Store(data), Store(tmp_path)])


def test_goals_are_played_and_shown_in_their_episodes_variation(data: Path):
    store, env = Store(data), require_goals(make_env(VARIED))
    goals = sample_goals(store, np.arange(5), env, 6, 10, 0)

    class Recorded:
        """The data's own actions: they reach every goal, in the right masses and friction alone."""

        def reset(self, frames, states=None):
            for goal, frame, number, step in zip(goals.goal, frames, goals.episode, goals.step, strict=True):
                recorded = store.gather("pixels", np.array([number]), np.array([[step, step + 10]]))[0]
                np.testing.assert_array_equal(frame, recorded[1])
                env.set_state(goal)
                np.testing.assert_array_equal(env.render(), recorded[1])

        def act(self, frames, states=None):
            return store.gather("action", goals.episode, goals.step[:, None] + np.arange(10))

        def keep(self, mask):
            assert mask.sum() == 0, "every goal is reached"

    assert play(env, goals, Recorded(), 10).success.all()
    env.close()


def test_training_and_planning_with_other_variations_is_one_line(data: Path, tmp_path: Path, capsys):
    small = [f"run={tmp_path}/run", f"data.path={data}", "env.image_size=16", "collect.episode_length=30"]
    small += ["data.context=2", "plan.goal_offset=10"]
    assert main(["train", "smoke", *small]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "was collected with env.variations.camera=-5..5 env.variations.colour=0.4..1.5" in said
    assert said.endswith("here with no env.variations; give the same")
    same = [f"env.variations.{kind}={text}" for kind, text in WRITTEN.items()]
    assert main(["train", "smoke", *small, *same]) == 0
    assert main(["plan", f"{tmp_path}/run"]) == 0


def test_another_environment_has_none():
    with pytest.raises(UserError, match=r"env\.variations\.light: env\.id=.* is not of worldjepa\.envs"):
        make_env(EnvConfig(id="counting_env:Counting-v0", variations=VariationsConfig(light="0.5..1")))


@pytest.mark.parametrize("text", ["1", "2..1", "0..1", "a..b", "-1..2", "1..inf", "nan..1", "1...2"])
def test_what_is_no_range_is_refused(text: str):
    with pytest.raises(UserError, match=r"env\.variations\.mass=.*: must be a range low\.\.high of factors"):
        load_config("smoke", [f"env.variations.mass={text}"])
