"""What `worldjepa geometry` tells of latents: planted shapes are found, and absent ones are not."""

import numpy as np
import pytest
import torch

from worldjepa.evaluation.cloud import describe, distances, plane
from worldjepa.sigreg import EppsPulley


def gaussian(count: int, dim: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, dim)).astype(np.float32)


def test_gaussian_latents_are_as_gaussian_ones_are() -> None:
    results, arrays = describe(gaussian(800, 20), EppsPulley(), 128, seed=0)
    assert (results["latent"], results["frames"]) == (20, 800)
    for name, value in results["gaussian"].items():
        assert results[name] == pytest.approx(value, rel=0.04)
    assert [row["samples"] for row in results["slices"]] == [128, 800]
    assert all(row["uniform"] > 1e-3 for row in results["slices"])
    assert arrays["spectrum"] == pytest.approx(arrays["gaussian_spectrum"], rel=0.1)
    assert arrays["quantiles"].shape == (6, len(arrays["levels"]))
    assert np.abs(arrays["quantiles"] - arrays["levels"]).mean() < 0.1


def test_a_flat_cloud_is_told_by_every_number() -> None:
    z = gaussian(800, 20) * np.where(np.arange(20) < 2, 1, 0.01).astype(np.float32)
    results, arrays = describe(z, EppsPulley(), 128, seed=0)
    assert results["rank"] < 4
    assert results["isotropy"] == pytest.approx(0.1, rel=0.02)
    assert results["std_min"] == pytest.approx(0.01, rel=0.1)
    assert (arrays["spectrum"][:2] > 0.9).all()
    assert (arrays["spectrum"][2:] < 2e-4).all()
    assert all(row["rejected"] > 0.8 for row in results["slices"])
    assert np.abs(arrays["quantiles"][-1] - arrays["levels"]).mean() > 0.5


def test_the_farthest_slice_is_the_last_one() -> None:
    _, arrays = describe(gaussian(400, 9) * np.arange(1, 10, dtype=np.float32), EppsPulley(), 64, seed=0)
    off = np.abs(arrays["quantiles"] - arrays["levels"]).mean(1)
    assert off[-1] == off.max()


def test_collapsed_latents_are_described_too() -> None:
    results, _ = describe(np.ones((50, 4), np.float32), EppsPulley(), 16, seed=0)
    assert results["rank"] == pytest.approx(1, abs=1e-3)
    assert results["std_mean"] == 0
    assert all(row["rejected"] == 1 for row in results["slices"])


def test_latents_that_are_the_coordinates_have_their_distances() -> None:
    """Each coordinate counts by its own spread, and one that does not vary does not."""
    y = gaussian(500, 3) * np.array([1.0, 100.0, 0.0])
    found, arrays = distances(y[:, :2] / y[:, :2].std(0), y, 2000, seed=0)
    assert found == {"distance_correlation": pytest.approx(1), "near_correlation": pytest.approx(1)}
    assert arrays["latent_distance"] == pytest.approx(arrays["physical_distance"])
    assert len(arrays["latent_distance"]) == 2000


def test_latents_of_noise_have_none() -> None:
    found, _ = distances(gaussian(500, 8), np.random.default_rng(2).normal(size=(500, 2)), 4000, seed=0)
    assert found == {name: pytest.approx(0, abs=0.1) for name in ("distance_correlation", "near_correlation")}


def test_distances_that_hold_nearby_alone_are_told_apart() -> None:
    """Latents along a curve that fills its space, as SIGReg asks for: what is far is all equally far."""
    y = np.linspace(0, 1, 600)[:, None]
    frequencies = np.random.default_rng(0).normal(0, 60, (1, 40))
    z = np.concatenate([np.cos(y * frequencies), np.sin(y * frequencies)], 1)
    found, _ = distances(z, y, 4000, seed=0)
    assert found["near_correlation"] > 0.8 > 0.5 > found["distance_correlation"]


def test_where_nothing_varies_nothing_correlates() -> None:
    none, _ = distances(np.ones((20, 3)), gaussian(20, 2), 50, seed=0)
    assert none == distances(gaussian(20, 3), np.ones((20, 2)), 50, seed=0)[0]
    assert set(none.values()) == {0.0}


def test_the_plane_is_that_of_the_principal_axes() -> None:
    z = gaussian(300, 5) * np.array([9, 4, 1, 1, 1], np.float32)
    points = plane(z)
    _, _, axes = np.linalg.svd(z - z.mean(0), full_matrices=False)
    assert np.abs(points) == pytest.approx(np.abs((z - z.mean(0)) @ axes[:2].T), abs=1e-3)
    assert plane(z[:, :1]).shape == (300, 2)
    assert torch.from_numpy(plane(z[:, :1]))[:, 1].abs().max() == 0
