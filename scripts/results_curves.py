"""Curves of sweeps: success against steps of training, frames of data and parameters."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweep_results import FLOOR, MODEL, Result, all_rows, parameters

from worldjepa.evaluation.figures import INK, QUIET, save

COLOURS = (INK, "#c8553d", "#4d8f6f", QUIET)
# By the beginning of a setting's name the curve that it is a point of: its axis, and where on it a run lies.
CURVES: dict[str, tuple[str, Callable[[Result], float]]] = {
    "steps": ("steps of training", lambda result: result["steps"]),
    "episodes": ("frames of data", lambda result: result["frames"]),
    "size": ("parameters", parameters),
}
# The recipe itself, a point of every curve.
USUAL = "usual"


def drawn(results: Sequence[Result]) -> list[str]:
    """The curves that have points of their own, and two or more with the recipe's."""
    settings = {result["axes"].get("setting", "") for result in results}
    of = {kind: {name for name in settings if name.startswith(f"{kind}-")} for kind in CURVES}
    return [kind for kind, own in of.items() if own and len(own | ({USUAL} & settings)) > 1]


def of_curve(results: Sequence[Result], kind: str) -> list[Result]:
    """Of these the ones that a curve goes through."""
    named = [(result["axes"]["setting"], result) for result in results]
    return [result for setting, result in named if setting == USUAL or setting.startswith(f"{kind}-")]


def curve(
    results: Sequence[Result], kind: str, evaluation: str
) -> dict[str, list[tuple[float, list[float]]]]:
    """By recipe the points of a curve, from left to right: where, and the success of each seed."""
    where, successes = CURVES[kind][1], {}
    for result in of_curve(results, kind):
        success = result["measured"][evaluation]["rows"][MODEL]["success"]
        successes.setdefault(result["recipe"], {}).setdefault(where(result), []).append(success)
    return {recipe: sorted(found.items()) for recipe, found in successes.items()}


def draw_curves(results: Sequence[Result], path: Path) -> Path:
    """A panel for each curve and evaluation: mean of the seeds, each seed as a dot, the floor dashed."""
    evaluations = [name for name in results[0]["measured"] if MODEL in all_rows(results[0], name)]
    kinds = drawn(results)
    figure = Figure(figsize=(3.4 * len(kinds), 2.9 * len(evaluations) + 0.3), layout="constrained")
    axes = figure.subplots(len(evaluations), len(kinds), squeeze=False)
    for row, evaluation in zip(axes, evaluations, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            floors = {r["recipe"]: all_rows(r, evaluation)[FLOOR]["success"] for r in results}
            _panel(axis, curve(results, kind, evaluation), floors)
            axis.set_xlabel(CURVES[kind][0])
        row[0].set_ylabel(f"{evaluation}: goals reached, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False)
    return save(figure, path)


def _panel(axis: Axes, curves: dict[str, list[tuple[float, list[float]]]], floors: dict[str, float]) -> None:
    places = sorted({x for points in curves.values() for x, _ in points})
    # Tasks with more actions have a few parameters more: one tick for places that lie on one another.
    ticks = [x for before, x in zip([0.0, *places], places, strict=False) if x > 1.1 * before]
    for (recipe, points), colour in zip(curves.items(), COLOURS, strict=False):
        axis.plot([x for x, _ in points], [np.mean(y) for _, y in points], color=colour, label=recipe)
        dots = [(x, y) for x, values in points for y in values]
        axis.plot(*zip(*dots, strict=True), "o", color=colour, markersize=3, alpha=0.6)
        axis.axhline(floors[recipe], color=colour, linestyle="--", linewidth=0.8, label=f"{recipe}, {FLOOR}")
    axis.set(xscale="log", ylim=(0, 104))
    axis.set_xticks(ticks, [short(x) for x in ticks])
    axis.minorticks_off()
    axis.spines[["top", "right"]].set_visible(False)


def short(value: float) -> str:
    """A number on an axis: 32k, 1.6M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"
