"""p-values of slices: uniform where the latents are Gaussian, small where something was planted."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from worldjepa.evaluation.gaussianity import p_values, random_basis, simulated, slice_tests
from worldjepa.sigreg import EppsPulley

TEST = EppsPulley()


def limit_law(test: EppsPulley, draws: int) -> np.ndarray:
    """What the statistic tends to as N grows: Σ λ χ²_1 with the eigenvalues λ of the weighted covariance of
    the cosines and sines at the knots, which is known for N(0, 1)."""
    t, target, weight = (v.numpy() for v in test.quadrature(torch.empty(0, dtype=torch.float64)))
    minus, plus = (np.exp(-(np.subtract.outer(t, s * t) ** 2) / 2) for s in (1, -1))
    cosines = (minus + plus) / 2 - np.outer(target, target)
    sines = (minus - plus) / 2
    root = np.sqrt(np.outer(weight, weight))
    values = np.concatenate([np.linalg.eigvalsh(root * block) for block in (cosines, sines)])
    return np.sort(np.random.default_rng(0).chisquare(1, (draws, len(values))) @ values)


def planted(kind: str, count: int, dim: int) -> Tensor:
    z = torch.randn(count, dim)
    if kind == "narrow":
        return 0.8 * z
    if kind == "shifted":
        return z + 0.3
    if kind == "flat":
        z[:, dim // 2 :] = 0
    if kind == "uniform":
        return (torch.rand(count, dim) - 0.5) * 12**0.5
    return z


def test_a_random_basis_is_orthonormal_and_of_its_seed() -> None:
    basis = random_basis(7, 0)
    assert torch.allclose(basis.T @ basis, torch.eye(7, dtype=torch.float64))
    assert torch.equal(basis, random_basis(7, 0))
    assert not torch.allclose(basis, random_basis(7, 1))


def test_directions_are_uniform_on_the_sphere() -> None:
    """In the plane their angles are."""
    x, y = torch.stack([random_basis(2, seed)[:, 0] for seed in range(400)]).T.numpy()
    assert stats.kstest(np.arctan2(y, x) / (2 * np.pi) % 1, "uniform").pvalue > 0.01


@pytest.mark.parametrize("count", [128, 1000])
def test_the_simulated_law_tends_to_the_limit_law(count: int) -> None:
    simulations = simulated(TEST, count, seed=0)
    assert (np.diff(simulations) >= 0).all()
    assert simulations.mean() == pytest.approx(TEST.floor, rel=0.05)
    limit = limit_law(TEST, 20_000)
    assert limit.mean() == pytest.approx(TEST.floor, rel=0.02)
    assert stats.ks_2samp(simulations, limit).pvalue > 0.01
    assert np.quantile(simulations, [0.5, 0.95]) == pytest.approx(np.quantile(limit, [0.5, 0.95]), rel=0.07)


def test_few_samples_have_a_law_of_their_own() -> None:
    """Of one sample the statistic has a largest value, of many it has not."""
    assert simulated(TEST, 1, seed=0).max() < 4 < simulated(TEST, 100, seed=0).max()
    assert stats.ks_2samp(simulated(TEST, 1, seed=0), limit_law(TEST, 4000)).pvalue < 1e-6


def test_p_values_are_shares_of_the_simulations() -> None:
    found = p_values(np.array([0.5, 2.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0]))
    assert found.tolist() == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("count", [128, 600])
def test_gaussian_latents_have_uniform_p_values(count: int) -> None:
    found = [slice_tests(TEST, torch.randn(count, 60), seed) for seed in range(3)]
    assert stats.kstest(np.concatenate([p for _, p, _ in found]), "uniform").pvalue > 0.01
    assert np.mean([row["rejected"] for row, _, _ in found]) == pytest.approx(0.05, abs=0.04)
    assert np.mean([row["mean"] for row, _, _ in found]) == pytest.approx(TEST.floor, rel=0.15)
    assert min(row["uniform"] for row, _, _ in found) > 1e-3


@pytest.mark.parametrize("kind", ["narrow", "shifted", "flat"])
def test_what_is_not_gaussian_is_found(kind: str) -> None:
    row, p, _ = slice_tests(TEST, planted(kind, 600, 40), seed=0)
    assert row["uniform"] < 1e-6
    assert row["rejected"] > 0.3
    assert row["mean"] > 1.5 * row["floor"]
    assert row["rejected"] == pytest.approx((p < 0.05).mean())


def test_slices_of_many_independent_uniform_axes_are_nearly_gaussian() -> None:
    """By the central limit theorem: what SIGReg sees is slices, and of one axis it would see it."""
    many, one = (planted("uniform", 600, dim) for dim in (60, 1))
    assert slice_tests(TEST, many, seed=0)[0]["rejected"] < 0.25
    assert slice_tests(TEST, one, seed=0)[0]["rejected"] == 1


def test_slices_come_in_the_order_of_their_p_values() -> None:
    z = torch.randn(300, 8)
    row, p, slices = slice_tests(TEST, z, seed=3)
    assert (row["samples"], row["slices"]) == (300, 8)
    assert slices == pytest.approx((z.double() @ random_basis(8, 3)).T.numpy(), abs=1e-5)
    statistics = TEST(torch.from_numpy(slices)).numpy()
    assert np.array_equal(np.argsort(-statistics, kind="stable"), np.argsort(p, kind="stable"))
