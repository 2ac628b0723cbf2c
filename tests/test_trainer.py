"""The trainer: its schedule, its optimizer, its loop, its budget. Stopping and going on: test_resume.py."""

import signal
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from toy_model import Nothing, Slope, options, send

from worldjepa import trainer
from worldjepa.data.images import from_arrays
from worldjepa.device import choose_device, choose_precision
from worldjepa.errors import UserError
from worldjepa.optimizer import build_optimizer, learning_rate
from worldjepa.recipes import load_config
from worldjepa.run import Run
from worldjepa.trainer import train
from worldjepa.world_model import WorldModel

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
    model.projector[-1].bias.requires_grad = False
    decayed, free = build_optimizer(model, options(weight_decay=0.03)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.03, 0)
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert not any("bias" in names[p] or p.ndim < 2 for p in decayed["params"])
    assert all(p.ndim < 2 for p in free["params"])
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert {*decayed["params"], *free["params"]} == set(trainable)
    assert len(decayed["params"]) + len(free["params"]) == len(trainable) == len(names) - 1


# The loop


def test_what_is_logged_is_what_happened(empty_run: Run) -> None:
    model = Slope((3.0, 4.0))
    assert not train(
        model, Nothing(), options(steps=7, log_every=3, learning_rate=0.01, weight_decay=0), empty_run
    )
    rows = empty_run.metrics()
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
def test_the_gradient_is_clipped_and_its_own_norm_logged(
    empty_run: Run, slope: tuple, applied: float
) -> None:
    norms: list[float] = []
    model = Slope(slope)
    train(
        model,
        Nothing(),
        options(steps=3),
        empty_run,
        [(1, lambda m, _: norms.append(float(m.weight.grad.norm())))],
    )
    assert norms == pytest.approx([applied] * 3, rel=1e-4)
    assert [row["train/grad_norm"] for row in empty_run.metrics()] == pytest.approx(
        [float(torch.tensor(slope).norm())] * 3
    )


def test_callbacks_are_called_in_evaluation_mode_and_training_goes_on_in_training_mode(
    empty_run: Run,
) -> None:
    called: list[tuple[str, int]] = []

    def callback(name: str):
        def function(model: nn.Module, step: int) -> None:
            assert not model.training
            assert not torch.is_grad_enabled()
            called.append((name, step))

        return function

    model = Slope()
    train(model, Nothing(), options(), empty_run, [(3, callback("three")), (4, callback("four"))])
    assert called == [
        ("three", 3), ("four", 4), ("three", 6), ("four", 8), ("three", 9), ("three", 10), ("four", 10)
    ]  # fmt: skip
    assert model.calls == [True] * 10
    assert model.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(empty_run: Run, bad: float) -> None:
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step 3; lower train\.learning_rate"):
        train(Slope(factors={3: bad}), Nothing(), options(log_every=9), empty_run)
    assert empty_run.checkpoints() == []


