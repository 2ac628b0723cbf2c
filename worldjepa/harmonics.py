"""Sums of the sines and cosines of j·a·x for j = 1..J, and their derivative, in the memory of x and a block.

Neither is taken for every j, and the tensor of all of them is never stored: they follow from those of a·x by
angle addition, block by block, and in the backward once more.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def harmonic_sums(x: Tensor, a: float, J: int, *, fused: bool = False) -> Tensor:
    """Rows of samples (R, N), float32 or float64, to Σ_n cos(j·a·x_n) and Σ_n sin(j·a·x_n), j = 1..J, as (J,
    2, R).

    Args:
        x: samples. The sums are differentiable once; a second derivative raises a RuntimeError.
        a: the first frequency. J: how many multiples of it.
        fused: go through torch.compile, which needs a C++ compiler on a CPU, Triton on a GPU, and up to a
            minute at the start.
    """
    return _HarmonicSums.apply(x, a, J, fused)


class _HarmonicSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: float, J: int, fused: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.arguments = a, fused
        if fused:
            return _fused()[0](x, a, J)
        sums = x.new_empty(J + J % 2, 2, len(x))
        for rows, work in _blocks(x, arrays=10):
            groups = _harmonics(x[rows], a, len(sums) // 2, work)
            for pair, group in zip(sums.split(2), groups, strict=True):
                torch.sum(group, -1, out=pair[..., rows])
        return sums.mul_(_signs(sums))[:J]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (x,), (a, fused) = ctx.saved_tensors, ctx.arguments
        J = len(gradient)
        frequency = a * torch.arange(1, J + 1, device=x.device, dtype=x.dtype)[:, None]
        # What multiplies cosine and sine of every harmonic in the derivative, for an even number of them.
        series = x.new_zeros(J + J % 2, 2, len(x), 1)
        series[:J, 0, :, 0] = frequency * gradient[:, 1]
        series[:J, 1, :, 0] = -frequency * gradient[:, 0]
        if fused:
            return _fused()[1](x, a, series[:J]), None, None, None
        series.mul_(_signs(series))
        result = torch.empty_like(x)
        for rows, work in _blocks(x, arrays=14):
            terms = work[10:].unflatten(0, (2, 2))
            pairs = iter(series[..., rows, :].split(2))
            groups = _harmonics(x[rows], a, len(series) // 2, work)
            torch.mul(next(groups), next(pairs), out=terms)
            for pair, group in zip(pairs, groups, strict=True):
                terms.addcmul_(group, pair)
            torch.sum(terms, (0, 1), out=result[rows])
        return result, None, None, None


def _blocks(x: Tensor, arrays: int) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the rows of `x` (R, N), each with a workspace of as many rows, (arrays, r, N). It stays in a
    CPU's cache, and is allocated once, since fresh memory costs more than the arithmetic; elsewhere it is
    large enough to be worth a launch."""
    rows = max(1, (2**17 if x.device.type == "cpu" else 2**21) // x.shape[1])
    work = x.new_empty(arrays, min(rows, len(x)), x.shape[1])
    for first in range(0, len(x), rows):
        yield slice(first, first + rows), work[:, : len(x) - first]


def _signs(pairs: Tensor) -> Tensor:
    """What a row for every harmonic, (2·groups, ...), has to be multiplied by: see `_harmonics`."""
    signs = [(1.0, -1.0, -1.0, 1.0)[row // 2 % 4] for row in range(len(pairs))]
    return pairs.new_tensor(signs).view(-1, *[1] * (pairs.ndim - 1))


def _harmonics(x: Tensor, a: float, groups: int, work: Tensor) -> Iterator[Tensor]:
    """Cosine and sine of k·a·x and of (k+1)·a·x, as (2, 2, *x.shape), for k = 1, 3, 5, ..., each but for the
    sign of its group (`_signs`); a group is overwritten two groups later. `work` is (10 or more, *x.shape).

    By angle addition, f(k+2) = 2 cos(2·a·x) · f(k) - f(k-2) for either function. Steps of two instead of one,
    cos(2·a·x) from the sine, and a start afresh after 32 harmonics keep the error in float32 at that of sines
    and cosines taken one by one: near 0 it grows with the square of the steps. The signs let every group be
    one operation in place.
    """
    now, before = work[:4].unflatten(0, (2, 2)), work[4:8].unflatten(0, (2, 2))
    angle, cosine_of_two = work[8], work[9]
    zero, one = x.new_tensor([0.0, 1.0])
    torch.mul(x, a, out=angle)
    _cosine_and_sine(angle, now[0])
    cosine, sine = now[0]
    # As many as can be in one pass: they read and write more than they compute.
    now[1, 0] = torch.addcmul(one, sine, sine, value=-2, out=cosine_of_two)
    torch.addcmul(zero, sine, cosine, value=2, out=now[1, 1])
    before[0, 0] = cosine
    torch.neg(sine, out=before[0, 1])
    before[1, 0] = 1
    before[1, 1] = 0
    for group in range(groups):
        if group and group % 16 == 0:
            for pair, k in ((before, 2 * group - 1), (now, 2 * group + 1)):
                _cosine_and_sine(k * angle, pair[0])
                _cosine_and_sine((k + 1) * angle, pair[1])
        elif group:
            before.addcmul_(cosine_of_two, now, value=-2 if group % 2 else 2)
            now, before = before, now
        yield now


def _cosine_and_sine(angle: Tensor, out: Tensor) -> None:
    torch.cos(angle, out=out[0])
    torch.sin(angle, out=out[1])


@cache
def _fused() -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The sums and the derivative, compiled. Everything between stays in registers, so the plainest angle
    addition serves."""

    def harmonics(angle: Tensor, J: int) -> Iterator[tuple[Tensor, Tensor]]:
        cosine, sine = first = angle.cos(), angle.sin()
        for _ in range(J):
            yield cosine, sine
            cosine, sine = cosine * first[0] - sine * first[1], sine * first[0] + cosine * first[1]

    def sums(x: Tensor, a: float, J: int) -> Tensor:
        values = [value.sum(-1) for pair in harmonics(a * x, J) for value in pair]
        return torch.stack(values).unflatten(0, (J, 2))

    def derivative(x: Tensor, a: float, series: Tensor) -> Tensor:
        result = torch.zeros_like(x)
        for (cosine, sine), (p, q) in zip(harmonics(a * x, len(series)), series, strict=True):
            result = result + p * cosine + q * sine
        return result

    return torch.compile(sums), torch.compile(derivative)
