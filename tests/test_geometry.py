"""Rank and spread of latents against their closed forms."""

import numpy as np
import pytest
import torch

from worldjepa.evaluation.geometry import isotropy, rank_me, spectrum, spread, straightness, whitening


def orthonormal(rows: int, columns: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64))[0]


@pytest.mark.parametrize("dim", [1, 4, 32])
def test_isotropic_latents_have_full_rank(dim: int) -> None:
    assert rank_me(3 * orthonormal(100, dim)) == pytest.approx(dim, rel=1e-4)


def test_latents_on_a_line_have_rank_one() -> None:
    line = torch.randn(100, 1) * torch.randn(1, 16)
    assert rank_me(line) == pytest.approx(1, abs=1e-3)


def test_rank_is_the_exponential_of_the_entropy_of_the_singular_values() -> None:
    values = torch.tensor([5.0, 3.0, 1.0, 1.0], dtype=torch.float64)
    z = orthonormal(60, 4) @ torch.diag(values) @ orthonormal(4, 4).T
    share = values.numpy() / 10
    assert rank_me(z) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)


def test_rank_knows_neither_scale_nor_rotation() -> None:
    z = torch.randn(80, 6, dtype=torch.float64) * torch.arange(1, 7)
    assert rank_me(100 * z @ orthonormal(6, 6)) == pytest.approx(rank_me(z), rel=1e-9)


def test_spread_is_the_smallest_and_the_mean_standard_deviation() -> None:
    z = torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, 5.0]])
    smallest, mean = spread(z)
    assert smallest == 0
    assert mean == pytest.approx((np.sqrt(2) + 0 + np.sqrt(8)) / 3)
    smallest, mean = spread(torch.randn(20_000, 8))
    assert (smallest, mean) == pytest.approx((1, 1), abs=0.03)


def test_whitened_latents_have_the_identity_as_covariance() -> None:
    z = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    w = whitening(z, floor=0)
    assert torch.allclose(w, w.T)
    assert torch.allclose(torch.cov((z @ w).T), torch.eye(6, dtype=torch.float64), atol=1e-9)


def test_whitening_leaves_small_what_hardly_varies() -> None:
    """On a diagonal covariance: each axis over the root of its own variance + a share of the mean one."""
    z = orthonormal(401, 3)
    z = (z - z.mean(0)) @ torch.diag(torch.tensor([20.0, 2.0, 0.0], dtype=torch.float64))
    covariance = torch.cov(z.T)
    expected = torch.linalg.inv(covariance + 0.1 * covariance.trace() / 3 * torch.eye(3))
    assert torch.allclose(whitening(z) @ whitening(z), expected)
    assert whitening(z)[2, 2] < 2 * whitening(z)[1, 1]


def test_the_spectrum_is_that_of_the_covariance() -> None:
    z = orthonormal(200, 3)
    z = (z - z.mean(0)) @ torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    expected = np.linalg.eigvalsh(np.cov(z.numpy().T))[::-1]
    assert spectrum(z).numpy() == pytest.approx(expected, abs=1e-12)
    assert (spectrum(z) >= 0).all()
    assert spectrum(torch.randn(50, 1)).shape == (1,)


@pytest.mark.parametrize(
    ("variances", "expected"),
    [([2.0, 2.0, 2.0, 2.0], 1), ([5.0, 0.0, 0.0, 0.0], 0.25), ([1.0, 1.0, 0.0, 0.0], 0.5), ([0.0, 0.0], 0.5)],
)
def test_isotropy_is_the_share_of_axes_that_have_the_variance(variances: list, expected: float) -> None:
    assert isotropy(torch.tensor(variances, dtype=torch.float64)) == pytest.approx(expected)


def test_straightness_by_hand() -> None:
    """Right, then up: 0; up, then up and right: √½."""
    z = torch.tensor([[[0.0, 0], [2, 0], [2, 1], [3, 2]]])
    assert straightness(z) == pytest.approx((0 + 0.5**0.5) / 2)
    assert straightness(-7 * z + 3) == pytest.approx(straightness(z))


def test_straightness_of_lines_walks_and_disorder() -> None:
    steps = torch.randn(2000, 6, 20)
    assert straightness(steps[:, :1].expand(-1, 6, -1).cumsum(1)) == pytest.approx(1)
    assert straightness(steps.cumsum(1)) == pytest.approx(0, abs=0.01)
    assert straightness(steps) == pytest.approx(-0.5, abs=0.01)
    back_and_forth = steps[:, :2].repeat(1, 3, 1)
    assert straightness(back_and_forth) == pytest.approx(-1)
    assert straightness(torch.ones(3, 4, 5)) == 0
