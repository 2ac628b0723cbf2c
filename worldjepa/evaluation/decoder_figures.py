"""The table, the filmstrips and the film of `worldjepa decode`, drawn from what it leaves on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .decoder import psnr
from .figures import INK, QUIET, save
from .pictures import bordered, enlarge, tile, write_film

ROWS = ("true", "reconstructed", "imagined")
COLOURS = {"reconstructed": INK, "imagined": "#c8553d", "last frame seen": "#d9a441", "mean frame": QUIET}
# Around what is imagined, in the film.
IMAGINED = (200, 85, 61)


def decode_table(results: dict[str, Any]) -> str:
    """The Markdown table that `worldjepa decode` prints, from its decode.json."""
    names = list(results["mse"])
    lines = [f"| frames ahead | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    depths = zip(*results["mse"].values(), strict=True)
    means = [float(np.mean(values)) for values in results["mse"].values()]
    for label, values in [*enumerate(depths, 1), ("all", means)]:
        lines.append(f"| {label} | {' | '.join(f'{psnr(value):.2f} dB' for value in values)} |")
    explained = [
        f"{name} {100 * (1 - mean / means[-1]):.1f} %" for name, mean in zip(names, means, strict=True)
    ]
    lines.append(
        f"\nPSNR of frames of {results['windows']} stretches of held-out episodes, "
        f"{results['frameskip']} environment steps apart, the first {results['context']} seen. Of the mean "
        f"frame's squared error goes: {', '.join(explained[:-1])}."
    )
    return "\n".join(lines)


def decode_figure(path: Path) -> Path:
    """Filmstrips, and below them PSNR at each frame; from decode.json and the decode.npz beside it, as
    decode.png."""
    results = json.loads(path.read_text("utf-8"))
    films = _films(path)
    episodes, length = films["true"].shape[:2]
    strips = 3 * episodes
    figure = Figure(figsize=(0.8 * length + 1.6, 0.8 * strips + 2.6), layout="constrained")
    film, curves = figure.subplots(2, 1, sharex=True, height_ratios=(0.8 * strips, 2))
    _draw_strips(film, films, results["context"])
    _draw_curves(curves, results)
    return save(figure, path.with_suffix(".png"))


def _films(path: Path) -> dict[str, np.ndarray]:
    """By row, (episodes, C+H, H, W, 3) uint8."""
    with np.load(path.with_suffix(".npz")) as file:
        return {name: file[name] for name in ROWS}


def _draw_strips(axis: Axes, films: dict[str, np.ndarray], context: int) -> None:
    """One column for each number on the x axis, the last frame seen at 0."""
    rows, labels = [], []
    for episode in range(len(films["true"])):
        for name in ROWS:
            frames = films[name][episode].copy()
            if name == "imagined":
                frames[:context] = 255
            rows.append(frames)
            labels.append(name)
    length = len(rows[0])
    sheet = tile(np.stack(rows), gap=max(2, rows[0].shape[1] // 16))
    left = 0.5 - context
    axis.imshow(sheet, extent=(left, left + length, len(rows), 0), aspect="auto", interpolation="nearest")
    axis.set_yticks(np.arange(len(rows)) + 0.48, labels, fontsize=8)
    axis.tick_params(length=0, labelbottom=False)
    axis.spines[:].set_visible(False)


def _draw_curves(axis: Axes, results: dict[str, Any]) -> None:
    for name, errors in results["mse"].items():
        depths = np.arange(1, len(errors) + 1)
        axis.plot(
            depths, [psnr(e) for e in errors], color=COLOURS[name], marker="o", markersize=3, label=name
        )
    axis.set_xticks(np.arange(1 - results["context"], len(errors) + 1))
    axis.set_xlabel(f"frames ahead of the last one seen, {results['frameskip']} environment steps apart")
    axis.set_ylabel("PSNR, dB")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0, 0.5))
    axis.spines[["top", "right"]].set_visible(False)


def decode_film(path: Path) -> list[Path]:
    """The same episodes as a film, each as true | reconstructed | imagined, what is imagined bordered; as
    decode.mp4 and decode.gif."""
    context = json.loads(path.read_text("utf-8"))["context"]
    films = _films(path)
    episodes, length, side = films["true"].shape[:3]
    scale, columns = max(1, 128 // side), min(2, episodes)
    pictures = []
    for t in range(length):
        cells = []
        for episode in range(episodes):
            frames = [enlarge(films[name][episode, t], scale) for name in ROWS]
            if t >= context:
                frames[2] = bordered(frames[2], IMAGINED, scale + 1)
            cells.append(np.concatenate(frames, 1))
        cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
        pictures.append(tile([cells[i : i + columns] for i in range(0, len(cells), columns)], gap=6))
    # Twice each: a GIF shows every second picture. The last one stays for a while.
    shown = [picture for picture in (*pictures, *[pictures[-1]] * 4) for _ in range(2)]
    return write_film(shown, path, fps=10)
