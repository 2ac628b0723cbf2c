"""The trainer: its schedule, its loop, and a stopped run that goes on as if nothing had happened."""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from moving_dot import dot_windows, write_dots
from torch import Tensor, nn

from worldjepa import trainer
from worldjepa.config import TrainConfig, load_config
from worldjepa.data.windows import Windows
from worldjepa.errors import UserError
from worldjepa.run import Run
from worldjepa.trainer import build_optimizer, choose_device, choose_precision, learning_rate, train
from worldjepa.world_model import WorldModel


class Slope(nn.Module):
    """loss = slope · weight, whose gradient is the slope; at the steps in `factors` it is so many times that."""

    def __init__(self, slope: Sequence[float] = (0.3, 0.4), factors: dict[int, float] | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, len(slope)))
        self.slope, self.factors = torch.tensor(slope), factors or {}
        self.calls: list[bool] = []

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls.append(self.training)
        return {"loss": (self.weight * self.slope).sum() * self.factors.get(len(self.calls), 1.0)}


class Nothing:
    """Endless batches of one black frame."""

    def batches(self, batch_size: int, seed: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        while True:
            yield {"pixels": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)}


def options(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"steps": 10, "log_every": 1, "device": "cpu", "precision": "fp32", **changes})


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run.create_or_open(load_config("smoke", [f"run={tmp_path}/run"]))
    yield run
    run.close()


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


# Schedule and optimizer


@pytest.mark.parametrize(("warmup", "total"), [(0.1, 200), (0.05, 40), (0.0, 7)])
def test_learning_rate_is_that_of_torch_schedulers(warmup: float, total: int) -> None:
    config = options(learning_rate=0.2, warmup=warmup)
    rising = max(1, round(warmup * total))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 1 / rising, total_iters=max(1, rising - 1)),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - rising),
        ],
        [rising],
    )
    for step in range(total):
        assert learning_rate(step, total, config) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        schedule.step()


