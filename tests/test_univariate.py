"""The univariate tests against SciPy and their definitions, their gradients against differences."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from samples import SAMPLES
from scipy import stats
from torch import nn

from worldjepa.sigreg import EppsPulley, SIGReg
from worldjepa.univariate import (
    AndersonDarling,
    CramerVonMises,
    ExtendedJarqueBera,
    JarqueBera,
    VCReg,
    Watson,
)

Values = NDArray[np.float64]
TESTS = [AndersonDarling, CramerVonMises, ExtendedJarqueBera, JarqueBera, VCReg, Watson]
each_test = pytest.mark.parametrize("test", [make() for make in TESTS], ids=lambda t: type(t).__name__)
each_sample = pytest.mark.parametrize("name", SAMPLES)


# Oracles


def steps(x: Values) -> tuple[Values, Values, Values]:
    """Φ at both ends of the steps of the empirical distribution function, N + 1 each, and its value there."""
    edges = np.concatenate([[0.0], stats.norm.cdf(np.sort(x)), [1.0]])
    return edges[:-1], edges[1:], np.arange(len(x) + 1) / len(x)


def cramer_von_mises_by_integral(x: Values, offset: float = 0.0) -> float:
    """N ∫ (F_N - u - offset)² du, step by step."""
    a, b, F = steps(x)
    return len(x) * float((((b + offset - F) ** 3 - (a + offset - F) ** 3) / 3).sum())


def watson_by_integral(x: Values) -> float:
    """N ∫ (F_N - u - ∫ (F_N - u) du)² du, step by step."""
    a, b, F = steps(x)
    return cramer_von_mises_by_integral(x, offset=float((F * (b - a)).sum()) - 0.5)


def anderson_darling_by_integral(x: Values) -> float:
    """N ∫ (F_N - u)² / (u (1 - u)) du, step by step: the integrand is F²/u + (1-F)²/(1-u) - 1. What leaves
    the interval at either end is multiplied by 0."""
    a, b, F = steps(x)
    first = (F[1:] ** 2 * np.log(b[1:] / a[1:])).sum()
    second = ((1 - F[:-1]) ** 2 * np.log((1 - a[:-1]) / (1 - b[:-1]))).sum()
    return len(x) * float(first + second - 1)


def extended_jarque_bera(x: Values) -> float:
    """From SciPy's t-test, NumPy's variance and SciPy's Jarque-Bera."""
    t = stats.ttest_1samp(x, 0).statistic
    return t**2 + (len(x) - 1) * (x.var(ddof=1) - 1) ** 2 / 2 + stats.jarque_bera(x).statistic


def anderson_darling_of_scipy(x: Values) -> float:
    standard = {"loc": 0, "scale": 1}
    return stats.goodness_of_fit(
        stats.norm, x, known_params=standard, statistic="ad", n_mc_samples=1
    ).statistic


ORACLES = {
    "AndersonDarling, SciPy": (AndersonDarling(), anderson_darling_of_scipy),
    "CramerVonMises, SciPy": (CramerVonMises(), lambda x: stats.cramervonmises(x, "norm").statistic),
    "CramerVonMises, integral": (CramerVonMises(), cramer_von_mises_by_integral),
    "Watson, integral": (Watson(), watson_by_integral),
    "JarqueBera, SciPy": (JarqueBera(), lambda x: stats.jarque_bera(x).statistic),
    "ExtendedJarqueBera, SciPy": (ExtendedJarqueBera(), extended_jarque_bera),
    "VCReg, NumPy": (VCReg(), lambda x: x.mean() ** 2 + (x.std(ddof=1) - 1) ** 2),
}


@each_sample
@pytest.mark.parametrize("oracle", ORACLES)
def test_equals_its_oracle(oracle: str, name: str) -> None:
    test, expected = ORACLES[oracle]
    value = test(torch.from_numpy(SAMPLES[name]))
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(expected(SAMPLES[name]), rel=1e-8)


# Further than 8 standard deviations 1 - Φ is 0 in float64, and so is the integral's ability to see the tail.
@pytest.mark.parametrize("name", [name for name, x in SAMPLES.items() if abs(x).max() < 7])
def test_anderson_darling_equals_its_integral(name: str) -> None:
    value = AndersonDarling()(torch.from_numpy(SAMPLES[name])).item()
    assert value == pytest.approx(anderson_darling_by_integral(SAMPLES[name]), rel=1e-6)


@each_test
@each_sample
def test_float32_agrees_with_float64(test: nn.Module, name: str) -> None:
    x = torch.from_numpy(SAMPLES[name])
    single = test(x.float())
    assert single.dtype == torch.float32
    # To four digits: mean² + (s - 1)² and its like lose them to cancellation where a sample is nearly
    # Gaussian.
    torch.testing.assert_close(single.double(), test(x.float().double()), rtol=1e-4, atol=1e-5)


# Gradients


