"""The one visible loop, for any model with `loss(batch) -> dict`: it knows neither actions nor views."""

import copy
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from .config import TrainConfig
from .data.order import WHOLE, Part
from .device import choose_device, choose_precision, gains, lay_out, on_device
from .distributed import (
    any_rank,
    convert_batchnorm,
    gather_objects,
    mean_over_ranks,
    own_time,
    rank,
    world_size,
)
from .errors import UserError
from .optimizer import build_optimizer, learning_rate, load_optimizer
from .profiling import Profile, phase
from .run import Run
from .stopping import STOPPING, stop_requested
from .tensor_files import load_into

# Every n steps, and at the last: function(model in evaluation mode, step).
Callback = tuple[int, Callable[[Any, int], None]]
Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


class Batches(Protocol):
    """Data: endless batches in an order that the seed fixes, from any of them on; or a rank's parts."""

    def batches(self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE) -> Iterator[Batch]: ...


def train(
    model: nn.Module, data: Batches, config: TrainConfig, run: Run, callbacks: Sequence[Callback] = ()
) -> signal.Signals | None:
    """Train until the budget is used; go on from the run's newest whole checkpoint where there is one.

    In a process group (`distributed.process_group`) each rank takes its part of every batch, and all of them
    make the steps of one process on the whole batch. Rank 0 writes; every rank reads the run folder.

    Args:
        model: `loss(batch)` gives a dict of scalars, "loss" among them.
        data: its batches.
        run: takes metrics and checkpoints.
        callbacks: what else happens every n steps, on every rank.

    Returns:
        None at the end; or Ctrl-C's or SIGTERM's number, after either, on any rank, has left a checkpoint.

    Raises:
        UserError: the loss is not finite, every checkpoint is damaged or the newest of another model, or the
            batch is no multiple of the ranks.
    """
    device = choose_device(config)
    precision = choose_precision(config, device)
    lay_out(model, config, device).train()
    objective = _objective(model, config)
    optimizer = build_optimizer(model, config)
    step, total, best = _resume(model, optimizer, run)
    total = config.steps or total or steps_in(config, model, data, device, precision)
    batches = on_device(data.batches(config.batch_size, config.seed, step, _part(config)), config, device)
    saved = time.monotonic()
    with (
        stop_requested() as stop,
        tqdm(
            total=total, initial=step, unit=" steps", desc="train", smoothing=0.05, disable=rank() > 0
        ) as bar,
        Profile(model, run, device, precision) if config.profile else nullcontext() as profile,
    ):
        while step < total:
            began = time.perf_counter()
            with phase("data"):
                batch = next(batches)
            loaded = time.perf_counter()

            rate = learning_rate(step, total, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            seed_step(config.seed, step)
            logged = (step + 1) % config.log_every == 0 or step + 1 == total
            with own_time(logged) as own:
                losses = _losses(objective, batch, precision)
            norm = _gradients(losses["loss"], model, optimizer, config)
            _check_finite(losses["loss"], norm, step + 1, batch, model, run)
            with phase("optimizer"):
                optimizer.step()
            step += 1
            seconds = time.perf_counter() - began

            if profile:
                profile.step(step, seconds, batch)
            if logged:
                values = mean_over_ranks({f"train/{name}": value.item() for name, value in losses.items()})
                rates = {"train/grad_norm": norm.item(), "train/lr": rate}
                run.log(step, {**values, **rates, **_performance(batch, seconds, loaded - began, *own)})
                bar.set_postfix(loss=f"{values['train/loss']:.3f}")
            bar.update()
            _call_back(callbacks, model, step, total)
            # Looked at once: a signal that comes after this line is heard after the next step.
            late = rank() == 0 and time.monotonic() - saved > 60 * config.checkpoint_minutes
            *stopping, late = any_rank([*(number in stop for number in STOPPING), late])
            if _score(run, config.best) > best:
                best = _score(run, config.best)
                run.save_checkpoint(model, _state(step, total, best, optimizer), name="best")
            if step == total or any(stopping) or late:
                run.save_checkpoint(model, _state(step, total, best, optimizer), config.keep_checkpoints)
                saved = time.monotonic()
            if any(stopping):
                return STOPPING[stopping.index(True)] if step < total else None
    if rank() == 0 and config.best and best == -math.inf and run.latest:
        names = ", ".join(sorted(run.latest))
        print(f"train: train.best={config.best} was never logged; logged are {names}", file=sys.stderr)
    return None


def _losses(objective: Callable[[Batch], Losses], batch: Batch, precision: torch.dtype) -> Losses:
    autocast = torch.autocast(batch["pixels"].device.type, precision, enabled=precision != torch.float32)
    with phase("forward"), autocast:
        return objective(batch)


def _gradients(
    loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> Tensor:
    """Leaves the clipped gradients in the parameters; gives their norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    with phase("backward"):
        loss.backward()
    with phase("clipping"):
        return nn.utils.clip_grad_norm_(model.parameters(), config.clip)


def _call_back(callbacks: Sequence[Callback], model: nn.Module, step: int, total: int) -> None:
    for every, function in callbacks:
        if step % every == 0 or step == total:
            with torch.no_grad():
                function(model.eval(), step)
            model.train()


class _Loss(nn.Module):
    """A model whose forward is its loss, which is what DistributedDataParallel looks at."""

    def __init__(self, model: nn.Module, loss: Callable[[Batch], Losses]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch) -> Losses:
        return self.loss(batch)


def _objective(model: Any, config: TrainConfig) -> Callable[[Batch], Losses]:
    """The model's loss; over several ranks with their gradients averaged and BatchNorm over the whole batch.
    Buffers need no copying: they are the same on every rank."""
    if world_size() > 1:
        convert_batchnorm(model)
    device = next(model.parameters()).device
    loss = torch.compile(model.loss) if gains(config, "compile", device) else model.loss
    if world_size() == 1:
        return loss
    return DistributedDataParallel(
        _Loss(model, loss), forward_sync_buffers=False, gradient_as_bucket_view=True, static_graph=True
    )


def _part(config: TrainConfig) -> Part:
    if config.batch_size % world_size():
        raise UserError(
            f"train.batch_size={config.batch_size}: must be a multiple of the {world_size()} processes that "
            "share it"
        )
    return rank(), world_size()


def seed_step(seed: int, step: int) -> None:
    """What dropout draws in a step depends on (seed, step, rank) alone: nothing is to be saved for a resume,
    and the ranks draw differently."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank())).generate_state(1)[0]))


def trial_steps(
    config: TrainConfig, model: nn.Module, data: Batches, device: torch.device, precision: torch.dtype
) -> Iterator[int]:
    """Training steps on a copy of the model, endless and each done when its number comes: the run is not
    touched."""
    trial = copy.deepcopy(model)
    objective, optimizer = _objective(trial, config), build_optimizer(trial, config)
    batches = on_device(data.batches(config.batch_size, config.seed, part=_part(config)), config, device)
    for number, batch in enumerate(batches):
        loss = _losses(objective, batch, precision)["loss"]
        _gradients(loss, trial, optimizer, config)
        optimizer.step()
        loss.item()
        yield number


def steps_in(
    config: TrainConfig, model: nn.Module, data: Batches, device: torch.device, precision: torch.dtype
) -> int:
    """How many steps `config.minutes` hold, as rank 0 times them: by the median, since another program that
    keeps the cores busy for a moment would else cost the whole training most of its steps."""
    untimed, timed, seconds = 5, 15, []
    with torch.random.fork_rng():
        steps = trial_steps(config, model, data, device, precision)
        for _ in tqdm(range(untimed + timed), desc="time a step", leave=False, disable=rank() > 0):
            began = time.perf_counter()
            next(steps)
            seconds.append(time.perf_counter() - began)
    count = max(1, round(60 * config.minutes / statistics.median(seconds[untimed:])))
    return gather_objects(count)[0]


def initial_state(model: nn.Module, config: TrainConfig) -> dict[str, Any]:
    """The trainer's state before the first step, for a checkpoint of weights that come from elsewhere."""
    return _state(0, 0, -math.inf, build_optimizer(model, config))


def _state(step: int, total: int, best: float, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"step": step, "total": total, "best": best, "optimizer": optimizer.state_dict()}


def _score(run: Run, name: str) -> float:
    """The scalar `name` as it was logged last; of "-name" the negative; -inf where there is none."""
    value = run.latest.get(name.removeprefix("-"), -math.inf)
    return -value if name.startswith("-") and value != -math.inf else value


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, run: Run) -> tuple[int, int, float]:
    """Step, budget and best score of the newest whole checkpoint, after loading it; 0, 0, -inf where there is
    none. A damaged one is passed over, and said so."""
    step, total, best = 0, 0, -math.inf
    checkpoints = run.checkpoints()
    for checkpoint in reversed(checkpoints):
        try:
            weights, state = run.load_weights(checkpoint), run.load_trainer_state(checkpoint)
        except UserError as error:
            if checkpoint == checkpoints[0]:
                raise
            print(f"train: passed over: {error}", file=sys.stderr)
            continue
        load_into(model, weights, checkpoint)
        try:
            load_optimizer(optimizer, state["optimizer"])
            step, total, best = int(state["step"]), int(state["total"]), float(state["best"])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{checkpoint}: holds no state of this trainer ({reason}); remove it") from None
        break
    if len(set(gather_objects(step))) > 1:
        raise UserError(
            f"{run.path}: the ranks see different checkpoints; it must lie where all of them read"
        )
    run.forget_after(step)
    return step, total, best


def _check_finite(loss: Tensor, norm: Tensor, step: int, batch: Batch, model: nn.Module, run: Run) -> None:
    """Before the step is made; the gradient counts too: where it is not finite, the weights soon are not."""
    if math.isfinite(loss.item() + norm.item()):
        return
    path = run.save_failure(f"step_{step}_rank_{rank()}", {"batch": batch, "weights": model.state_dict()})
    name, value = ("loss", loss) if not math.isfinite(loss.item()) else ("norm of the gradient", norm)
    samples = f" (samples {', '.join(map(str, batch['index'].tolist()))})" if "index" in batch else ""
    raise UserError(
        f"train: the {name} is {value.item()} at step {step}; lower train.learning_rate, or look at "
        f"the batch{samples}, which is in {path} with the weights before the step"
    )


def _performance(batch: Batch, seconds: float, data_seconds: float, own: float = 0.0) -> dict[str, float]:
    """Of all ranks together; and, where there are several, of each by itself: the frames that it reads and
    sees in a second of its `own` forward and its reading, without waiting for others."""
    frames = math.prod(batch["pixels"].shape[:-3])
    told = gather_objects((data_seconds / seconds, frames / max(data_seconds + own, 1e-9)))
    shares, speeds = zip(*told, strict=True)
    together = len(told) * frames / seconds
    values = {"perf/frames_per_second": together, "perf/data_share": sum(shares) / len(shares)}
    if len(told) > 1:
        values |= {f"perf/frames_per_second_rank_{r}": speed for r, speed in enumerate(speeds)}
        values |= {"perf/data_share_max": max(shares), "perf/slowest_rank": speeds.index(min(speeds))}
    return values
