"""The process group; sums, samples and BatchNorm over all ranks, with the gradients of one process.

DDP averages: from a loss L_r on each of W ranks it makes the gradient of (1/W) Σ_r L_r. Two kinds of loss
follow.

- Made of sums over all ranks' samples, so that L_r = L everywhere: its gradient is right for any local batch
  sizes, if the sum's backward is a sum over ranks too. Every rank has the same L, hence the same gradient g
  of the sum, and Σ_r g = W·g needs no communication.
- A mean over the local samples: the average of the ranks' means is the mean over all samples only where the
  local batches are equal. `global_mean` makes it the first kind, whatever the sizes.

Without a process group every function here returns what it got, at no cost.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import UserError
from .launch import launched
from .rendezvous import fresh_store

T = TypeVar("T")


def world_size() -> int:
    """W, the number of ranks; 1 where no process group is initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """r, the number of this process, from 0; 0 where no process group is initialised."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def process_group() -> Iterator[None]:
    """The process group that torchrun's environment describes; none where there is one process.

    Tensors on a CPU go over gloo, those on a GPU over NCCL, each process with the GPU of its local rank.

    Raises:
        UserError: the environment describes it in part, or with what is no number.
    """
    if launched("WORLD_SIZE", 1) == 1:
        yield
        return
    missing = [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise UserError(f"WORLD_SIZE is set, {missing[0]} is not: start with torchrun, or unset WORLD_SIZE")
    for name in ("RANK", "MASTER_PORT"):
        launched(name, 0)
    # Processes beyond the GPUs may compute on the CPU; `device.choose_device` refuses them a GPU.
    if (number := launched("LOCAL_RANK", 0)) < torch.cuda.device_count():
        torch.cuda.set_device(number)
    store, own, ranks = next(dist.rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = fresh_store(store, own, ranks)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=own, world_size=ranks)
    try:
        yield
    finally:
        dist.destroy_process_group()


def in_turn(make: Callable[[], T]) -> T:
    """What `make` gives, first on rank 0, then on the others: for files that one makes and all read."""
    made = make() if rank() == 0 else None
    if world_size() > 1:
        dist.barrier()
    return make() if made is None else made


def any_rank(flags: Sequence[bool]) -> list[bool]:
    """Whether each of the flags is set on some rank; all ranks must call."""
    if world_size() == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return raised.bool().tolist()


def mean_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """Means of numbers that every rank has under the same names, in one communication."""
    if world_size() == 1:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(values, (total / world_size()).tolist(), strict=True))


def gather_objects(value: Any) -> list[Any]:
    """Every rank's picklable value, in the order of ranks."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


# Where a rank notes how long it waits in sums over ranks, while `own_time` measures.
_waits: ContextVar[list[float] | None] = ContextVar("waits", default=None)


@contextmanager
def own_time(measured: bool) -> Iterator[list[float]]:
    """A list that gets, at the end, the seconds that this rank took for what happened within, apart from
    waiting for others in sums over ranks: by these a slow one is known, where all of them together make steps
    of one length. Nothing is measured with one rank; a GPU is waited for where something is."""
    own: list[float] = []
    if not measured or world_size() == 1:
        yield own
        return
    waits: list[float] = []
    token, began = _waits.set(waits), time.perf_counter()
    try:
        yield own
    finally:
        _waits.reset(token)
        _finish_on_gpu()
        own.append(time.perf_counter() - began - sum(waits))


def _finish_on_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _all_reduce(x: Tensor) -> None:
    """The sum over ranks, in place."""
    waits = _waits.get()
    if waits is None:
        dist.all_reduce(x)
        return
    _finish_on_gpu()
    began = time.perf_counter()
    dist.all_reduce(x)
    _finish_on_gpu()
    waits.append(time.perf_counter() - began)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, same_loss: bool) -> Tensor:
        ctx.same_loss = same_loss
        total = x.clone(memory_format=torch.contiguous_format)
        _all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if ctx.same_loss:
            return dist.get_world_size() * gradient, None
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total, None


