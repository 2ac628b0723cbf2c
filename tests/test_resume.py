"""Stopping and going on: Ctrl-C, SIGTERM and SIGKILL cost the steps since the last checkpoint, and no bit."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from moving_dot import dot_windows, write_dots
from toy_model import Nothing, Slope, options, send

from worldjepa import cli, trainer
from worldjepa.data.windows import Windows
from worldjepa.errors import UserError
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.tensor_files import load_into
from worldjepa.trainer import train
from worldjepa.world_model import WorldModel


@pytest.fixture(scope="module")
def dots_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("dots"))


@pytest.fixture(scope="module")
def dots(dots_folder: Path) -> Windows:
    return dot_windows(dots_folder, frames=4, frameskip=5)


def what_is_left(run: Run) -> dict[str, Any]:
    """All that a run leaves but the time it took."""
    last = run.checkpoints()[-1]
    metrics = [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in run.metrics()]
    return {"weights": run.load_weights(last), "state": run.load_trainer_state(last), "metrics": metrics}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Bit for bit."""
    torch.testing.assert_close(one["weights"], other["weights"], rtol=0, atol=0)
    for key in ("step", "total", "best"):
        assert one["state"][key] == other["state"][key]
    ours, theirs = one["state"]["optimizer"], other["state"]["optimizer"]
    torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
    assert ours["param_groups"] == theirs["param_groups"]
    assert one["metrics"] == other["metrics"]


# In this process


def train_dots(
    folder: Path, dots: Windows, precision: str, stops: dict[int, signal.Signals]
) -> dict[str, Any]:
    """What 20 steps with dropout leave, stopped by signals after some steps, begun again by the same call."""
    config = load_config("smoke", [f"run={folder}", "model.predictor.dropout=0.3"])
    callbacks = [(1, lambda _, step: send(stops.pop(step)) if step in stops else None)]
    ended = False
    while not ended:
        run = Run.create_or_open(config)
        torch.manual_seed(len(stops))  # what comes before the trainer must not matter after a resume
        model = WorldModel(config, action_dim=2)
        if not run.checkpoints():
            torch.manual_seed(5)
            model = WorldModel(config, action_dim=2)
        stopped = train(
            model, dots, options(steps=20, batch_size=16, log_every=3, precision=precision), run, callbacks
        )
        ended = stopped is None
        run.close()
    return what_is_left(run)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "stops",
    [{10: signal.SIGTERM}, {10: signal.SIGINT}, {1: signal.SIGTERM, 7: signal.SIGINT, 19: signal.SIGTERM}],
)
def test_a_stopped_run_ends_as_an_undisturbed_one(
    tmp_path: Path, dots: Windows, precision: str, stops: dict[int, signal.Signals]
) -> None:
    straight = train_dots(tmp_path / "straight", dots, precision, {})
    stopped = train_dots(tmp_path / "stopped", dots, precision, dict(stops))
    assert_same(stopped, straight)
    assert [row["step"] for row in straight["metrics"]] == [3, 6, 9, 12, 15, 18, 20]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_under_way_and_leaves_a_checkpoint(
    empty_run: Run, number: signal.Signals
) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    model = Slope()
    stop = [(1, lambda _, step: send(number) if step == 4 else None)]
    assert train(model, Nothing(), options(), empty_run, stop)
    assert len(model.calls) == 4
    assert [path.name for path in empty_run.checkpoints()] == ["00000004"]
    assert {s: signal.getsignal(s) for s in before} == before


def test_a_signal_that_comes_late_in_a_step_leaves_a_checkpoint_too(
    empty_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock() -> float:
        # The trainer looks at the clock last, to see whether a checkpoint is due.
        if len(model.calls) == 3:
            send(signal.SIGTERM)
        return time.monotonic()

    model = Slope()
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=clock, perf_counter=time.perf_counter))
    assert train(model, Nothing(), options(), empty_run)
    assert empty_run.load_trainer_state(empty_run.checkpoints()[-1])["step"] == len(model.calls) < 10


