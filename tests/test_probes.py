"""Probes: a ridge regression by the book, and physical quantities read from latents that hold them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from moving_dot import DotModel, DotWorld, dot_frames, write_dots, write_episodes
from torch import Tensor

from worldjepa.data.shards import Store
from worldjepa.data.windows import Windows, split_episodes
from worldjepa.evaluation.probes import embed, fit_ridge, probe, targets


def ridge_by_hand(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, alpha: float) -> np.ndarray:
    """Predictions of argmin |y - Xw - b|² + α|w|² in closed form, X standardised by itself."""
    mean, std = x.mean(0), x.std(0)
    scaled = (x - mean) / std
    weights = np.linalg.solve(scaled.T @ scaled + alpha * np.eye(x.shape[1]), scaled.T @ (y - y.mean()))
    return y.mean() + (x_new - mean) / std @ weights


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 300.0])
def test_the_ridge_regression_is_that_of_the_book(alpha: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(260, 7)) @ rng.normal(size=(7, 7)) * np.logspace(-2, 2, 7) + rng.normal(size=7)
    y = x @ rng.normal(size=7) / np.logspace(-2, 2, 7).mean() + 0.5 * rng.normal(size=260) + 3
    train, test = slice(0, 200), slice(200, None)
    predicted = ridge_by_hand(x[train], y[train], x[test], alpha)
    r2 = 1 - ((y[test] - predicted) ** 2).sum() / ((y[test] - y[test].mean()) ** 2).sum()
    found = fit_ridge(x[train], y[train], x[test], y[test], alpha)
    assert found == pytest.approx({"r2": r2, "r": np.corrcoef(y[test], predicted)[0, 1]}, abs=1e-6)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Windows, Windows]:
    """Windows of three frames of training and of held-out episodes."""
    store = Store(write_dots(tmp_path_factory.mktemp("dots"), episodes=12))
    training, held_out = split_episodes(12, 0.34, 0)
    return Windows(store, training, 3, 2), Windows(store, held_out, 3, 2)


def test_latents_are_those_of_the_model_in_the_order_asked_for(sides: tuple[Windows, Windows]) -> None:
    windows, model = sides[0], DotModel()
    indices = np.array([5, 0, 200, 3, *range(50, 190)])
    z = embed(model, windows, indices, "embed")
    assert z.shape == (144, 3, 4)
    assert z.dtype == np.float32
    with torch.no_grad():
        assert np.array_equal(z, model.encode(windows.batch(indices)["pixels"]).numpy())


def test_targets_are_those_of_the_last_frame(sides: tuple[Windows, Windows]) -> None:
    windows, indices = sides[0], np.array([0, 7, 100])
    coordinates, velocities = targets(DotWorld(), windows, indices)
    last = windows.starts[indices] + 2 * 2
    qpos, qvel = (
        windows.store.gather(n, windows.episodes[indices], last[:, None])[:, 0] for n in ("qpos", "qvel")
    )
    assert list(coordinates) == ["sin 0", "sin 1", "cos 0", "cos 1"]
    assert np.array_equal(coordinates["cos 1"], np.cos(2 * np.pi * qpos[:, 1]))
    assert list(velocities) == ["velocity 0", "velocity 1"]
    assert np.array_equal(velocities["velocity 1"], qvel[:, 1])


def test_angles_are_read_from_latents_that_hold_them(sides: tuple[Windows, Windows]) -> None:
    found = probe(DotModel(), DotWorld(), *sides, train_frames=300, test_frames=100, alpha=1.0, seed=0)
    assert [len(rows) for rows in found.values()] == [4, 2]
    for row in found["coordinates"].values():
        assert row["r2"] > 0.999
        assert row["r"] > 0.999


def test_angles_are_not_read_from_noise(sides: tuple[Windows, Windows]) -> None:
    class Noise(DotModel):
        def encode(self, frames: Tensor) -> Tensor:
            return torch.randn(*frames.shape[:-3], 4)

    found = probe(Noise(), DotWorld(), *sides, train_frames=300, test_frames=100, alpha=1.0, seed=0)
    assert all(row["r2"] < 0.1 for rows in found.values() for row in rows.values())


class Position(DotModel):
    """Its latent is the dot's position itself, (..., 2)."""

    def encode(self, frames: Tensor) -> Tensor:
        cosine, sine = super().encode(frames).chunk(2, -1)
        return torch.atan2(sine, cosine) / (2 * torch.pi) % 1


