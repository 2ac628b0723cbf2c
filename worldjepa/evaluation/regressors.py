"""The kinds of probe: each is fitted on features and target values, and gives a function from features to
values. Features are standardised by those that it is fitted on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from .image_probes import linear_predictions

# From features (n, d) to values (n, k).
Reader = Callable[[np.ndarray], np.ndarray]

NEIGHBOURS = 10
WIDTH, BATCH, RATE, DECAY = 128, 512, 3e-3, 1.0


class Settings(NamedTuple):
    """alpha: penalty of the ridge and of the logistic regression. steps: optimizer steps of the MLP. seed: of
    its initial weights and its batches."""

    alpha: float
    steps: int
    seed: int


def fit_ridge(x: np.ndarray, y: np.ndarray, settings: Settings) -> Reader:
    """Ridge regression; x (n, d), y (n, k)."""
    return _reader(Ridge(settings.alpha), x, y)


def fit_knn(x: np.ndarray, y: np.ndarray, settings: Settings) -> Reader:
    """Mean over the nearest, weighted by 1 / distance."""
    return _reader(KNeighborsRegressor(min(NEIGHBOURS, len(x)), weights="distance"), x, y)


def _reader(estimator: BaseEstimator, x: np.ndarray, y: np.ndarray) -> Reader:
    fitted = make_pipeline(StandardScaler(), estimator).fit(x, y)
    # Of one value scikit-learn gives (n,).
    return lambda features: fitted.predict(features).reshape(-1, y.shape[1])


def fit_mlp(x: np.ndarray, y: np.ndarray, settings: Settings) -> Reader:
    """Two hidden layers, all values at once, each standardised.

    A fixed number of AdamW's steps, with a learning rate that falls to 0 and a large weight decay: where most
    of what is asked for is noise, as in velocities, that reads more than a constant rate stopped early does.
    """
    x_scaler, y_scaler = StandardScaler().fit(x), StandardScaler().fit(y)
    inputs, wanted = (
        torch.from_numpy(scaler.transform(values).astype(np.float32))
        for scaler, values in ((x_scaler, x), (y_scaler, y))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = nn.Sequential(
            nn.Linear(x.shape[1], WIDTH), nn.GELU(),
            nn.Linear(WIDTH, WIDTH), nn.GELU(),
            nn.Linear(WIDTH, y.shape[1]),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        for _ in range(settings.steps):
            batch = torch.randint(len(inputs), (min(BATCH, len(inputs)),))
            loss = (net(inputs[batch]) - wanted[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()

    @torch.no_grad()
    def read(features: np.ndarray) -> np.ndarray:
        scaled = torch.from_numpy(x_scaler.transform(features).astype(np.float32))
        return y_scaler.inverse_transform(net(scaled).numpy().astype(np.float64))

    return read


REGRESSORS = {"ridge": fit_ridge, "mlp": fit_mlp, "knn": fit_knn}


def quartiles(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, alpha: float
) -> tuple[np.ndarray, float]:
    """In which quarter of its training values each value lies, as a multinomial logistic regression says.

    Args:
        x_train, x_test: (n, d), (m, d). y_train, y_test: (n,), (m,).

    Returns:
        (m,) bool, which are right; and the share that is right by naming the commonest quarter each time. Of
        what takes few values, quarters fall together.
    """
    edges = np.unique(np.quantile(y_train, [0.25, 0.5, 0.75]))
    classes, wanted = np.digitize(y_train, edges), np.digitize(y_test, edges)
    chance = float((wanted == np.bincount(classes).argmax()).mean())
    if len(np.unique(classes)) == 1:
        return wanted == classes[0], chance
    return linear_predictions(x_train, classes, x_test, alpha) == wanted, chance
