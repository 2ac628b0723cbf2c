"""How λ and the number of views go together on Fashion-MNIST (LeJEPA's Figure 8 at our size)."""

import argparse
import functools
import sys
from pathlib import Path

from _figure import COLOURS, Drawing, make, panels

sys.path.insert(0, str(Path(__file__).parents[1]))
from image_runs import ImageRuns, add_options

LAMBDAS = (0.001, 0.005, 0.02, 0.05, 0.2)
VIEWS = ("2", "4", "8")


def draw(arguments: argparse.Namespace) -> Drawing:
    runs = ImageRuns("image_views", arguments, [f"train.steps={arguments.steps}", "model.encoder.layers=1"])
    # Two of the views are global in every run.
    words = {
        views: [f"images.local_views={int(views) - 2} model.sigreg.weight={weight}" for weight in LAMBDAS]
        for views in VIEWS
    }
    if not runs.run_all([w for row in words.values() for w in row], arguments.print):
        raise SystemExit
    linear = {views: [runs.run(w)["rows"]["trained"]["linear"] for w in row] for views, row in words.items()}
    figure, (axis,) = panels(1, 1, width=6)
    for (views, values), colour in zip(linear.items(), COLOURS, strict=False):
        axis.plot(LAMBDAS, values, marker="o", color=colour, label=f"{views} views")
    axis.set_xscale("log")
    axis.set_xlabel("λ")
    axis.set_ylabel("linear probe, %")
    axis.legend()
    spread = {views: max(values) - min(values) for views, values in linear.items()}
    caption = (
        "LeJEPA's Figure 8 claims that accuracy hardly depends on λ, and the less the more views there are. "
        f"Measured in {arguments.steps} steps of 128 images each: from the worst λ to the best, "
        + ", ".join(f"{gap:.1f} points with {views} views" for views, gap in spread.items())
        + "."
    )
    return figure, {"lambda": LAMBDAS, "linear": linear, "spread": spread}, caption


if __name__ == "__main__":
    make(__file__, draw, functools.partial(add_options, steps=400))
