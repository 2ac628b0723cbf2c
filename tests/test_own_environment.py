"""Environments of users and of Gymnasium, by their id, through collecting, training, probing and planning."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from worldjepa.cli import main
from worldjepa.data.shards import Store


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def result(name: str) -> dict[str, Any]:
    return json.loads(Path(f"runs/own/evaluation/{name}.json").read_text("utf-8"))


def given(verb: str, name: str, *options: str) -> int:
    return main([verb, "smoke", f"env.id={name}", "name=own", "collect.episodes=24", *options])


def test_one_with_goals_is_collected_trained_on_probed_and_planned_in(capsys: pytest.CaptureFixture[str]):
    """Its frames of 32 pixels are averaged to 16, those of its goals too."""
    name, size = "moving_dot:Dot-v0", "env.image_size=16"
    assert given("collect", name, size) == 0
    store = Store("data/own")
    assert store.image_shape == (16, 16, 3)
    assert store.has("state")
    assert given("train", name, size) == 0
    assert "no goals" not in capsys.readouterr().err
    assert main(["probe", "runs/own"]) == 0
    results = result("probe")
    assert list(results["probes"]["latent"]["coordinates"]) == ["sin 0", "sin 1", "cos 0", "cos 1"]
    assert "velocities" not in results["probes"]["latent"]
    assert main(["plan", "runs/own", "plan.goal_offset=8", "plan.budget=10"]) == 0
    plan = result("plan")
    assert {"random actions", "world model"} <= set(plan["rows"])
    assert "same solver, true dynamics" not in plan["rows"], "which needs simulate()"
    assert plan["rows"]["world model"]["goals"] == 4
    assert (Path("runs/own/evaluation") / "plan.gif").exists()


@pytest.mark.parametrize(
    ("name", "actions", "numbers", "lacks"),
    [
        ("Pendulum-v1", 1, 3, "PendulumEnv has no set_state()"),
        ("CartPole-v1", 2, 4, "CartPoleEnv has no set_state()"),
        ("own_envs:Keys-v0", 3, 1, "Keys has no set_state()"),
    ],
)
def test_one_without_goals_is_collected_trained_on_and_probed(
    capsys: pytest.CaptureFixture[str], name: str, actions: int, numbers: int, lacks: str
):
    assert given("collect", name, "collect.behaviour=uniform=2,repeat,coloured") == 0
    store = Store("data/own")
    assert store.image_shape == (32, 32, 3)
    assert store.action_dim == actions
    assert given("train", name) == 0
    assert f"no goals are tried while it trains: {lacks}" in capsys.readouterr().err
    assert main(["probe", "runs/own"]) == 0
    results = result("probe")
    column = "qpos" if store.has("qpos") else "observation"
    assert list(results["probes"]["latent"]["coordinates"]) == [f"{column} {i}" for i in range(numbers)]
    assert set(results["mean_r2"]) == {"coordinates", "changes"}
    assert np.isfinite(results["mean_r2"]["coordinates"])
    assert f"{column} 0 " in capsys.readouterr().out
    assert main(["plan", "runs/own"]) == 2
    assert lacks in capsys.readouterr().err


def test_data_without_states_are_trained_on_without_goals(capsys: pytest.CaptureFixture[str]):
    name = "moving_dot:Dot-v0"
    assert given("collect", name) == 0
    for shard in Path("data/own").iterdir():
        with h5py.File(shard, "r+") as file:
            del file["state"]
    assert given("train", name) == 0
    assert "no goals are tried while it trains: data/own has no column state" in capsys.readouterr().err


def test_goals_in_discrete_actions_are_refused(capsys: pytest.CaptureFixture[str]):
    name = "moving_dot:DotKeys-v0"
    assert given("collect", name) == 0
    assert Store("data/own").action_dim == 4
    assert given("train", name) == 0
    assert "DotKeys has actions Discrete(4); planning to goals needs a bounded Box" in capsys.readouterr().err
    assert main(["plan", "runs/own"]) == 2
    assert "DotKeys has actions Discrete(4)" in capsys.readouterr().err
