"""What each part of the recipe gives on Fashion-MNIST: the ablations of LeJEPA's Table 1, and a teacher and a
predictor added (Table 4), at our size."""

import argparse
import functools
import sys
from pathlib import Path

from _figure import INK, QUIET, Drawing, make, panels

sys.path.insert(0, str(Path(__file__).parents[1]))
from image_runs import ImageRuns, add_options

VIT = "model.encoder.name=test_vit model.encoder.patch_size=7"


def ablations(steps: int) -> dict[str, dict[str, str]]:
    """By what is varied its values and their words; the first one is the recipe's own. As many images go by
    in runs with another batch."""

    def of(option: str, *values: object, beside: str = "") -> dict[str, str]:
        return {str(value): f"{beside} {option}={value}".strip() for value in values}

    batches = {str(n): f"train.batch_size={n} train.steps={steps * 128 // n}" for n in (128, 64, 256)}
    return {
        "slices": of("model.sigreg.num_slices", 256, 64, 1024),
        "knots": of("model.sigreg.knots", 17, 5, 41),
        "range": of("model.sigreg.t_max", 3.0, 1.0, 5.0),
        "local views": of("images.local_views", 0, 2, 6),
        "batch": batches,
        "projector": of("model.projector_hidden", 512, 128, 2048),
        "latent": of("model.latent", 64, 16, 256),
        "added": of("model.objective", "jepa", "teacher", "predictor", "teacher_predictor"),
        # Of a small ViT, which alone has them.
        "registers": of("model.encoder.register_tokens", 0, 1, 4, beside=VIT),
    }


def draw(arguments: argparse.Namespace) -> Drawing:
    common = [f"train.steps={arguments.steps}", "model.encoder.layers=1"]
    runs, varied = ImageRuns("image_ablations", arguments, common), ablations(arguments.steps)
    if not runs.run_all([words for row in varied.values() for words in row.values()], arguments.print):
        raise SystemExit
    linear = {
        name: {value: runs.run(words)["rows"]["trained"]["linear"] for value, words in row.items()}
        for name, row in varied.items()
    }
    figure, axes = panels(3, 3, height=2)
    for axis, (name, bars) in zip(axes, linear.items(), strict=True):
        axis.barh(list(bars), list(bars.values()), color=[INK] + [QUIET] * (len(bars) - 1))
        axis.set_title(name)
        least = min(bars.values())
        axis.set_xlim(least - 3, max(bars.values()) + 1)
        axis.invert_yaxis()
        axis.set_xlabel("linear probe, %")
    gaps = {name: max(bars.values()) - min(bars.values()) for name, bars in linear.items()}
    told = ", ".join(f"{name} {gap:.1f}" for name, gap in gaps.items())
    caption = (
        "LeJEPA's Table 1 claims that the recipe hardly depends on its parts, its Table 4 that teacher and "
        f"predictor are not needed. Measured in {arguments.steps} steps, the recipe's own values dark; best "
        f"minus worst in points: {told}."
    )
    return figure, {"linear": linear, "best_minus_worst": gaps}, caption


if __name__ == "__main__":
    make(__file__, draw, functools.partial(add_options, steps=400))
