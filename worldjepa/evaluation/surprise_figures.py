"""The table and the figure of `worldjepa surprise`, drawn from what it leaves on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from .figures import INK, QUIET, save
from .pictures import tile

COLOURS = {"unperturbed": QUIET, "teleport": "#c8553d", "small teleport": INK, "colour change": "#d9a441"}


def surprise_table(results: dict[str, Any]) -> str:
    """The Markdown table that `worldjepa surprise` prints, from its surprise.json."""
    lines = [
        "| | before | at | after | jump | t | p | ROC AUC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results["rows"].items():
        cells = [f"{row[moment]:.3g}" for moment in ("before", "at", "after")]
        cells.append(f"{row['jump']:.2g} ×" if "jump" in row else "")
        cells += [f"{row['t']:.2f}", f"{row['p']:.1g}", f"{row['auc']:.3f}"] if "t" in row else [""] * 3
        lines.append(f"| {' | '.join([name, *cells])} |")
    new = f", {results['new_episodes']} of them played anew" if results["new_episodes"] else ""
    lines.append(
        f"\nMedian surprise over {results['episodes']} held-out episodes{new}: at the frame before, at the "
        "perturbed frame, at the last frame. Jump: distance from the frame before, in usual steps. Paired "
        "t-test and AUC: against the same episodes unperturbed, at the perturbed frame."
    )
    return "\n".join(lines)


def surprise_figure(path: Path) -> Path:
    """Surprise over time, how well it tells perturbed from unperturbed, and an episode in every version; from
    surprise.json and the surprise.npz beside it, as surprise.png."""
    results = json.loads(path.read_text("utf-8"))
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1), height_ratios=(1.15, 1))
    _draw_course(figure.add_subplot(grid[0, 0]), results)
    _draw_roc(figure.add_subplot(grid[0, 1]), results, arrays["surprises"])
    _draw_film(figure.add_subplot(grid[1, :]), results, arrays["film"])
    return save(figure, path.with_suffix(".png"))


def _draw_course(axis: Axes, results: dict[str, Any]) -> None:
    at = results["options"]["before"]
    for name, curve in results["curves"].items():
        steps = np.arange(1, len(curve["median"]) + 1) - at
        axis.plot(steps, curve["median"], color=COLOURS[name], marker="o", markersize=3, label=name)
        axis.fill_between(steps, curve["low"], curve["high"], color=COLOURS[name], alpha=0.15, linewidth=0)
    axis.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axis.set_yscale("log")
    axis.set_xlabel(f"frames since the perturbation, {results['frameskip']} environment steps apart")
    axis.set_ylabel("surprise: squared error of the predicted latent")
    axis.set_title(
        f"median and quartiles of {results['episodes']} held-out episodes", loc="left", fontsize=10
    )
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_roc(axis: Axes, results: dict[str, Any], surprises: np.ndarray) -> None:
    """`surprises` (conditions, E, T-1), in the order of the rows, "unperturbed" first."""
    there = surprises[:, :, results["options"]["before"] - 1]
    for (name, row), values in list(zip(results["rows"].items(), there, strict=True))[1:]:
        labels = np.repeat([1, 0], [len(values), len(there[0])])
        false, true, _ = roc_curve(labels, np.concatenate([values, there[0]]))
        axis.plot(100 * false, 100 * true, color=COLOURS[name], label=f"{name}: {row['auc']:.3f}")
    axis.plot([0, 100], [0, 100], color=QUIET, linewidth=0.8, linestyle=":")
    axis.set_xlabel("unperturbed episodes taken for perturbed, %")
    axis.set_ylabel("perturbed episodes found, %")
    axis.set_title("ROC and its area, at the perturbed frame", loc="left", fontsize=10)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)


def _draw_film(axis: Axes, results: dict[str, Any], film: np.ndarray) -> None:
    """`film` (conditions, frames, H, W, 3): the first of its frames is `film_from` since the perturbation."""
    side, gap = film.shape[2], max(2, film.shape[2] // 16)
    axis.imshow(tile(film, gap=gap), interpolation="nearest")
    middles = np.arange(film.shape[1]) * (side + gap) + side / 2
    axis.set_xticks(middles, [_signed(results["film_from"] + i) for i in range(film.shape[1])], fontsize=8)
    axis.set_yticks(np.arange(len(film)) * (side + gap) + side / 2, list(results["rows"]), fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("one of the episodes; frames since the perturbation")


def _signed(number: int) -> str:
    return f"{number:+d}" if number else "0"