class FirstPixel(nn.Module):
    """loss = weight · log of the first pixels' mean: of a black batch it is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def loss(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * batch["pixels"].float().mean().log()).sum()}


def test_a_step_that_failed_can_be_computed_again(empty_run: Run) -> None:
    pixels = np.full((12, 4, 4, 1), 7, np.uint8)
    pixels[[2, 5]] = 0
    images, seen = from_arrays("these", pixels), []
    watch = [(1, lambda model, _: seen.append(model.weight.item()))]
    with pytest.raises(UserError, match="the loss is -inf at step") as raised:
        train(FirstPixel(), images, options(steps=100, batch_size=1), empty_run, watch)
    step = len(seen) + 1
    failure = torch.load(empty_run.path / f"failures/step_{step}_rank_0.pt", weights_only=True)
    model = FirstPixel()
    model.load_state_dict(failure["weights"])
    assert model.weight.item() == seen[-1], "the weights before the step"
    assert model.loss(failure["batch"])["loss"] == -torch.inf
    assert failure["batch"]["index"].item() in (2, 5)
    assert f"at step {step}; " in str(raised.value)
    assert f"(samples {failure['batch']['index'].item()})" in str(raised.value)


# The best checkpoint


@pytest.mark.parametrize(("name", "best"), [("eval/success", 4), ("-eval/success", 6)])
def test_the_best_checkpoint_stays(empty_run: Run, name: str, best: int) -> None:
    scores = {2: 0.5, 4: 0.9, 6: 0.1, 8: 0.9, 10: 0.3}
    watch = [(2, lambda _, step: empty_run.log(step, {"eval/success": scores[step]}))]
    train(Slope(), Nothing(), options(best=name, keep_checkpoints=1), empty_run, watch)
    assert [path.name for path in empty_run.checkpoints()] == ["00000010"]
    chosen = {name: Run(empty_run.path, name).chosen_step() for name in ("newest", "best", "10")}
    assert chosen == {"newest": 10, "best": best, "10": 10}
    with pytest.raises(UserError, match=r"checkpoint=7: .*run has no such one; by steps it has 10"):
        Run(empty_run.path, "7").chosen_step()


def test_a_best_that_is_never_logged_is_told(empty_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    train(Slope(), Nothing(), options(best="eval/sucess"), empty_run)
    said = capsys.readouterr().err
    assert "train.best=eval/sucess was never logged; logged are perf/" in said
    assert "train/loss" in said


def test_after_a_resume_only_what_is_better_than_before_counts(empty_run: Run) -> None:
    scores = {2: 0.5, 4: 0.9, 6: 0.8, 8: 0.7, 10: 0.3}

    def watch(_: nn.Module, step: int) -> None:
        empty_run.log(step, {"eval/success": scores[step]})
        if step == 4:
            send(signal.SIGTERM)

    config = options(best="eval/success")
    assert train(Slope(), Nothing(), config, empty_run, [(2, watch)]) == signal.SIGTERM
    empty_run.latest.clear()
    assert not train(Slope(), Nothing(), config, empty_run, [(2, watch)])
    assert empty_run.load_trainer_state(empty_run.path / "checkpoints/best")["step"] == 4


def test_a_gradient_that_is_not_finite_ends_the_run_too(empty_run: Run) -> None:
    model = Slope()
    model.weight.register_hook(lambda gradient: gradient * (float("nan") if len(model.calls) == 3 else 1))
    with pytest.raises(UserError, match="norm of the gradient is nan at step 3"):
        train(model, Nothing(), options(), empty_run)


def test_no_checkpoint_holds_what_is_not_finite(empty_run: Run) -> None:
    config = options(log_every=100, checkpoint_minutes=1e-9, keep_checkpoints=100)
    with pytest.raises(UserError, match="step 3"):
        train(Slope(factors={3: float("nan")}), Nothing(), config, empty_run)
    assert [path.name for path in empty_run.checkpoints()] == ["00000001", "00000002"]
    assert all(empty_run.load_weights(path)["weight"].isfinite().all() for path in empty_run.checkpoints())


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


def test_a_process_has_the_gpu_of_its_number_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device(options(device="auto")) == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert choose_device(options(device="cpu")) == torch.device("cpu")
    with pytest.raises(UserError, match=r"process 3 of this machine has no GPU: there are 2; start 2, or"):
        choose_device(options(device="auto"))


# Budget in minutes


def test_minutes_become_steps_of_the_measured_length(monkeypatch: pytest.MonkeyPatch) -> None:
    # A tenth of a second each; at the start, and for five steps, the machine was busy with something else.
    lengths = [3.0] * 5 + [0.1] * 6 + [2.0] * 5 + [0.1] * 4
    ticks = iter([100.0 + tick for length in lengths for tick in (0.0, length)])
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    model, random = Slope(), torch.get_rng_state()
    steps = trainer.steps_in(options(minutes=2.0), model, Nothing(), torch.device("cpu"), torch.float32)
    assert steps == 1200
    assert torch.equal(model.weight, torch.ones(1, 2)), "timing must not train the model"
    assert model.calls == []
    assert torch.equal(torch.get_rng_state(), random)


def test_a_resumed_run_keeps_the_steps_that_its_minutes_became(
    empty_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = options(steps=0, minutes=1e-6)
    monkeypatch.setattr(trainer, "steps_in", lambda *_: 9)
    stop = [(4, lambda _, step: send(signal.SIGTERM) if step == 4 else None)]
    assert train(Slope(), Nothing(), config, empty_run, stop)
    assert empty_run.load_trainer_state(empty_run.checkpoints()[-1])["total"] == 9
    monkeypatch.setattr(trainer, "steps_in", lambda *_: pytest.fail("timed again"))
    resumed = Slope()
    assert not train(resumed, Nothing(), config, empty_run)
    assert len(resumed.calls) == 5
    assert [row["step"] for row in empty_run.metrics()] == list(range(1, 10))


def test_a_state_that_is_not_the_trainers_is_refused(empty_run: Run) -> None:
    assert not train(Slope(), Nothing(), options(), empty_run)
    torch.save({"step": 10}, empty_run.checkpoints()[-1] / "trainer.pt")
    with pytest.raises(UserError, match=r"00000010: holds no state of this trainer \('optimizer'\)"):
        train(Slope(), Nothing(), options(), empty_run)
