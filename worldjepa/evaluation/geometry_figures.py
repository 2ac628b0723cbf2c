"""The table and the figures of `worldjepa geometry`, drawn from what it leaves on disk."""

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import INK, QUIET, save
from .tables import markdown

ACCENT = "#c8553d"
NOTE = (
    "Straightness: 1 is a line, 0 a random walk, -0.5 no order. Frames of an episode are alike, for which "
    "the tests, of independent samples, reject more often."
)
Arrays = dict[str, np.ndarray]


def geometry_table(results: dict[str, Any]) -> str:
    """The Markdown table that `worldjepa geometry` prints, from its geometry.json, and what is to be said."""
    ideal = results["gaussian"]
    rows = [
        (f"RankMe, of {results['latent']}", f"{results['rank']:.1f}", f"{ideal['rank']:.1f}"),
        ("isotropy of the principal axes", f"{results['isotropy']:.3f}", f"{ideal['isotropy']:.3f}"),
        ("standard deviation of an axis, mean", f"{results['std_mean']:.2f}", "1"),
        ("standard deviation of an axis, least", f"{results['std_min']:.2f}", "1"),
    ]
    for row in results["slices"]:
        few = f"{row['samples']} frames, {row['slices']} slices"
        rows += [
            (f"Epps-Pulley of {few}: mean", f"{row['mean']:.2f}", f"{row['floor']:.2f}"),
            ("of them rejected at 5 %", f"{100 * row['rejected']:.0f} %", "5 %"),
            ("probability of such p-values, Kolmogorov-Smirnov", f"{row['uniform']:.2g}", "uniform"),
        ]
    if "straightness" in results:
        rows += [
            ("straightness", f"{results['straightness']:.3f}", ""),
            ("straightness of the frames' pixels", f"{results['pixel_straightness']:.3f}", ""),
            ("latent and physical distance, Spearman", f"{results['distance_correlation']:.3f}", ""),
            ("the same of the nearest tenth of the pairs", f"{results['near_correlation']:.3f}", ""),
        ]
    kind = "images" if "classes" in results else "frames"
    head = (f"{results['frames']} held-out {kind}", "latents", "N(0, I)")
    notes = [NOTE] if "straightness" in results else []
    notes += [f"**{results['verdict']}**"] if results["verdict"] else []
    return "\n\n".join([markdown(head, rows), *notes])


def geometry_figures(path: Path) -> list[Path]:
    """What has two axes as geometry.png, and a map of the latents, coloured by each thing that is known of a
    frame, as geometry_map.png; from geometry.json and the geometry.npz beside it."""
    results = json.loads(path.read_text("utf-8"))
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    panels = [_draw_spectrum, _draw_quantiles, _draw_p_values]
    if "distance_correlation" in results:
        panels.append(_draw_distances)
    history = [n for n in ("rank", "straightness") if len(results["history"].get(n, [])) > 1]
    columns = (len(panels) + len(history) + 1) // 2
    figure = Figure(figsize=(4.2 * columns, 7.2), layout="constrained")
    axes = list(figure.subplots(2, columns).flat)
    for draw, axis in zip(panels, axes, strict=False):
        draw(axis, results, arrays)
    for name, axis in zip(history, axes[len(panels) :], strict=False):
        _draw_history(axis, results, name)
    for axis in axes[len(panels) + len(history) :]:
        axis.set_axis_off()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    if results["verdict"]:
        figure.suptitle(textwrap.fill(results["verdict"], 40 * columns), color=ACCENT, fontsize=10)
    return [save(figure, path.with_suffix(".png")), _draw_map(path, results, arrays)]


def _draw_spectrum(axis: Axes, results: dict[str, Any], arrays: Arrays) -> None:
    order = np.arange(1, results["latent"] + 1)
    # A logarithm has no place for what does not vary at all.
    axis.semilogy(order, np.maximum(arrays["gaussian_spectrum"], 1e-8), color=QUIET, label="N(0, I)")
    axis.semilogy(order, np.maximum(arrays["spectrum"], 1e-8), color=INK, label="latents")
    axis.set_xlabel("principal axis")
    axis.set_ylabel("variance")
    _title(axis, f"RankMe {results['rank']:.1f} of {results['latent']}, isotropy {results['isotropy']:.2f}")
    axis.legend(frameon=False)