@pytest.mark.parametrize(("frames", "readable"), [(2, True), (1, False)])
def test_velocities_need_two_frames(tmp_path: Path, frames: int, readable: bool) -> None:
    rng, episodes = np.random.default_rng(0), []
    for _ in range(8):
        # Waves of their own frequency and phase, that stay within the picture.
        wave = np.arange(80)[:, None] * rng.uniform(0.2, 0.6, 2) + rng.uniform(0, 6, 2)
        qpos = 0.5 + 0.3 * np.sin(wave)
        qvel = np.diff(qpos, axis=0, prepend=qpos[:1])
        episode = {
            "pixels": dot_frames(qpos),
            "action": np.zeros((80, 2), np.float32),
            "qpos": qpos,
            "qvel": qvel,
        }
        episodes.append({name: column[1:] for name, column in episode.items()})
    store = Store(write_episodes(tmp_path, episodes))
    sides = [Windows(store, part, frames, 1) for part in (np.arange(6), np.arange(6, 8))]
    found = probe(Position(), DotWorld(), *sides, train_frames=400, test_frames=100, alpha=1e-3, seed=0)
    for row in found["velocities"].values():
        assert (row["r2"] > 0.99) == readable
        assert readable or row["r2"] < 0.2


def test_what_marks_an_episode_does_not_help_on_another(tmp_path: Path) -> None:
    """Episodes rest, each at a place of its own, and the latent tells which episode it is, no more: a probe
    that is judged on windows of the episodes it was fitted on is perfect, an honest one knows nothing."""
    places = np.random.default_rng(0).uniform(0.2, 0.8, (30, 1, 2)).repeat(20, 1)
    episodes = [
        {"pixels": np.full((20, 8, 8, 3), i, np.uint8), "action": q.astype(np.float32), "qpos": q, "qvel": q}
        for i, q in enumerate(places)
    ]
    store = Store(write_episodes(tmp_path, episodes))

    class Name(DotModel):
        def encode(self, frames: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(frames[..., 0, 0, 0].long(), 30).float()

    training, held_out = (Windows(store, part, 2, 1) for part in split_episodes(30, 0.4, 0))
    honest = probe(Name(), DotWorld(), training, held_out, 400, 200, 1.0, 0)
    leaking = probe(Name(), DotWorld(), training, training, 400, 200, 1.0, 0)
    for kind in ("coordinates", "velocities"):
        assert all(row["r2"] < 0.1 for row in honest[kind].values())
        assert all(row["r2"] > 0.95 for row in leaking[kind].values())


def test_no_more_frames_are_used_than_asked_for(sides: tuple[Windows, Windows]) -> None:
    class Counting(DotModel):
        seen = 0

        def encode(self, frames: Tensor) -> Tensor:
            self.seen += len(frames)
            return super().encode(frames)

    model = Counting()
    probe(model, DotWorld(), *sides, train_frames=30, test_frames=20, alpha=1.0, seed=0)
    assert model.seen == 30 + 20
    one, same, other = (
        probe(DotModel(), DotWorld(), *sides, train_frames=30, test_frames=20, alpha=1.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one == same != other


def test_a_collapsed_encoder_reads_nothing() -> None:
    y = np.random.default_rng(0).normal(size=50)
    found = fit_ridge(np.ones((50, 3)), y, np.ones((50, 3)), y, alpha=1.0)
    assert found["r"] == 0
    assert found["r2"] == pytest.approx(0)
