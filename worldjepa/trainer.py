"""The one visible loop, for any model with `loss(batch) -> dict`: it knows neither actions nor views."""

import contextlib
import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .config import TrainConfig
from .errors import UserError
from .memory import keep_freed_memory
from .run import Run, load_into

with contextlib.suppress(ImportError):
    # Before an environment of a user's own draws with Mesa; ours see to that themselves (envs/rendering.py).
    import triton  # noqa: F401

# Every n steps, and at the last: function(model in evaluation mode, step).
Callback = tuple[int, Callable[[Any, int], None]]
Batch = dict[str, Tensor]


class Batches(Protocol):
    """Data: endless batches in an order that the seed fixes, from any of them on."""

    def batches(self, batch_size: int, seed: int, first: int = 0) -> Iterator[Batch]: ...


def choose_device(config: TrainConfig) -> torch.device:
    """Where to compute, and on a CPU with how many threads; every choice that hardware makes is made here and
    in `choose_precision`."""
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.device != "auto":
        try:
            device = torch.device(config.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):
            raise UserError(f"train.device={config.device}: not there; name cuda, mps, cpu or auto") from None
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    """bfloat16 for autocast where the device multiplies it faster than float32, else float32."""
    if config.precision == "auto":
        if device.type == "cuda":
            gains = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            gains = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if gains else torch.float32
    return torch.bfloat16 if config.precision == "bf16" else torch.float32


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """At optimizer step 0 ≤ step < total: linear warm-up, then cosine to 0."""
    warmup = max(1, round(config.warmup * total))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices and kernels, none on biases, gains and the like (fewer than 2 axes)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def train(
    model: nn.Module, data: Batches, config: TrainConfig, run: Run, callbacks: Sequence[Callback] = ()
) -> bool:
    """Train until the budget is used; go on from the run's newest checkpoint where there is one.

    Args:
        model: `loss(batch)` gives a dict of scalars, "loss" among them.
        data: its batches.
        run: takes metrics and checkpoints.
        callbacks: what else happens every n steps.

    Returns:
        Whether it ended; False after Ctrl-C or SIGTERM, which leave a checkpoint.

    Raises:
        UserError: the loss is not finite, or the newest checkpoint is damaged or of another model.
    """
    device = choose_device(config)
    precision = choose_precision(config, device)
    torch.manual_seed(config.seed)
    model.to(device).train()
    optimizer = build_optimizer(model, config)
    step, total = _resume(model, optimizer, run)
    total = total or config.steps or steps_in(config, model, data, device, precision)
    batches = data.batches(config.batch_size, config.seed, first=step)
    saved = time.monotonic()
    with (
        _stop_requested() as stop,
        tqdm(total=total, initial=step, unit=" steps", desc="train", smoothing=0.05) as bar,
    ):
        while step < total:
            began = time.perf_counter()
            batch = {name: value.to(device, non_blocking=True) for name, value in next(batches).items()}
            loaded = time.perf_counter()

            rate = learning_rate(step, total, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                losses = model.loss(batch)  # type: ignore[operator]
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            step += 1

            if step % config.log_every == 0 or step == total:
                _check_finite(losses["loss"], norm, step)
                values = {f"train/{name}": value.item() for name, value in losses.items()}
                seconds = time.perf_counter() - began
                frames = math.prod(batch["pixels"].shape[:-3])
                performance = {
                    "perf/frames_per_second": frames / seconds,
                    "perf/data_share": (loaded - began) / seconds,
                }
                run.log(step, {**values, "train/grad_norm": norm.item(), "train/lr": rate, **performance})
                bar.set_postfix(loss=f"{values['train/loss']:.3f}")
            bar.update()
            for every, function in callbacks:
                if step % every == 0 or step == total:
                    with torch.no_grad():
                        function(model.eval(), step)
                    model.train()
            # Looked at once: a signal that comes after this line is heard after the next step.
            stopping = bool(stop)
            if step == total or stopping or time.monotonic() - saved > 60 * config.checkpoint_minutes:
                _check_finite(losses["loss"], norm, step)
                run.save_checkpoint(model, _state(step, total, optimizer, device), config.keep_checkpoints)
                saved = time.monotonic()
            if stopping:
                break
    return step >= total


def steps_in(
    config: TrainConfig, model: nn.Module, data: Batches, device: torch.device, precision: torch.dtype
) -> int:
    """How many steps `config.minutes` hold, timed on a copy of the model: the run is not touched."""
    trial = copy.deepcopy(model)
    optimizer = build_optimizer(trial, config)
    batches = data.batches(config.batch_size, config.seed)
    untimed, timed = 5, 15
    with torch.random.fork_rng():
        for number in tqdm(range(untimed + timed), desc="time a step", leave=False):
            if number == untimed:
                began = time.perf_counter()
            batch = {name: value.to(device) for name, value in next(batches).items()}
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = trial.loss(batch)["loss"]  # type: ignore[operator]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss.item()
    return max(1, round(60 * config.minutes * timed / (time.perf_counter() - began)))


def initial_state(model: nn.Module, config: TrainConfig) -> dict[str, Any]:
    """The trainer's state before the first step, for a checkpoint of weights that come from elsewhere."""
    return _state(0, 0, build_optimizer(model, config), torch.device("cpu"))


def _state(step: int, total: int, optimizer: torch.optim.Optimizer, device: torch.device) -> dict[str, Any]:
    state = {"step": step, "total": total, "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    if device.type == "cuda":
        state["rng_cuda"] = torch.cuda.get_rng_state(device)
    return state


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> tuple[int, int]:
    """Step and budget of the newest checkpoint, after loading it; 0, 0 where there is none."""
    checkpoints = run.checkpoints()
    step = total = 0
    if checkpoints:
        state = run.load_trainer_state(checkpoints[-1])
        load_into(model, run.load_weights(checkpoints[-1]), checkpoints[-1])
        try:
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
            step, total = int(state["step"]), int(state["total"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(
                f"{checkpoints[-1]}: holds no state of this trainer ({reason}); remove it"
            ) from None
        if "rng_cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["rng_cuda"])
    run.forget_after(step)
    return step, total


def _check_finite(loss: Tensor, gradient_norm: Tensor, step: int) -> None:
    """The gradient counts too: where it is not finite, the weights no longer are."""
    for name, value in (("loss", loss.item()), ("norm of the gradient", gradient_norm.item())):
        if not math.isfinite(value):
            raise UserError(
                f"train: the {name} is {value} at step {step}; lower train.learning_rate, or look at the data"
            )


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that gets the signal's number at Ctrl-C or SIGTERM; the step under way is finished first."""
    received: list[int] = []
    before = {
        s: signal.signal(s, lambda number, _: received.append(number))
        for s in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