def test_a_signal_before_the_first_step_leaves_a_checkpoint_too(
    empty_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = trainer.tqdm
    monkeypatch.setattr(trainer, "tqdm", lambda **settings: send(signal.SIGTERM) or bar(**settings))
    model = Slope()
    assert train(model, Nothing(), options(), empty_run)
    assert empty_run.load_trainer_state(empty_run.checkpoints()[-1])["step"] == len(model.calls) < 10


def test_what_was_logged_after_the_checkpoint_is_logged_once(empty_run: Run) -> None:
    train(
        Slope(),
        Nothing(),
        options(),
        empty_run,
        [(1, lambda _, step: send(signal.SIGTERM) if step == 3 else None)],
    )

    def fail(_: Any, step: int) -> None:
        if step == 6:
            raise RuntimeError("a power cut")

    with pytest.raises(RuntimeError, match="a power cut"):
        train(Slope(), Nothing(), options(), empty_run, [(1, fail)])
    assert [row["step"] for row in empty_run.metrics()] == [1, 2, 3, 4, 5, 6]
    assert not train(Slope(), Nothing(), options(), empty_run)
    assert [row["step"] for row in empty_run.metrics()] == list(range(1, 11))


def test_a_finished_run_has_nothing_left_to_do(empty_run: Run) -> None:
    train(Slope(), Nothing(), options(), empty_run)
    again = Slope()
    assert not train(again, Nothing(), options(), empty_run, [(1, lambda *_: pytest.fail("called"))])
    assert again.calls == []
    assert not torch.equal(again.weight, Slope().weight), "the model that comes back is the trained one"


def test_a_damaged_newest_checkpoint_is_passed_over(
    empty_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    config = options(checkpoint_minutes=1e-9, keep_checkpoints=3)
    train(Slope(), Nothing(), config, empty_run)
    newest = empty_run.checkpoints()[-1]
    (newest / "trainer.pt").write_bytes(b"PK")
    model = Slope()
    assert not train(model, Nothing(), config, empty_run)
    assert len(model.calls) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train: passed over")]
    assert len(said) == 1
    assert "00000010: damaged" in said[0]
    assert empty_run.load_trainer_state(newest)["step"] == 10, "it is written anew"


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_again(empty_run: Run) -> None:
    config = options(checkpoint_minutes=1e-9, keep_checkpoints=2)
    train(Slope(), Nothing(), config, empty_run)
    for checkpoint in empty_run.checkpoints():
        (checkpoint / "trainer.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"00000009: damaged .*; remove it"):
        train(Slope(), Nothing(), config, empty_run)


def test_another_model_is_refused(empty_run: Run) -> None:
    train(Slope(), Nothing(), options(), empty_run)
    with pytest.raises(UserError, match=r"00000010: of another model: .*weight"):
        train(Slope((1.0, 2.0, 3.0)), Nothing(), options(), empty_run)


# The command, in a process of its own


def train_command(folder: Path, data: Path, steps: int) -> list[str]:
    """Words of a `worldjepa train` that logs every step and saves as good as every step."""
    words = "train.evaluate_goals=0 train.threads=1 train.log_every=1 train.evaluate_every=25"
    saving = "train.checkpoint_minutes=0.0005"
    return [
        "train",
        "smoke",
        f"run={folder}",
        f"data.path={data}",
        f"train.steps={steps}",
        saving,
        *words.split(),
    ]


def start(words: list[str]) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen([sys.executable, "-m", "worldjepa", *words], **pipes)


def wait_for(process: subprocess.Popen[str], folder: Path, step: int, seconds: float = 120.0) -> None:
    """Until metrics.jsonl tells of that step, or the time is over."""
    path, deadline = folder / "metrics.jsonl", time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        if whole and json.loads(whole[-1])["step"] >= step:
            break
        time.sleep(0.005)


def steps_saved(folder: Path) -> int:
    """Step of the newest checkpoint; everything under checkpoints/ must load."""
    if not (folder / "config.yaml").exists():
        return 0
    run, step = Run(folder), 0
    for checkpoint in run.checkpoints():
        step = run.load_trainer_state(checkpoint)["step"]
        assert step == int(checkpoint.name)
        load_into(WorldModel(run.config, action_dim=2), run.load_weights(checkpoint), checkpoint)
    return step


def run_through_kills(folder: Path, data: Path, steps: int, patience: Sequence[float]) -> None:
    """Train under one SIGKILL for each number: in or after one of the next steps, or else so many seconds on.
    None costs what was saved, and the end is that of an undisturbed run."""
    rng, saved = np.random.default_rng(0), 0
    words = train_command(folder / "killed", data, steps)
    for seconds in patience:
        with start(words) as process:
            wait_for(process, folder / "killed", saved + int(rng.integers(1, 8)), seconds)
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        before, saved = saved, steps_saved(folder / "killed")
        assert saved >= before
    assert 0 < saved < steps, "the kills must fall into the training"
    assert cli.main(words) == 0
    assert cli.main(train_command(folder / "straight", data, steps)) == 0
    assert_same(what_is_left(Run(folder / "killed")), what_is_left(Run(folder / "straight")))
    assert not list((folder / "killed" / "checkpoints").glob(".*")), "what kills left half-written is gone"


def test_sigkill_costs_no_bit(tmp_path: Path, dots_folder: Path) -> None:
    run_through_kills(tmp_path, dots_folder, steps=100, patience=[120.0] * 3)


@pytest.mark.slow
def test_sigkill_at_twenty_moments_costs_no_bit(tmp_path: Path, dots_folder: Path) -> None:
    # Every second kill comes while the process still starts, imports, loads or has just begun.
    patience = np.column_stack([np.full(10, 120.0), np.linspace(0.3, 6, 10)]).ravel()
    run_through_kills(tmp_path, dots_folder, steps=500, patience=patience)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_with_a_message_and_goes_on(
    tmp_path: Path, dots_folder: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    words = train_command(folder, dots_folder, steps=100_000)
    with start(words) as process:
        wait_for(process, folder, 3)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    step = steps_saved(folder)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1] == f"{folder}: stopped at step {step}; the same command goes on from there"
    assert Run(folder).metrics()[-1]["step"] == step >= 3
