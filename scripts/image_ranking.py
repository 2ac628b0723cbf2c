"""How well the training loss ranks image runs (LeJEPA, section 6.2): what the figure and the page say."""

from typing import Any

import numpy as np
from scipy.stats import spearmanr

ALPHAS = np.round(np.arange(-3, 3.01, 0.1), 1)


def ranking(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Spearman's correlation of -loss/λ^α with the linear probe over runs, for each α.

    Args:
        runs: by their words (`image_runs.ImageRuns`), model.sigreg.weight=λ among them.

    Returns:
        "alpha" and "spearman" (61,) each; the latter at 0, at 0.4 and at its best; "lambda", "loss" and
        "accuracy" (%), of each of the "runs".
    """
    rows = []
    for words, found in runs.items():
        weight = float(dict(word.split("=", 1) for word in words.split())["model.sigreg.weight"])
        rows.append((weight, found["last"]["train/loss"], found["rows"]["trained"]["linear"]))
    weights, losses, accuracy = np.array(rows).T
    correlation = [float(spearmanr(-losses / weights**alpha, accuracy)[0]) for alpha in ALPHAS]
    at = {alpha: correlation[list(ALPHAS).index(alpha)] for alpha in (0.0, 0.4)}
    best = int(np.argmax(correlation))
    return {
        "runs": len(rows),
        "spearman_at_0.4": at[0.4],
        "spearman_at_0": at[0.0],
        "best_alpha": float(ALPHAS[best]),
        "spearman_at_best": correlation[best],
        "alpha": ALPHAS,
        "spearman": correlation,
        "lambda": weights,
        "loss": losses,
        "accuracy": accuracy,
    }
