"""Whether the training loss tells the best run without labels (LeJEPA, section 6.2, Figures 10 and 11)."""

import argparse
import functools
import sys
from pathlib import Path

import numpy as np
from _figure import ACCENT, INK, Drawing, make, panels
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[1]))
from image_runs import ImageRuns, add_options

LAMBDAS = (0.01, 0.02, 0.05, 0.1, 0.2)
RATES = (5e-4, 2e-3, 8e-3)
# One layer's features, and of the probe what is looked at alone.
COMMON = (
    "images.local_views=0",
    "model.encoder.layers=1",
    "probe.train_frames=10000",
    "probe.shots=1",
    "probe.draws=1",
)
ALPHAS = np.round(np.arange(-3, 3.01, 0.1), 1)


def draw(arguments: argparse.Namespace) -> Drawing:
    runs = ImageRuns("image_selection", arguments, COMMON)
    grid = {
        f"train.steps={steps} train.learning_rate={rate} model.sigreg.weight={weight}": weight
        for steps in (arguments.steps // 4, arguments.steps)
        for rate in RATES
        for weight in LAMBDAS
    }
    if not runs.run_all(list(grid), arguments.print):
        raise SystemExit
    rows = []
    for words, weight in grid.items():
        found = runs.run(words)
        rows.append((weight, found["last"]["train/loss"], found["rows"]["trained"]["linear"]))
    weights, losses, accuracy = np.array(rows).T
    correlation = [float(spearmanr(-losses / weights**alpha, accuracy)[0]) for alpha in ALPHAS]
    at = {alpha: correlation[list(ALPHAS).index(alpha)] for alpha in (0.0, 0.4)}
    best = int(np.argmax(correlation))
    figure, (curve, cloud) = panels(1, 2)
    curve.plot(ALPHAS, correlation, color=INK)
    curve.axvline(0.4, color=ACCENT, linestyle=":")
    curve.set_xlabel("α")
    curve.set_ylabel("Spearman correlation of -loss/λ^α with accuracy")
    cloud.scatter(losses / weights**0.4, accuracy, c=np.log(weights), s=18)
    cloud.set_xscale("log")
    cloud.set_xlabel("loss/λ^0.4")
    cloud.set_ylabel("linear probe, %")
    caption = (
        "LeJEPA claims that loss/λ^0.4 ranks runs as their accuracy does. Measured over "
        f"{len(rows)} short runs, a grid of λ, learning rate and steps: Spearman {at[0.4]:.2f} at α = 0.4, "
        f"{at[0.0]:.2f} at α = 0, {correlation[best]:.2f} at the best α = {ALPHAS[best]:.1f}."
    )
    numbers = {
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
    return figure, numbers, caption


if __name__ == "__main__":
    make(__file__, draw, functools.partial(add_options, steps=240))
