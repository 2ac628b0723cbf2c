"""Pictures of data: how much of each coordinate's range they fill, a contact sheet, a film of episodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..data.shards import Store
from .figures import INK, save
from .pictures import tile


def coverage_figure(results: dict[str, Any], path: Path) -> Path:
    """A histogram of each coordinate, velocity and action over its range, as a PNG.

    Args:
        results: what `worldjepa.data.summary.summary` gave.
    """
    rows = results["coverage"]
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.5 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (name, row) in zip(axes, rows.items(), strict=False):
        counts = np.array(row["counts"])
        edges = np.linspace(row["low"], row["high"], len(counts) + 1)
        axis.stairs(counts / max(1, counts.max()), edges, fill=True, color=INK)
        if row["angle"]:
            axis.set_xticks([-np.pi, 0, np.pi], ["−π", "0", "π"])
        axis.set_yticks([])
        axis.set_ylim(0, 1.05)
        axis.tick_params(labelsize=7)
        axis.set_title(f"{name}: {100 * row['filled']:.0f} %", fontsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
    for axis in axes[len(rows) :]:
        axis.set_axis_off()
    name = Path(results["path"]).name
    figure.suptitle(f"{name}: {results['frames']:,} frames; how evenly each range is filled", fontsize=9)
    return save(figure, path)


def contact_sheet(store: Store, episodes: np.ndarray, columns: int = 10) -> np.ndarray:
    """Episodes as rows of frames evenly spread from first to last, one sheet (H', W', 3) uint8."""
    rows = []
    for episode in episodes:
        steps = np.linspace(0, store.lengths[episode] - 1, columns).round().astype(int)
        rows.append(store.gather("pixels", np.array([episode]), steps[None])[0])
    return tile(rows, _scale(store))


def film_frames(store: Store, episodes: np.ndarray, columns: int = 4, longest: int = 200) -> list[np.ndarray]:
    """Frames of a film that shows episodes side by side; one that ended stays at its last frame."""
    count = min(longest, int(store.lengths[episodes].max()))
    steps = np.minimum(np.arange(count), store.lengths[episodes][:, None] - 1)
    frames = store.gather("pixels", episodes, steps)
    return [_side_by_side(frames[:, t], columns, _scale(store)) for t in range(count)]


def _side_by_side(frames: Sequence[np.ndarray] | np.ndarray, columns: int, scale: int) -> np.ndarray:
    width = min(columns, len(frames))
    cells = [*frames, *[np.full_like(frames[0], 255)] * (-len(frames) % width)]
    return tile([cells[i : i + width] for i in range(0, len(cells), width)], scale)


def _scale(store: Store) -> int:
    """Small frames are shown larger."""
    return max(1, 96 // max(store.image_shape[:2]))