@each_test
@pytest.mark.parametrize("samples", [2, 3, 20])
def test_gradient(test: nn.Module, samples: int) -> None:
    # Apart from each other, so that the differences do not change the order.
    values = torch.linspace(-2, 1.5, 3 * samples, dtype=torch.float64) ** 3 / 2 + 0.1
    x = values[torch.randperm(3 * samples)].view(3, samples).requires_grad_()
    assert torch.autograd.gradcheck(test, x)


@each_test
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "values",
    [[0.0] * 8, [0.3] * 7, [-7.0] * 50, [1.0, 1.0], [-0.5, 0.8], [2.0], [1e-20, 0.0, -1e-20]],
    ids=str,
)
def test_degenerate_samples_give_finite_values_and_gradients(
    test: nn.Module, values: list[float], dtype: torch.dtype
) -> None:
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    value = test(x)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()


@each_test
def test_samples_far_out_give_finite_values_and_gradients(test: nn.Module) -> None:
    x = torch.tensor([-200.0, -30, 0, 1, 50, 300], requires_grad=True)
    value = test(x)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()


def test_anderson_darling_pulls_samples_in_from_far_out() -> None:
    x = torch.tensor([-1.0, 0.0, 50.0], requires_grad=True)
    AndersonDarling()(x).backward()
    assert x.grad[2] > 1


# Shape, order, factor


@each_test
def test_leading_axes_are_free_and_order_does_not_matter(test: nn.Module) -> None:
    x = torch.randn(3, 4, 25, dtype=torch.float64)
    values = test(x)
    assert values.shape == (3, 4)
    one_by_one = torch.stack([test(row) for row in x.flatten(0, 1)]).view(3, 4)
    torch.testing.assert_close(values, one_by_one)
    torch.testing.assert_close(test(x[..., torch.randperm(25)]), values)


@each_test
def test_a_factor_stands_in_place_of_the_number_of_samples(test: nn.Module) -> None:
    x = torch.randn(2, 25, dtype=torch.float64)
    expected = test(x) if isinstance(test, VCReg) else test(x) * 128 / 25
    torch.testing.assert_close(test(x, 128), expected)


@each_test
def test_half_precision_and_autocast_count_in_float32(test: nn.Module) -> None:
    x = torch.randn(40).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = test(x)
    assert value.dtype == torch.float32
    assert torch.equal(value, test(x.float()))


# What they mean


@each_test
def test_floor_is_the_mean_over_gaussian_samples(test: nn.Module) -> None:
    values = test(torch.randn(20_000, 500, dtype=torch.float64))
    error = 4 * values.std().item() / math.sqrt(len(values))
    # N = 500 is not N = ∞: of the moments' tests the mean comes near by 3 per cent.
    assert values.mean().item() == pytest.approx(test.floor, abs=error + 0.03 * test.floor + 0.01)


def test_watson_does_not_mind_where_the_circle_begins() -> None:
    u = torch.rand(50, dtype=torch.float64)
    turned = [torch.special.ndtri((u + turn) % 1) for turn in (0.0, 0.3, 0.77)]
    values = [Watson()(x) for x in turned]
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])
    assert abs(CramerVonMises()(turned[1]) - CramerVonMises()(turned[0])) > 0.1


def test_jarque_bera_sees_neither_mean_nor_variance_and_its_extension_does() -> None:
    x = torch.randn(200, dtype=torch.float64)
    torch.testing.assert_close(JarqueBera()(3 * x + 5), JarqueBera()(x))
    assert ExtendedJarqueBera()(3 * x) > ExtendedJarqueBera()(x) + 100
    assert ExtendedJarqueBera()(x + 5) > ExtendedJarqueBera()(x) + 100


@pytest.mark.parametrize("scale", [0.003, 0.03])
def test_vcreg_over_many_slices_is_made_of_the_moments_that_vicreg_uses(scale: float) -> None:
    dim, samples = 6, 400
    identity = torch.eye(dim, dtype=torch.float64)
    spread, shift = torch.randn(dim, dim, dtype=torch.float64), torch.randn(dim, dtype=torch.float64)
    z = torch.randn(samples, dim, dtype=torch.float64)
    whitened = (z - z.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
    z = whitened @ (identity + scale * (spread + spread.T)) + scale * shift
    difference = z.T.cov() - identity
    mean = z.mean(0).square().sum() / dim
    variance = (2 * difference.square().sum() + difference.trace() ** 2) / (4 * dim * (dim + 2))
    value = SIGReg(VCReg(), 100_000).eval()(z)
    # What is left out of (s - 1)² ≈ (s² - 1)²/4 is of the next order.
    assert value.item() == pytest.approx((mean + variance).item(), rel=0.02 + 5 * scale)
    assert mean > 0.1 * value
    assert variance > 0.1 * value


def test_vcreg_is_blind_to_what_epps_pulley_sees() -> None:
    x = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(64)
    x = x / x.std()
    assert VCReg()(x) < 1e-12
    assert EppsPulley()(x) > 10
