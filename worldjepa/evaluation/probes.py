"""Probes: how well a ridge regression reads physical quantities from frozen latents."""

from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from ..data.windows import Windows
from ..errors import UserError
from ..world_model import WorldModel


@torch.inference_mode()
def embed(model: WorldModel, windows: Windows, indices: np.ndarray, label: str) -> np.ndarray:
    """Latents of windows, (n, T, D) float32."""
    device = next(model.parameters()).device
    parts = [
        model.encode(windows.batch(part)["pixels"].to(device)).float().cpu().numpy()
        for part in tqdm(np.array_split(indices, max(1, len(indices) // 128)), desc=label, leave=False)
    ]
    return np.concatenate(parts)


def targets(
    env: Any, windows: Windows, indices: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the last frame of each window shows: its coordinates, and its velocities, by name, (n,) each.

    Coordinates are those that the environment names, or, where it names none, the entries of `qpos`, else of
    `observation`, else of `state`. Velocities are the entries of `qvel`; without that column there are none.

    Raises:
        UserError: the data have none of these columns.
    """
    store, last = windows.store, windows.starts[indices] + (windows.frames - 1) * windows.frameskip

    def entries(column: str) -> np.ndarray:
        return store.gather(column, windows.episodes[indices], last[:, None])[:, 0]

    def named(label: str, values: np.ndarray) -> dict[str, np.ndarray]:
        return {f"{label} {i}": column for i, column in enumerate(values.reshape(len(values), -1).T)}

    velocities = named("velocity", entries("qvel")) if store.has("qvel") else {}
    if hasattr(env, "coordinates") and store.has("qpos"):
        return env.coordinates(entries("qpos")), velocities
    column = next((name for name in ("qpos", "observation", "state") if store.has(name)), None)
    if column is None:
        raise UserError(f"{store.path}: has no column qpos, observation or state, which probes read")
    return named(column, entries(column)), velocities


def fit_ridge(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, alpha: float
) -> dict[str, float]:
    """R² and Pearson's r on the test set of a ridge regression, features standardised on the training set.
    Where nothing varies, r is 0.

    Args:
        x_train, x_test: (n, d). y_train, y_test: (n,). alpha: penalty.
    """
    probe = make_pipeline(StandardScaler(), Ridge(alpha)).fit(x_train, y_train)
    predicted = probe.predict(x_test)
    # A collapsed encoder gives one prediction for all, and a correlation needs two.
    varies = min(np.ptp(y) / (np.abs(y).max() or 1) for y in (y_test, predicted)) > 1e-9
    r = pearsonr(y_test, predicted).statistic if varies else 0.0
    return {"r2": float(r2_score(y_test, predicted)), "r": float(r)}


def probe(
    model: WorldModel,
    env: Any,
    train: Windows,
    test: Windows,
    train_frames: int,
    test_frames: int,
    alpha: float,
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """Ridge probes of coordinates from the last frame's latent, of velocities from all of a window's.

    Args:
        train, test: windows of `context` frames of training and of held-out episodes.

    Returns:
        {"coordinates": {name: {"r2", "r"}}, "velocities": {name: {"r2", "r"}}}.
    """
    rng = np.random.default_rng(seed)
    sides = []
    for windows, count, label in (
        (train, train_frames, "embed training"),
        (test, test_frames, "embed held-out"),
    ):
        indices = np.sort(rng.permutation(len(windows))[:count])
        sides.append((embed(model, windows, indices, label), *targets(env, windows, indices)))
    (z_train, *y_train), (z_test, *y_test) = sides
    features = {
        "coordinates": (z_train[:, -1], z_test[:, -1]),
        "velocities": (z_train.reshape(len(z_train), -1), z_test.reshape(len(z_test), -1)),
    }
    return {
        kind: {
            name: fit_ridge(features[kind][0], values, features[kind][1], y_test[which][name], alpha)
            for name, values in y_train[which].items()
        }
        for which, kind in enumerate(features)
    }
