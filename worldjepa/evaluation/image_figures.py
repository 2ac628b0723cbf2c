"""The table and the figures of `worldjepa probe` for image encoders, drawn from what it leaves on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import INK, QUIET, save
from .tables import markdown

COLOURS = (INK, QUIET, "#c8553d")


def image_probe_table(results: dict[str, Any]) -> str:
    """The table that `worldjepa probe` prints of an image encoder, from its probe.json, in Markdown."""
    rows = results["rows"]
    shots = list(next(iter(rows.values()))["shots"])
    tuned = any("fine_tuned" in row for row in rows.values())
    head = [results["data"], "linear probe", "kNN", *(f"{n}-shot" for n in shots)]
    head += [*(["fine-tuned"] if tuned else []), "features"]
    lines = []
    for name, row in rows.items():
        cells = [name, f"{row['linear']:.2f} %", f"{row['knn']:.2f} %"]
        cells += [f"{row['shots'][n]['mean']:.1f} %" for n in shots]
        if tuned:
            cells.append(f"{row['fine_tuned']:.2f} %" if "fine_tuned" in row else "")
        lines.append([*cells, str(row["features"])])
    tested, fitted = results["test_images"], results["train_images"]
    note = f"Accuracy on {tested} test images, fitted on {fitted} training images."
    return "\n".join([markdown(head, lines), "", note])


def image_probe_figures(path: Path) -> list[Path]:
    """Few labels, confusion and map beside one another as probe.png, and what is found for some images as
    retrieval.png; from probe.json and the probe.npz beside it."""
    results = json.loads(path.read_text("utf-8"))
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    few, confusion, plane = figure.subplots(1, 3)
    _draw_shots(few, results)
    _draw_confusion(confusion, np.array(results["confusion"]), results["classes"])
    _draw_map(plane, arrays["map"], arrays["map_labels"], results["classes"], results["options"]["map"])
    return [save(figure, path.with_suffix(".png")), _draw_retrieval(path, arrays)]


def _draw_shots(axis: Axes, results: dict[str, Any]) -> None:
    for (name, row), colour in zip(results["rows"].items(), COLOURS, strict=False):
        shots = [int(n) for n in row["shots"]]
        means, lows, highs = (
            np.array([s[key] for s in row["shots"].values()]) for key in ("mean", "low", "high")
        )
        axis.errorbar(
            shots, means, yerr=[means - lows, highs - means], color=colour, marker="o", capsize=3, label=name
        )
        axis.axhline(row["linear"], color=colour, linestyle=":", linewidth=1)
    axis.set_xscale("log")
    axis.set_xlabel("labelled images of each class (bars: 95% interval; dotted: all labels)")
    axis.set_ylabel("linear probe, % right")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_confusion(axis: Axes, counts: np.ndarray, classes: list[str]) -> None:
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    if len(classes) <= 20:
        axis.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
        axis.set_yticks(range(len(classes)), classes, fontsize=8)
        for i, j in np.ndindex(*shares.shape):
            colour = "white" if shares[i, j] > 60 else "black"
            if shares[i, j] >= 0.5:
                axis.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axis.set_xlabel("said to be")
    axis.set_ylabel("is")
    axis.set_title("linear probe, % of each class", loc="left", fontsize=10)


def _draw_map(axis: Axes, points: np.ndarray, labels: np.ndarray, classes: list[str], kind: str) -> None:
    drawn = axis.scatter(
        points[:, 0], points[:, 1], c=labels, s=4, cmap="tab10" if len(classes) <= 10 else "viridis"
    )
    if len(classes) <= 10:
        there = np.unique(labels)
        handles, _ = drawn.legend_elements(num=list(there))
        axis.legend(handles, [classes[i] for i in there], fontsize=7, ncols=2)
    axis.set_xticks([])
    axis.set_yticks([])
    names = {"pca": "principal components", "tsne": "t-SNE"}
    axis.set_title(f"features of {len(points)} test images, {names[kind]}", loc="left", fontsize=10)


def _draw_retrieval(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """In each row a test image, then the training images nearest to it, framed where the class is another."""
    queries, found = arrays["queries"], arrays["found"]
    figure = Figure(figsize=(0.7 * (found.shape[1] + 1.5), 0.7 * len(queries)), layout="constrained")
    axes = figure.subplots(len(queries), found.shape[1] + 1, squeeze=False)
    for row, query in enumerate(queries):
        for column, image in enumerate([query, *found[row]]):
            axis = axes[row, column]
            axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
            wrong = column > 0 and arrays["found_labels"][row, column - 1] != arrays["query_labels"][row]
            axis.spines[:].set(color="#c8553d" if wrong else "white", linewidth=3)
    figure.suptitle(
        "a test image, and the training images nearest to it (framed: of another class)", fontsize=9
    )
    return save(figure, path.with_name("retrieval.png"))
