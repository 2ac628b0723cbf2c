"""Scripts of `scripts/figures/` on the theory: what is plotted is what the document claims."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

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