def _draw_quantiles(axis: Axes, results: dict[str, Any], arrays: Arrays) -> None:
    levels, (*slices, farthest) = arrays["levels"], arrays["quantiles"]
    axis.plot(levels, levels, color=QUIET, linestyle=":", label="N(0, 1)")
    for number, values in enumerate(slices):
        axis.plot(levels, values, color=INK, linewidth=0.8, label="slices" if number == 0 else None)
    axis.plot(levels, farthest, color=ACCENT, linewidth=1.2, label="the farthest slice")
    axis.set_xlabel("quantile of N(0, 1)")
    axis.set_ylabel("quantile of a slice")
    _title(axis, f"Q-Q of {len(slices)} random slices")
    axis.legend(frameon=False)


def _draw_p_values(axis: Axes, results: dict[str, Any], arrays: Arrays) -> None:
    axis.plot([0, 1], [0, 1], color=QUIET, linestyle=":", label="N(0, I): uniform")
    for row, name, colour in zip(results["slices"], ("p_batch", "p_all"), (INK, ACCENT), strict=True):
        p = np.sort(arrays[name])
        axis.step([0, *p, 1], [*np.arange(len(p) + 1) / len(p), 1], where="post", color=colour,
                  label=f"{row['samples']} samples")  # fmt: skip
    axis.set_xlabel("p-value of Epps-Pulley")
    axis.set_ylabel("share of slices below it")
    _title(axis, f"{results['slices'][0]['slices']} slices along a random basis")
    axis.legend(frameon=False, loc="lower right")


def _draw_distances(axis: Axes, results: dict[str, Any], arrays: Arrays) -> None:
    latent, physical = arrays["latent_distance"], arrays["physical_distance"]
    axis.scatter(physical, latent, s=2, color=QUIET, alpha=0.3, linewidths=0)
    # Medians of as many pairs each.
    groups = [part for part in np.array_split(np.argsort(physical), 40) if len(part)]
    low, middle, high = np.array([np.percentile(latent[part], [25, 50, 75]) for part in groups]).T
    centres = [np.median(physical[part]) for part in groups]
    axis.fill_between(centres, low, high, color=INK, alpha=0.2, linewidth=0, label="middle half")
    axis.plot(centres, middle, color=INK, marker="o", markersize=3, label="median")
    axis.set_xlabel("physical distance, standard deviations")
    axis.set_ylabel("latent distance")
    near = f"the nearest tenth {results['near_correlation']:.2f}"
    _title(axis, f"{len(latent)} pairs, Spearman {results['distance_correlation']:.2f}, {near}")
    axis.legend(frameon=False)


def _draw_history(axis: Axes, results: dict[str, Any], name: str) -> None:
    words = {"rank": "RankMe of held-out latents", "straightness": "straightness of held-out latents"}
    axis.plot(results["history"]["step"], results["history"][name], color=INK, marker="o", markersize=3)
    axis.set_xlabel("training step")
    _title(axis, words[name])


def _draw_map(path: Path, results: dict[str, Any], arrays: Arrays) -> Path:
    points, names = arrays["map"], results["columns"] or [""]
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 3.2 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for number, name in enumerate(names):
        axis = axes[number]
        values = arrays["map_values"][:, number] if name else np.zeros(len(points))
        classes = results.get("classes", []) if name == "class" else []
        few = 0 < len(classes) <= 10
        colours = "tab10" if few else "viridis"
        drawn = axis.scatter(points[:, 0], points[:, 1], c=values, s=5, linewidths=0, cmap=colours)
        if few:
            there = np.unique(values)
            handles, _ = drawn.legend_elements(num=list(there))
            named = [classes[int(i)] for i in there]
            axis.legend(handles, named, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        elif name:
            figure.colorbar(drawn, ax=axis, shrink=0.8)
        axis.set_xticks([])
        axis.set_yticks([])
        _title(axis, name)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    figure.supxlabel(f"two principal components of {len(points)} latents", fontsize=10)
    return save(figure, path.with_name("geometry_map.png"))


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=10)