def test_learning_rate_peaks_after_the_warm_up_and_ends_near_zero() -> None:
    config = options(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert all(b < a for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 1e-3


def test_weight_decay_is_for_matrices_and_kernels_alone() -> None:
    model = WorldModel(load_config("smoke"), action_dim=2)
    model.encoder.backbone.head.bias.requires_grad = False
    decayed, free = build_optimizer(model, options(weight_decay=0.03)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.03, 0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert not any("bias" in names[p] or p.ndim < 2 for p in decayed["params"])
    assert all(p.ndim < 2 for p in free["params"])
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert {*decayed["params"], *free["params"]} == set(trainable)
    assert len(decayed["params"]) + len(free["params"]) == len(trainable) == len(names) - 1


# The loop


def test_what_is_logged_is_what_happened(run: Run) -> None:
    model = Slope((3.0, 4.0))
    assert train(model, Nothing(), options(steps=7, log_every=3, learning_rate=0.01, weight_decay=0), run)
    rows = run.metrics()
    assert [row["step"] for row in rows] == [3, 6, 7]
    for row in rows:
        assert row["train/lr"] == learning_rate(int(row["step"]) - 1, 7, options(learning_rate=0.01))
        assert row["train/grad_norm"] == pytest.approx(5)
        assert row["perf/frames_per_second"] > 0
        assert 0 <= row["perf/data_share"] <= 1
    # Along a constant gradient Adam moves by the learning rate: the last loss tells of all steps before.
    moved = sum(learning_rate(step, 7, options(learning_rate=0.01)) for step in range(6))
    assert rows[-1]["train/loss"] == pytest.approx(7 * (1 - moved), rel=1e-4)


@pytest.mark.parametrize(("slope", "applied"), [((30.0, 40.0), 1.0), ((0.3, 0.4), 0.5)])
def test_the_gradient_is_clipped_and_its_own_norm_logged(run: Run, slope: tuple, applied: float) -> None:
    norms: list[float] = []
    model = Slope(slope)
    train(
        model, Nothing(), options(steps=3), run, [(1, lambda m, _: norms.append(float(m.weight.grad.norm())))]
    )
    assert norms == pytest.approx([applied] * 3, rel=1e-4)
    assert [row["train/grad_norm"] for row in run.metrics()] == pytest.approx(
        [float(torch.tensor(slope).norm())] * 3
    )


def test_callbacks_are_called_in_evaluation_mode_and_training_goes_on_in_training_mode(run: Run) -> None:
    called: list[tuple[str, int]] = []

    def callback(name: str):
        def function(model: nn.Module, step: int) -> None:
            assert not model.training
            assert not torch.is_grad_enabled()
            called.append((name, step))

        return function

    model = Slope()
    train(model, Nothing(), options(), run, [(3, callback("three")), (4, callback("four"))])
    assert called == [
        ("three", 3), ("four", 4), ("three", 6), ("four", 8), ("three", 9), ("three", 10), ("four", 10)
    ]  # fmt: skip
    assert model.calls == [True] * 10
    assert model.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(run: Run, bad: float) -> None:
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step 3; lower train\.learning_rate"):
        train(Slope(factors={3: bad}), Nothing(), options(), run)
    assert run.checkpoints() == []


def test_a_gradient_that_is_not_finite_ends_the_run_too(run: Run) -> None:
    model = Slope()
    model.weight.register_hook(lambda gradient: gradient * (float("nan") if len(model.calls) == 3 else 1))
    with pytest.raises(UserError, match="norm of the gradient is nan at step 3"):
        train(model, Nothing(), options(), run)


def test_no_checkpoint_holds_what_is_not_finite(run: Run) -> None:
    config = options(log_every=100, checkpoint_minutes=1e-9, keep_checkpoints=100)
    with pytest.raises(UserError, match="step 3"):
        train(Slope(factors={3: float("nan")}), Nothing(), config, run)
    assert [path.name for path in run.checkpoints()] == ["00000001", "00000002"]
    assert all(run.load_weights(path)["weight"].isfinite().all() for path in run.checkpoints())


# Devices


def test_device_and_precision_follow_the_options() -> None:
    cpu = torch.device("cpu")
    assert choose_device(options()) == cpu
    assert choose_precision(options(precision="bf16"), cpu) == torch.bfloat16
    assert choose_precision(options(precision="fp32"), cpu) == torch.float32
    assert choose_precision(options(precision="auto"), torch.device("mps")) == torch.float32


@pytest.mark.parametrize("device", ["cuda:7", "quantum"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(UserError, match=rf"train\.device={device}: not there"):
        choose_device(options(device=device))


# Budget in minutes


def test_minutes_become_steps_of_the_measured_length(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 101.5])  # 15 timed steps in 1.5 s: a tenth of a second each
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    model, random = Slope(), torch.get_rng_state()
    steps = trainer.steps_in(options(minutes=2.0), model, Nothing(), torch.device("cpu"), torch.float32)
    assert steps == 1200
    assert torch.equal(model.weight, torch.ones(1, 2)), "timing must not train the model"
    assert model.calls == []
    assert torch.equal(torch.get_rng_state(), random)


def test_a_resumed_run_keeps_the_steps_that_its_minutes_became(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = options(steps=0, minutes=1e-6)
    monkeypatch.setattr(trainer, "steps_in", lambda *_: 9)
    stop = [(4, lambda _, step: send(signal.SIGTERM) if step == 4 else None)]
    assert not train(Slope(), Nothing(), config, run, stop)
    assert run.load_trainer_state(run.checkpoints()[-1])["total"] == 9
    monkeypatch.setattr(trainer, "steps_in", lambda *_: pytest.fail("timed again"))
    resumed = Slope()
    assert train(resumed, Nothing(), config, run)
    assert len(resumed.calls) == 5
    assert [row["step"] for row in run.metrics()] == list(range(1, 10))


# Stopping and going on


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    return dot_windows(write_dots(tmp_path_factory.mktemp("dots")), frames=4, frameskip=5)


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
        ended = train(
            model, dots, options(steps=20, batch_size=16, log_every=3, precision=precision), run, callbacks
        )
        run.close()
    last = run.checkpoints()[-1]
    metrics = [{k: v for k, v in row.items() if not k.startswith("perf/")} for row in run.metrics()]
    return {"weights": run.load_weights(last), "state": run.load_trainer_state(last), "metrics": metrics}


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
    torch.testing.assert_close(stopped["weights"], straight["weights"], rtol=0, atol=0)
    for key in ("step", "total", "rng"):
        torch.testing.assert_close(stopped["state"][key], straight["state"][key], rtol=0, atol=0)
    ours, theirs = stopped["state"]["optimizer"], straight["state"]["optimizer"]
    torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
    assert ours["param_groups"] == theirs["param_groups"]
    assert stopped["metrics"] == straight["metrics"]
    assert [row["step"] for row in straight["metrics"]] == [3, 6, 9, 12, 15, 18, 20]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_under_way_and_leaves_a_checkpoint(
    run: Run, number: signal.Signals
) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    model = Slope()
    stop = [(1, lambda _, step: send(number) if step == 4 else None)]
    assert not train(model, Nothing(), options(), run, stop)
    assert len(model.calls) == 4
    assert [path.name for path in run.checkpoints()] == ["00000004"]
    assert {s: signal.getsignal(s) for s in before} == before


def test_a_signal_that_comes_late_in_a_step_leaves_a_checkpoint_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock() -> float:
        # The trainer looks at the clock last, to see whether a checkpoint is due.
        if len(model.calls) == 3:
            send(signal.SIGTERM)
        return time.monotonic()

    model = Slope()
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=clock, perf_counter=time.perf_counter))
    assert not train(model, Nothing(), options(), run)
    assert run.load_trainer_state(run.checkpoints()[-1])["step"] == len(model.calls) < 10


def test_a_signal_before_the_first_step_leaves_a_checkpoint_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar = trainer.tqdm
    monkeypatch.setattr(trainer, "tqdm", lambda **settings: send(signal.SIGTERM) or bar(**settings))
    model = Slope()
    assert not train(model, Nothing(), options(), run)
    assert run.load_trainer_state(run.checkpoints()[-1])["step"] == len(model.calls) < 10


def test_a_finished_run_has_nothing_left_to_do(run: Run) -> None:
    train(Slope(), Nothing(), options(), run)
    again = Slope()
    assert train(again, Nothing(), options(), run, [(1, lambda *_: pytest.fail("called"))])
    assert again.calls == []
    assert not torch.equal(again.weight, Slope().weight), "the model that comes back is the trained one"


def test_a_damaged_newest_checkpoint_is_named_and_without_it_the_run_goes_on(run: Run) -> None:
    config = options(checkpoint_minutes=1e-9, keep_checkpoints=3)
    train(Slope(), Nothing(), config, run)
    newest = run.checkpoints()[-1]
    (newest / "trainer.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"00000010: damaged .* remove it, the run goes on from an older one"):
        train(Slope(), Nothing(), config, run)
    shutil.rmtree(newest)
    model = Slope()
    assert train(model, Nothing(), config, run)
    assert len(model.calls) == 1


def test_another_model_is_refused(run: Run) -> None:
    train(Slope(), Nothing(), options(), run)
    with pytest.raises(UserError, match=r"00000010: of another model: .*weight"):
        train(Slope((1.0, 2.0, 3.0)), Nothing(), options(), run)
