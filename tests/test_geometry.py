"""Rank and spread of latents against their closed forms."""

import numpy as np
import pytest
import torch

from worldjepa.evaluation.geometry import rank_me, spread, whitening


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
