"""The harmonics of samples against sines and cosines taken one by one."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from worldjepa import harmonics
from worldjepa.harmonics import harmonic_sums
from worldjepa.sigreg import EppsPulley, SIGReg


def one_by_one(x: Tensor, a: float, J: int) -> Tensor:
    """(R, N) to (J, 2, R)."""
    angle = a * torch.arange(1, J + 1, dtype=x.dtype)[:, None, None] * x
    return torch.stack([angle.cos().sum(-1), angle.sin().sum(-1)], 1)


def value_and_derivative(
    function: Callable[..., Tensor], x: Tensor, *arguments: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """The derivative of the sums with weights that fall off as those of Epps-Pulley do."""
    x = x.detach().clone().requires_grad_()
    value = function(x, *arguments, **options)
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    t = torch.linspace(0, 3, len(value), dtype=x.dtype)[:, None, None]
    (weights * torch.exp(-t.square()) * value).sum().backward()
    return value.detach(), x.grad


# One row; more rows than a block holds, the last block not full; rows longer than a block; one sample.
@pytest.mark.parametrize("shape", [(1, 9), (2500, 100), (3, 150_000), (4, 1)], ids=str)
@pytest.mark.parametrize("J", [1, 2, 3, 16])
def test_equal_those_taken_one_by_one(shape: tuple[int, int], J: int) -> None:
    x = 2 * torch.randn(shape, dtype=torch.float64)
    value, derivative = value_and_derivative(harmonic_sums, x, 0.3, J)
    expected = value_and_derivative(one_by_one, x, 0.3, J)
    assert value.shape == (J, 2, shape[0])
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(derivative, expected[1])


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("J", [16, 32, 33, 64, 65, 500])
def test_float32_is_as_precise_however_many_there_are(J: int, scale: float) -> None:
    # Near 0, angle addition by steps of one and without fresh starts loses J² units in the last place.
    x = scale * torch.randn(20, 1000)
    # The frequency as float32 has it, so that it is not what differs.
    a = float(torch.tensor(3 / J))
    value, derivative = value_and_derivative(harmonic_sums, x, a, J)
    exact = value_and_derivative(one_by_one, x.double(), a, J)
    ordinary = value_and_derivative(one_by_one, x, a, J)
    for found, expected, plain in zip((value, derivative), exact, ordinary, strict=True):
        error, usual = ((result - expected).norm() / expected.norm() for result in (found, plain))
        assert error < 2e-6 + 2 * usual


@pytest.mark.parametrize("J", [1, 2, 7])
def test_derivative(J: int) -> None:
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: harmonic_sums(x, 0.7, J), x)


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(2, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(harmonic_sums(x, 0.2, 5).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("J", [1, 7, 16])
def test_the_fused_form_is_the_same_function(J: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced and made functional, as every backend has it; the last step alone would need a compiler.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    harmonics._fused.cache_clear()
    x = torch.randn(30, 50, dtype=torch.float64)
    value, derivative = value_and_derivative(harmonic_sums, x, 0.2, J, fused=True)
    harmonics._fused.cache_clear()
    expected = value_and_derivative(harmonic_sums, x, 0.2, J)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(derivative, expected[1])


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_no_tensor_is_larger_than_the_projected_samples() -> None:
    z = torch.randn(4096, 8, requires_grad=True)
    with Largest() as largest:
        SIGReg(EppsPulley(), 512)(z).backward()
    assert z.grad.any()
    assert largest.elements == 4096 * 512
