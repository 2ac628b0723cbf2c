"""What is watched while a model trains: the promised scalars, with the values that they should have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from moving_dot import DotModel, DotWorld, dot_windows, write_dots
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from toy_model import options

from worldjepa.config import Config
from worldjepa.data.shards import Store
from worldjepa.errors import UserError
from worldjepa.evaluation.geometry import rank_me, straightness
from worldjepa.evaluation.watch import callbacks, watch_goals, watch_latents
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import train
from worldjepa.world_model import WorldModel

CONTEXT, HORIZON = 3, 4
SCALARS = {
    "step",
    "latent/rank",
    "train/sigreg_floor",
    "latent/std_min",
    "latent/std_mean",
    "latent/straightness",
} | {f"eval/rollout_{kind}_{h}" for kind in ("error", "gain") for h in range(1, HORIZON + 1)}
GOOD_PLANS = [
    "plan.num_samples=64",
    "plan.num_elites=8",
    "plan.iterations=4",
    "plan.horizon=4",
    "data.frameskip=2",
]


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("dots"))


@pytest.fixture
def batch(dots: Path) -> dict[str, Tensor]:
    return dot_windows(dots, CONTEXT + HORIZON, 2).batch(np.arange(0, 150, 5))


def config(run: Run, *overrides: str) -> Config:
    return load_config("smoke", [f"run={run.path}", *GOOD_PLANS, *overrides])


@torch.no_grad()
def test_a_perfect_imagination_gains_everything(empty_run: Run, batch: dict[str, Tensor]) -> None:
    watch_latents(empty_run, batch, CONTEXT)(DotModel(), 7)
    (row,) = empty_run.metrics()
    assert row["step"] == 7
    assert row.keys() == SCALARS
    for horizon in range(1, HORIZON + 1):
        # The angles are read from 8 bit pixels.
        assert row[f"eval/rollout_error_{horizon}"] < 1e-3
        assert row[f"eval/rollout_gain_{horizon}"] > 0.99


@torch.no_grad()
def test_to_believe_that_nothing_moves_gains_nothing(empty_run: Run, batch: dict[str, Tensor]) -> None:
    watch_latents(empty_run, batch, CONTEXT)(DotModel(moves=0.0), 7)
    (row,) = empty_run.metrics()
    z = DotModel().encode(batch["pixels"])
    for horizon in range(1, HORIZON + 1):
        still = ((z[:, CONTEXT - 1 + horizon] - z[:, CONTEXT - 1]) ** 2).mean()
        assert row[f"eval/rollout_error_{horizon}"] == pytest.approx(float(still), rel=1e-4)
        assert row[f"eval/rollout_gain_{horizon}"] == pytest.approx(0, abs=1e-4)


@torch.no_grad()
def test_rank_and_spread_are_those_of_all_latents(empty_run: Run, batch: dict[str, Tensor]) -> None:
    watch_latents(empty_run, batch, CONTEXT)(DotModel(), 7)
    (row,) = empty_run.metrics()
    z = DotModel().encode(batch["pixels"]).reshape(-1, 4)
    assert row["latent/rank"] == pytest.approx(rank_me(z))
    assert row["latent/std_min"] == pytest.approx(float(z.std(0).min()))
    assert row["latent/std_mean"] == pytest.approx(float(z.std(0).mean()))
    assert row["latent/rank"] > 3.5
    assert row["latent/straightness"] == pytest.approx(straightness(DotModel().encode(batch["pixels"])))
    # 2 ∫_0^3 exp(-t²/2) (1 - exp(-t²)) dt, by 17 knots.
    assert row["train/sigreg_floor"] == pytest.approx(1.0525, abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("knows", [True, False])
def test_goals_are_reached_by_a_model_that_knows(empty_run: Run, dots: Path, knows: bool) -> None:
    options = config(empty_run, "train.evaluate_goals=6", "plan.goal_offset=8", "plan.budget=20")
    watch_goals(empty_run, options, DotWorld(), Store(dots), np.arange(6))(DotModel(float(knows)), 3)
    empty_run.close()
    (row,) = empty_run.metrics()
    assert row.keys() == {"step", "eval/success", "eval/median_final_error"}
    assert row["eval/success"] == 100 if knows else row["eval/success"] < 50
    assert (row["eval/median_final_error"] < 1) == knows
    (image,) = EventAccumulator(str(empty_run.path)).Reload().Images("eval/start_goal_end")
    assert (image.step, image.height, image.width) == (3, 6 * 34, 3 * 34)


def test_what_is_watched_follows_the_options_and_the_data(empty_run: Run, dots: Path) -> None:
    def names(*overrides: str, env: DotWorld | None = None) -> list[str]:
        watched = callbacks(empty_run, config(empty_run, *overrides), env, Store(dots), np.arange(6))
        assert all(every == 3 for every, _ in watched)
        return [function.__qualname__.split(".")[0] for _, function in watched]

    assert names(env=DotWorld()) == ["watch_latents", "watch_goals", "watch_verdict"]
    assert names() == ["watch_latents", "watch_verdict"]
    assert names("train.evaluate_goals=0", env=DotWorld()) == ["watch_latents", "watch_verdict"]
    # 3 + 4 frames, 7 apart, span 43 of 40 frames.
    assert names("data.frameskip=7", env=DotWorld()) == ["watch_goals", "watch_verdict"]


def test_too_many_goals_are_refused_by_the_name_of_their_option(empty_run: Run, dots: Path) -> None:
    many = config(empty_run, "train.evaluate_goals=500")
    with pytest.raises(UserError, match=r"train\.evaluate_goals=500; .* lower train\.evaluate_goals"):
        watch_goals(empty_run, many, DotWorld(), Store(dots), np.arange(6))


def test_a_training_is_watched(empty_run: Run, dots: Path) -> None:
    settings = config(empty_run, "train.evaluate_goals=2", "plan.goal_offset=8")
    model, windows = WorldModel(settings, action_dim=2), dot_windows(dots, CONTEXT + 1, 2)
    watched = callbacks(empty_run, settings, DotWorld(), Store(dots), np.arange(6))
    assert not train(model, windows, options(steps=5, batch_size=16, log_every=2), empty_run, watched)
    empty_run.close()
    logged = {name: [] for row in empty_run.metrics() for name in row}
    for row in empty_run.metrics():
        for name in row:
            logged[name].append(row["step"])
    assert logged["train/loss"] == logged["train/sigreg"] == logged["train/prediction"] == [2, 4, 5]
    assert logged["latent/rank"] == logged["eval/rollout_error_4"] == logged["eval/success"] == [3, 5]
    board = EventAccumulator(str(empty_run.path)).Reload()
    assert set(board.Tags()["scalars"]) == logged.keys() - {"step"}
    assert {tag: [e.step for e in board.Images(tag)] for tag in board.Tags()["images"]} == {
        "data/frames": [0], "eval/start_goal_end": [3, 5]
    }  # fmt: skip
