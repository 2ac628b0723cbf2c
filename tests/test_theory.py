"""Scripts of `scripts/figures/` on the theory: what is plotted is what the document claims."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[1] / "scripts" / "figures"


@pytest.fixture
def script(monkeypatch):
    """A script by its name, as a module; the scripts import their neighbour `_figure` by its bare name."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name: str) -> ModuleType:
        specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    torch.manual_seed(0)
    yield load
    sys.modules.pop("_figure", None)


@pytest.mark.parametrize("name", ["Gaussian", "Laplace", "two points"])
@pytest.mark.parametrize("debiased", [False, True])
def test_theorem_6_gives_the_bias_of_the_value_and_of_the_gradient(script, name, debiased):
    theorem6 = script("theorem6_bias")
    sampler, characteristic = theorem6.DISTRIBUTIONS[name]
    divergence, bias, divergence_slope, bias_slope = theorem6.theory(characteristic)
    N = 8
    mean, error = theorem6.measure(sampler, N, 20000, debiased).T
    expected = torch.tensor([divergence, divergence_slope])
    if not debiased:
        expected = expected + torch.tensor([bias, bias_slope]) / N
    assert ((mean - expected).abs() < 4 * error).all()
    assert (4 * error < torch.tensor([bias, bias_slope]) / N).all(), "the bias could not be seen"


def test_the_bias_draws_gaussian_samples_together_and_less_with_more_of_them(script):
    best_scale = script("theorem6_bias").best_scale
    scales = [best_scale(N) for N in (8, 16, 128)]
    assert scales == sorted(scales)
    assert 0.8 < scales[0] < scales[-1] < 1
    assert 1 - best_scale(2000) == pytest.approx((1 - best_scale(1000)) / 2, rel=0.01)


@pytest.mark.parametrize("sigma", [0.5, 1.0, math.sqrt(2), 3.0])
@pytest.mark.parametrize("N", [1, 3, 8])
def test_theorem_4_holds_without_its_factor_and_its_worst_case_is_the_closed_form(script, sigma, N):
    theorem4 = script("theorem4_gradient")
    gradient, curvature = theorem4.worst(sigma, N)
    assert gradient == pytest.approx(theorem4.supremum(sigma, N), rel=0.02)
    constant = curvature / (math.sqrt(math.pi) * sigma**3 / 2)
    assert constant == pytest.approx(theorem4.supremum_curvature(sigma, N), rel=0.02)
    assert theorem4.worst_of_random(sigma, N, 500) <= theorem4.supremum(sigma, N) < 4 * sigma**2


def test_the_statistic_with_its_factor_breaks_the_printed_bound(script):
    # worst() is N times the gradient without the factor, so it is the gradient with it.
    gradient, _ = script("theorem4_gradient").worst(1.0, 16)
    assert 4 / 16 < gradient < 4


def test_lemma_1_worst_average_and_best_task(script):
    probes = script("lemmas_probes")
    isotropic, anisotropic = (probes.spectrum(condition) for condition in (1.0, 20.0))
    assert isotropic.sum() == pytest.approx(anisotropic.sum()) == pytest.approx(2)
    z = probes.embeddings(anisotropic)
    noise = torch.randn(20000, probes.N, dtype=torch.float64)
    beta = torch.ones(2, dtype=torch.float64)
    measured = beta - probes.fitted(z, z @ beta + noise, 50.0).mean(0)
    torch.testing.assert_close(measured, probes.bias(anisotropic, 50.0), atol=0.005, rtol=0)
    best, worst = probes.bias(anisotropic, 50.0)
    assert best < probes.bias(isotropic, 50.0)[0] < (best**2 + worst**2).div(2).sqrt() < worst


def test_lemma_2_parameters_vary_more_but_predictions_do_not(script):
    probes = script("lemmas_probes")
    variances = probes.spectrum(20.0)
    z = probes.embeddings(variances)
    error = probes.fitted(z, torch.randn(20000, probes.N, dtype=torch.float64), 0.0)
    assert float(error.square().sum(-1).mean()) == pytest.approx(probes.total_variance(variances), rel=0.05)
    assert probes.total_variance(variances) / probes.total_variance(probes.spectrum(1.0)) == pytest.approx(
        5.5125
    )
    assert float((variances * error.square()).sum(-1).mean()) == pytest.approx(2 / probes.N, rel=0.05)


