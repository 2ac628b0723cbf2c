"""How far a few labels go: linear probes on n images of each class, drawn anew several times."""

import warnings
from collections.abc import Sequence

import numpy as np


def few_shot(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    shots: Sequence[int],
    draws: int,
    penalty: float,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Accuracy of multinomial logistic regressions on n labelled images of each class.

    Features are standardised by all training images, which takes no label. Draw d of n shots is the same for
    all features.

    Args:
        x_train, x_test: (N, F). y_train, y_test: (N,) int64.
        shots: n, each left out where a class has fewer images.
        draws: of images, for each n.
        penalty: of the squared weights.
        seed: of the draws.

    Returns:
        by n: "mean" over the draws in per cent, and "low" and "high", Student's 95% interval of the mean.
    """
    # scikit-learn is slow to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x_train)
    x_train, x_test = scaler.transform(x_train), scaler.transform(x_test)
    members = [np.flatnonzero(y_train == label) for label in np.unique(y_train)]
    result = {}
    for n in shots:
        if n > min(map(len, members)):
            continue
        scores = []
        for draw in range(draws):
            rng = np.random.default_rng((seed, n, draw))
            chosen = np.concatenate([rng.choice(images, n, replace=False) for images in members])
            regression = LogisticRegression(C=1 / max(penalty, 1e-12), max_iter=300, tol=1e-3)
            with warnings.catch_warnings():
                # Where it has not quite converged, accuracy no longer moves.
                warnings.simplefilter("ignore", ConvergenceWarning)
                regression.fit(x_train[chosen], y_train[chosen])
            scores.append(100 * regression.score(x_test, y_test))
        low, high = interval(scores)
        result[str(n)] = {"mean": float(np.mean(scores)), "low": low, "high": high}
    return result


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95% interval of the mean; the value itself twice where there is one alone."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean - half, mean + half
