"""R², correlation and accuracy of probes, with intervals over seeds and over held-out episodes."""

from typing import Any

import numpy as np
from scipy.stats import pearsonr

from .few_shot import interval

RESAMPLES = 1000


def resampled(episodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bootstrap: which episode (m,), from 0 on, each frame is of, and how often each episode is drawn in
    each resample, (RESAMPLES, E). Frames of one episode are no independent draws, episodes are."""
    names, index = np.unique(episodes, return_inverse=True)
    count = len(names)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return index, drawn


def score_values(
    y: np.ndarray, predicted: np.ndarray, episodes: np.ndarray
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What predictions of held-out values are worth.

    Args:
        y: (m, k) the values. predicted: (S, m, k), of each seed's probe.
        episodes: (m,) which episode each frame is of.

    Returns:
        of each value, and of their mean: "r2", the mean over seeds; "seeds", Student's 95% interval of that;
        "episodes", the 95% interval of a bootstrap over held-out episodes. Of each value "r" too, Pearson's,
        0 where nothing varies.
    """
    index, drawn = resampled(episodes)
    whole = np.ones((1, drawn.shape[1]))
    scores = np.concatenate([_r2(y, p[None], index, whole) for p in predicted])
    again = _r2(y, predicted, index, drawn)
    rows = []
    for column, of_seeds in enumerate(scores.T):
        row = _row("r2", of_seeds, again[:, column])
        r = np.mean([correlation(y[:, column], p[:, column]) for p in predicted])
        rows.append({**row, "r": float(r)})
    return rows, _row("r2", scores.mean(1), again.mean(1))


def score_classes(
    right: np.ndarray, chance: np.ndarray, episodes: np.ndarray
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The same of classes.

    Args:
        right: (S, m, k) bool. chance: (S, k), the share right without a look.

    Returns:
        as of `score_values`, with "accuracy" and "chance", shares, in place of "r2" and "r".
    """
    index, drawn = resampled(episodes)
    frames = drawn @ np.bincount(index)
    hits = np.stack([np.bincount(index, column) for column in right.mean(0).T], 1)
    scores, again, chances = right.mean(1), (drawn @ hits) / frames[:, None], chance.mean(0)
    rows = [
        {**_row("accuracy", scores[:, i], again[:, i]), "chance": float(chances[i])}
        for i in range(right.shape[2])
    ]
    mean = {**_row("accuracy", scores.mean(1), again.mean(1)), "chance": float(chances.mean())}
    return rows, mean


def correlation(y: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's r of (m,) and (m,); 0 where one does not vary: a collapsed encoder gives one prediction for
    all, and a correlation needs two."""
    varies = min(np.ptp(values) / (np.abs(values).max() or 1) for values in (y, predicted)) > 1e-9
    return float(pearsonr(y, predicted).statistic) if varies else 0.0


def _row(name: str, of_seeds: np.ndarray, again: np.ndarray) -> dict[str, Any]:
    low, high = np.quantile(again, [0.025, 0.975])
    seeds = list(interval([float(value) for value in of_seeds]))
    return {name: float(np.mean(of_seeds)), "seeds": seeds, "episodes": [float(low), float(high)]}


def _r2(y: np.ndarray, predicted: np.ndarray, index: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """R², its mean over seeds, (B, k), where each episode counts as often as `drawn`, (B, E), says: from the
    sums over each episode, which `index` (m,) tells of each frame."""
    # Centred, so that the difference of two large numbers below keeps its digits.
    centred = y - y.mean(0)

    def summed(values: np.ndarray) -> np.ndarray:
        return drawn @ np.stack([np.bincount(index, column) for column in values.T], 1)

    frames = summed(np.ones((len(y), 1)))
    total = summed(centred**2) - summed(centred) ** 2 / frames
    error = summed(np.mean((predicted - y) ** 2, 0))
    # What varies by rounding alone does not vary.
    varies = total > 1e-20 * frames * np.abs(y).max(0) ** 2
    # As scikit-learn says: of values that do not vary R² is 1 where all are right, else 0.
    return np.where(varies, 1 - error / np.where(varies, total, 1), error <= 0)