def test_theorem_1_on_gaussians_is_the_closed_form(script):
    theorem1 = script("theorem1_bias")
    shapes = theorem1.densities()
    for name, variances in (("isotropic Gaussian", (1, 1)), ("Gaussian, condition 4", (1.6, 0.4))):
        p = shapes[name]
        assert theorem1.fisher_information(p) == pytest.approx(sum(1 / v for v in variances), rel=0.01)
        # A Gaussian smoothed by a kernel of deviation h draws x to x·v / (v + h²).
        for h in (0.3, 1.0):
            exact = sum(v * (h**2 / (v + h**2)) ** 2 for v in variances) / 2
            assert theorem1.linear_bias(p, theorem1.gaussian(h)) == pytest.approx(exact, rel=1e-3)


def test_theorem_1_the_isotropic_gaussian_has_the_least_bias_of_nearby_queries(script):
    theorem1 = script("theorem1_bias")
    shapes = theorem1.densities()
    for p in shapes.values():
        assert (p * (theorem1.X**2 + theorem1.Y**2)).sum() == pytest.approx(2, rel=0.01)
    for kernel in (theorem1.ball(0.15), theorem1.gaussian(0.15)):
        bias = {name: theorem1.linear_bias(p, kernel) for name, p in shapes.items()}
        assert min(bias, key=bias.get) == "isotropic Gaussian"
    # The leading term for a ball in two dimensions: r⁴/16 · J / 2.
    assert theorem1.linear_bias(shapes["isotropic Gaussian"], theorem1.ball(0.15)) == pytest.approx(
        0.15**4 / 16, rel=0.05
    )


@pytest.mark.parametrize("n", [1, 2, 3, 6, 10])
def test_theorem_3_moments_are_equal_up_to_2n_minus_1_and_the_next_is_not(script, n):
    *equal, following = script("theorem3_moments").moment_errors(n)
    scale = math.prod(range(1, 2 * n, 2))
    assert max(map(abs, equal)) < 1e-12 * scale
    assert following == pytest.approx(-math.factorial(n), rel=1e-6)


def test_theorem_3_epps_pulley_tells_apart_what_four_moments_do_not(script):
    theorem3 = script("theorem3_moments")
    power = {name: theorem3.power(test, 3, 0.3, 512, 300) for name, test in theorem3.TESTS.items()}
    assert power["extended Jarque-Bera"] < 0.1
    assert min(power["Epps-Pulley"], power["Anderson-Darling"]) > 0.9
    # Of two signs, φ_P is cos t, and the divergence an integral of one variable.
    t = np.linspace(-3, 3, 33)
    exact = np.trapezoid((np.cos(t) - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2), t)
    assert theorem3.divergence(2, 0.0) == pytest.approx(exact, rel=1e-9)


def test_theorem_5_harmonics_are_orthonormal_and_the_constant_is_the_closed_form(script):
    theorem5 = script("theorem5_slices")
    x = theorem5.spread_directions(20000)
    values = theorem5.harmonics(x)
    assert np.abs(values.T @ values / len(x) - np.eye(325)).max() < 0.02
    for degree in (2, 24):
        # The addition theorem.
        sums = (values[:, degree == theorem5.DEGREES] ** 2).sum(-1)
        np.testing.assert_allclose(sums, 2 * degree + 1, rtol=1e-8)
    for alpha in (2.0, 7.5):
        assert math.exp(theorem5.log_constant(3, alpha)) == pytest.approx(4**alpha * math.pi * alpha / 2)


def test_theorem_5_the_worst_function_vanishes_and_fades_with_directions(script):
    theorem5 = script("theorem5_slices")
    directions = theorem5.spread_directions(32)
    errors = [theorem5.worst_error(directions[:M], 2.0) for M in (1, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    # No function that vanishes there has more: not any of a thousand random ones.
    seen = theorem5.harmonics(directions)
    coefficients = np.random.default_rng(0).standard_normal((1000, 325)) / (1 + theorem5.DEGREES) ** 2
    coefficients -= coefficients @ np.linalg.pinv(seen) @ seen
    assert np.abs(coefficients @ seen.T).max() < 1e-8
    norm = (1.0 + theorem5.DEGREES * (theorem5.DEGREES + 1)) ** 2.0
    assert ((coefficients**2).sum(-1) / (coefficients**2 @ norm)).max() <= errors[-1] * (1 + 1e-9)
