"""The run folder: options, metrics, the model that comes back. Its checkpoints: test_checkpoints.py."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import worldjepa
from worldjepa.errors import UserError
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.world_model import WorldModel


def world_model(run: Run) -> WorldModel:
    """A model with no two numbers alike, statistics included."""
    model = WorldModel(run.config, action_dim=2)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return model.eval()


def save(run: Run, step: int, model: nn.Module) -> None:
    run.save_checkpoint(model, {"step": step}, keep=2)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


# Options


def test_options_come_back_as_they_were_written(tmp_path: Path) -> None:
    config = load_config(
        "smoke", [f"run={tmp_path}/run", "train.learning_rate=3e-4", "model.encoder.name=resnet10t"]
    )
    Run.create_or_open(config)
    assert Run(tmp_path / "run").config == config
    assert Run.create_or_open(config).config == config


def test_other_options_in_a_trained_run_are_refused_and_listed(empty_run: Run) -> None:
    save(empty_run, 1, nn.Linear(1, 1))
    changes = ["model.latent=8", "train.learning_rate=0.5", "plan.goals=3"]
    other = load_config("smoke", [f"run={empty_run.path}", *changes])
    with pytest.raises(UserError) as raised:
        Run.create_or_open(other)
    message = str(raised.value)
    assert str(empty_run.path) in message
    assert "model.latent: 16, now 8; train.learning_rate: 0.001, now 0.5" in message
    assert "plan.goals" not in message


@pytest.mark.parametrize(
    "change",
    [
        "name=other", "collect.episodes=9", "plan.horizon=2", "probe.ridge=3", "monitor.port=7000",
        "env.protocol=lewm", "data.path=elsewhere", "train.log_every=5", "train.evaluate_every=7",
        "train.evaluate_goals=0",
        "train.checkpoint_minutes=9", "train.keep_checkpoints=5", "train.device=cpu", "train.threads=1",
    ],
)  # fmt: skip
def test_free_options_may_change(empty_run: Run, change: str) -> None:
    again = Run.create_or_open(load_config("smoke", [f"run={empty_run.path}", change]))
    assert again.config == empty_run.config


@pytest.mark.parametrize(
    "change",
    [
        "train.steps=7",
        "train.seed=1",
        "train.precision=bf16",
        "data.frameskip=2",
        "env.image_size=48",
        "data.split_seed=1",
    ],
)
def test_options_that_make_the_weights_may_not(empty_run: Run, change: str) -> None:
    save(empty_run, 1, nn.Linear(1, 1))
    with pytest.raises(UserError, match=change.split("=")[0]):
        Run.create_or_open(load_config("smoke", [f"run={empty_run.path}", change]))


def test_a_run_in_which_nothing_was_trained_is_begun_anew(empty_run: Run) -> None:
    other = load_config("smoke", [f"run={empty_run.path}", "model.latent=8"])
    assert Run.create_or_open(other).config == other
    assert Run(empty_run.path).config == other


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no run there; `worldjepa train` makes one"):
        Run(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"not a run folder \(it has no config\.yaml\)"):
        Run(tmp_path)


def test_a_run_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"run=.*file/run: can't be written: Not a directory"):
        Run.create_or_open(load_config("smoke", [f"run={tmp_path}/file/run"]))


# Metrics


def test_metrics_go_to_the_file_and_to_tensorboard(empty_run: Run) -> None:
    empty_run.log(3, {"train/loss": 0.5})
    empty_run.log(6, {"train/loss": 0.25, "latent/rank": 7.0})
    empty_run.close()
    assert empty_run.metrics() == [
        {"step": 3, "train/loss": 0.5}, {"step": 6, "train/loss": 0.25, "latent/rank": 7.0}
    ]  # fmt: skip
    board = events(empty_run.path)
    assert [(e.step, e.value) for e in board.Scalars("train/loss")] == [(3, 0.5), (6, 0.25)]
    assert [(e.step, e.value) for e in board.Scalars("latent/rank")] == [(6, 7.0)]


def test_a_line_that_a_kill_cut_short_is_left_out(empty_run: Run) -> None:
    empty_run.log(1, {"train/loss": 2.0})
    whole = json.dumps({"step": 2, "train/loss": 1.0})
    for length in range(len(whole)):
        with (empty_run.path / "metrics.jsonl").open("a") as file:
            file.write(whole[:length])
        assert empty_run.metrics() == [{"step": 1, "train/loss": 2.0}]
        empty_run.forget_after(1)
        empty_run.close()
        assert (empty_run.path / "metrics.jsonl").read_text() == json.dumps(
            {"step": 1, "train/loss": 2.0}
        ) + "\n"


def test_what_was_logged_after_a_step_is_forgotten(empty_run: Run) -> None:
    for step in range(1, 6):
        empty_run.log(step, {"train/loss": float(step)})
    empty_run.forget_after(3)
    assert [row["step"] for row in empty_run.metrics()] == [1, 2, 3]
    empty_run.log(4, {"train/loss": 40.0})
    empty_run.close()
    assert [(e.step, e.value) for e in events(empty_run.path).Scalars("train/loss")] == [
        (1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)
    ]  # fmt: skip


def test_what_was_logged_before_the_training_reaches_the_disk(empty_run: Run) -> None:
    empty_run.writer.add_scalar("data/frames", 1.0, 0)
    empty_run.forget_after(0)
    assert events(empty_run.path).Tags()["scalars"] == ["data/frames"]


def test_results_are_read_back_where_they_are_about_the_same(empty_run: Run) -> None:
    assert empty_run.result("plan", {"checkpoint": 3}) is None
    path = empty_run.write_json("plan", {"checkpoint": 3, "success": 97.5})
    assert json.loads(path.read_text()) == empty_run.result("plan", {"checkpoint": 3})
    assert empty_run.result("plan", {"checkpoint": 4}) is None
    path.write_text('{"checkpoint": 3')
    assert empty_run.result("plan", {"checkpoint": 3}) is None


@pytest.mark.parametrize("word", ["env.render_quality=full", "data.held_out=0.5", "data.split_seed=1"])
def test_a_result_of_other_pictures_or_episodes_is_another(empty_run: Run, word: str) -> None:
    empty_run.save_checkpoint(WorldModel(empty_run.config, 2), {"step": 1}, 1)
    same, other = (load_config(str(empty_run.path), words) for words in ([], [word]))
    empty_run.write_json("plan", empty_run.about(same, same.plan))
    assert empty_run.result("plan", empty_run.about(same, same.plan)) is not None
    assert empty_run.result("plan", empty_run.about(other, other.plan)) is None


# The model


def test_load_gives_the_trained_model_back(empty_run: Run) -> None:
    trained = world_model(empty_run)
    save(empty_run, 4, trained)
    model = worldjepa.load(empty_run.path)
    assert not model.training
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8)
    actions = torch.randn(2, 6, 10)
    with torch.no_grad():
        z = model.encode(frames)
        assert torch.equal(z, trained.encode(frames))
        assert torch.equal(model.predict(z, actions[:, :3]), trained.predict(z, actions[:, :3]))
        imagined = model.rollout(z, actions[:, :2], actions[:, 2:])
        assert torch.equal(imagined, trained.rollout(z, actions[:, :2], actions[:, 2:]))
    assert imagined.shape == (2, 4, 16)


def test_the_newest_checkpoint_is_loaded(empty_run: Run) -> None:
    save(empty_run, 4, world_model(empty_run))
    newest = world_model(empty_run)
    save(empty_run, 10, newest)
    assert torch.equal(empty_run.load_model().projector[0].weight, newest.projector[0].weight)


def test_a_run_folder_that_was_moved_works(empty_run: Run, tmp_path: Path) -> None:
    trained = world_model(empty_run)
    save(empty_run, 4, trained)
    moved = tmp_path / "far" / "away"
    shutil.copytree(empty_run.path, moved)
    empty_run.close()
    shutil.rmtree(empty_run.path)
    assert Run(moved).config.run == str(moved)
    assert torch.equal(worldjepa.load(moved).projector[0].weight, trained.projector[0].weight)
    again = Run.create_or_open(load_config(str(moved)))
    assert again.path == moved
    assert [path.name for path in again.checkpoints()] == ["00000004"]


def test_a_run_without_a_checkpoint_is_refused(empty_run: Run) -> None:
    with pytest.raises(UserError, match=r"has no checkpoint yet; `worldjepa train .*run` makes one"):
        worldjepa.load(empty_run.path)


def test_a_run_of_another_kind_of_model_is_refused(empty_run: Run) -> None:
    save(empty_run, 4, nn.Linear(2, 3))
    with pytest.raises(UserError, match="00000004: holds no world model"):
        worldjepa.load(empty_run.path)