def sum_over_ranks(x: Tensor, *, same_loss: bool = False) -> Tensor:
    """Elementwise sum of every rank's `x`, any shape, the same on all of them.

    Args:
        x: floating. All ranks must call, with one shape and dtype.
        same_loss: every rank goes on to compute the same loss from the sum (see above), so the backward does
            not communicate. Otherwise the backward adds up the ranks' gradients.
    """
    return _SumOverRanks.apply(x, same_loss) if world_size() > 1 else x


def sum_samples(sums: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Every rank's `sums` over its own samples and their number, added up in one communication, none in the
    backward: for what every rank then computes the same loss from (see above).

    Args:
        sums: any shape, floating.
        samples: this rank's.

    Returns:
        the sums over all ranks' samples, and how many these are, () in the dtype of `sums`.
    """
    count = sums.new_full((1,), samples)
    if world_size() == 1:
        return sums, count[0]
    total = sum_over_ranks(torch.cat([sums.flatten(), count]), same_loss=True)
    return total[:-1].view_as(sums), total[-1].detach()


def gather_samples(x: Tensor) -> Tensor:
    """All ranks' samples, (..., N_r) to (..., Σ_r N_r), in the order of ranks; N_r may differ from rank to
    rank. For what every rank then computes the same loss from (see above): the backward does not
    communicate."""
    if world_size() == 1:
        return x
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=x.device)
    sizes[dist.get_rank()] = x.shape[-1]
    counts = sum_over_ranks(sizes).tolist()
    before = sum(counts[: dist.get_rank()])
    after = sum(counts) - before - x.shape[-1]
    return sum_over_ranks(nn.functional.pad(x, (before, after)), same_loss=True)


def global_mean(x: Tensor) -> Tensor:
    """Mean of the elements of all ranks' `x`, whose sizes may differ, to a scalar, the same on every rank. In
    place of `x.mean()` it makes DDP's gradient that of one process on the whole batch."""
    if world_size() == 1:
        return x.mean()
    total, count = sum_samples(x.sum(), x.numel())
    return total / count


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm whose batch is that of all ranks, on any device (torch's SyncBatchNorm refuses CPU tensors).

    Parameters, buffers and arguments are those of `nn.BatchNorm1d`, so checkpoints fit both ways; inputs may
    have further axes, (N, C, ...), as those of BatchNorm2d and 3d. Local batches may differ in size, not be
    empty. Forward, gradients and running statistics are those of one process on the ranks' batches put
    together; in half precision the statistics are float32. In evaluation mode, or with one rank, it is
    `nn.BatchNorm1d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (N, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) to the same shape and dtype; in training mode all ranks must call."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        mean, variance, count = _pooled_moments(x)
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        shape = (1, -1) + (1,) * (x.ndim - 2)
        x = (x - mean.view(shape)) * scale.view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # torch's rule: momentum None averages over all batches seen.
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), rate)


def _pooled_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,), and number (), of all ranks' values (N, C, ...) of each channel. The
    ranks' own moments are pooled (Chan's rule), not sums of squares, which cancel."""
    channels, rank = x.shape[1], dist.get_rank()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    variance, mean = torch.var_mean(x, axes, correction=0)
    own = torch.cat([mean, variance, mean.new_full((1,), x.numel() // channels)])
    rows = sum_over_ranks(nn.functional.pad(own[None], (0, 0, rank, world_size() - 1 - rank)))
    means, variances, counts = rows.split([channels, channels, 1], 1)
    share = counts.detach() / counts.detach().sum()
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean).square())).sum(0)
    return mean, variance, counts.detach().sum()


def convert_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm1d, 2d and 3d inside by a `BatchNorm` with the same parameters and buffers.

    Returns:
        the module, changed in place, or its replacement where it is a BatchNorm itself.

    Raises:
        UserError: a kind of BatchNorm that does more than these (timm's with an activation, for one).
    """
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, BatchNorm):
        if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            raise UserError(f"{type(module).__name__}: only BatchNorm1d, 2d and 3d synchronise over ranks")
        new = BatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        new._parameters, new._buffers = module._parameters, module._buffers
        return new.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, convert_batchnorm(child))
    return module
