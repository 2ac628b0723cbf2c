"""Whether the training loss tells the best run without labels (LeJEPA, section 6.2, Figures 10 and 11)."""

import argparse
import functools
import sys
from pathlib import Path

import numpy as np
from _figure import ACCENT, INK, Drawing, make, panels

sys.path.insert(0, str(Path(__file__).parents[1]))
from image_ranking import ranking
from image_runs import ImageRuns, add_options

LAMBDAS = (0.01, 0.02, 0.05, 0.1, 0.2)
RATES = (5e-4, 5e-3)
# Six local views beside the two global ones and both learning rates as in the paper, 16 latents as in its
# repository's MINIMAL; a small encoder and one layer's mean, to which training has most to add.
COMMON = (
    "images.local_views=6",
    "model.latent=16",
    "model.encoder.width=16",
    "model.encoder.layers=1",
    "model.encoder.pooling=mean",
    "probe.train_frames=10000",
    "probe.shots=1",
    "probe.draws=1",
)


def draw(arguments: argparse.Namespace) -> Drawing:
    runs = ImageRuns("image_selection", arguments, COMMON)
    grid = [
        f"train.steps={steps} train.learning_rate={rate} model.sigreg.weight={weight}"
        for steps in (arguments.steps // 32, arguments.steps // 8, arguments.steps // 2, arguments.steps)
        for rate in RATES
        for weight in LAMBDAS
    ]
    if not runs.run_all(grid, arguments.print):
        raise SystemExit
    numbers = ranking({words: runs.run(words) for words in grid})
    weights, losses, accuracy = (numbers[name] for name in ("lambda", "loss", "accuracy"))
    figure, (curve, cloud) = panels(1, 2)
    curve.plot(numbers["alpha"], numbers["spearman"], color=INK)
    curve.axvline(0.4, color=ACCENT, linestyle=":")
    curve.set_xlabel("α")
    curve.set_ylabel("Spearman correlation of -loss/λ^α with accuracy")
    cloud.scatter(losses / weights**0.4, accuracy, c=np.log(weights), s=18)
    cloud.set_xscale("log")
    cloud.set_xlabel("loss/λ^0.4")
    cloud.set_ylabel("linear probe, %")
    caption = (
        "LeJEPA claims that loss/λ^0.4 ranks runs as their accuracy does. Measured over "
        f"{numbers['runs']} short runs, a grid of λ, learning rate and steps: Spearman "
        f"{numbers['spearman_at_0.4']:.2f} at α = 0.4, {numbers['spearman_at_0']:.2f} at α = 0, "
        f"{numbers['spearman_at_best']:.2f} at the best α = {numbers['best_alpha']:.1f}."
    )
    return figure, numbers, caption


if __name__ == "__main__":
    make(__file__, draw, functools.partial(add_options, steps=1920))
