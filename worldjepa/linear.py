"""Linear layers and attention as they train fastest on a CPU."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """`nn.Linear`, whose float32 products go to oneDNN where it trains on a CPU that is not Intel's.

    torch hands float32 to MKL, which on AMD leaves half of AVX-512 unused: LeWM's layers, forward and
    backward, take 1.7 times as long that way (`scripts/benchmark_training.py`). On Intel MKL is the faster by
    a tenth, and stays. Half precision goes to oneDNN by itself. Parameters and arguments are those of
    `nn.Linear`, outputs and gradients the same to rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        if _trains_here(x, self.weight):
            y: Tensor = _Product.apply(x, self.weight, self.bias)
            return y
        return super().forward(x)


def through_onednn(module: nn.Module) -> nn.Module:
    """Make every `nn.Linear` inside a `Linear`, in place."""
    for child in module.modules():
        if type(child) is nn.Linear:
            # What it holds and is called stays: another forward is all that changes.
            child.__class__ = Linear
    return module


def fuse_attention(module: nn.Module, fused: bool) -> None:
    """Have timm's attention layers inside use torch's fused kernel, or products and softmax one by one."""
    for child in module.modules():
        if getattr(child, "fused_attn", fused) != fused:
            child.fused_attn = fused  # type: ignore[assignment]


def _trains_here(x: Tensor, weight: Tensor) -> bool:
    return (
        not _intel()
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.numel() > 0
        # Inductor has no lowering of the operation for a weight that changes.
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@functools.cache
def _intel() -> bool:
    """Told by the system, not timed: one machine's runs must be equal to the bit. Only Linux tells it."""
    about = Path("/proc/cpuinfo")
    return about.exists() and "GenuineIntel" in about.read_text("utf-8", "replace")[:4096]


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., n) times (m, n) to (..., m). oneDNN is fastest where the weight's rows lie side by side."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight.t().contiguous().t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        gradient = gradient.contiguous()
        rows = gradient.view(-1, gradient.shape[-1])
        return (
            _product(gradient, weight.t()) if of_x else None,
            _outer(rows, x.reshape(-1, x.shape[-1])) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _outer(a: Tensor, b: Tensor) -> Tensor:
    """Σ over the rows of a (n, p) and b (n, q) of their outer products, (p, q)."""
    # The left factor is copied into rows of its own: the narrower one.
    return _product(a.t(), b.t()) if a.shape[1] <= b.shape[1] else _product(b.t(), a.t()).t()
