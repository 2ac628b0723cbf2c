"""What every script here has in common: its command line, its seed, the caption, the PNG and the JSON.

A script's `draw` returns a figure, the numbers in it, and the caption, which says what the document claims
and what was measured; the script ends with

    if __name__ == "__main__":
        make(__file__, draw)
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worldjepa.evaluation.figures import INK, QUIET

ACCENT = "#c8553d"
COLOURS = [INK, ACCENT, "#4d8f6f", "#d9a441", "#7a5c99", "#5b8fb9", QUIET]

STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "savefig.dpi": 130,
}

Drawing = tuple[Figure, dict[str, Any], str]


def make(
    script: str,
    draw: Callable[..., Drawing],
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Draw from seed 0; write NAME.png and NAME.json into the folder named on the command line, by default
    `figures`; print where they are and the single numbers.

    Args:
        script: the script's path; its stem is NAME.
        draw: gives the figure (with layout "constrained"), the numbers (for JSON: finite, tensors and arrays
            are made lists) and the caption.
        options: adds what else the command line takes, which `draw` is then called with.
    """
    name = Path(script).stem
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=sys.modules[draw.__module__].__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("figures"), help="default: figures")
    if options is not None:
        options(parser)
    arguments = parser.parse_args()
    folder = arguments.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"{folder} is no folder that can be written: {error.strerror}")
    torch.manual_seed(0)
    with matplotlib.rc_context(STYLE):
        finish(folder / name, *(draw() if options is None else draw(arguments)))


def finish(path: Path, figure: Figure, numbers: dict[str, Any], caption: str) -> None:
    """Write `path`.png, the caption under the figure, and `path`.json, the caption among the numbers."""
    _write_under(figure, caption)
    figure.savefig(path.with_suffix(".png"))
    numbers = {"caption": caption} | numbers
    text = json.dumps(numbers, indent=1, allow_nan=False, ensure_ascii=False, default=lambda x: x.tolist())
    path.with_suffix(".json").write_text(text + "\n", "utf-8")
    for key, value in json.loads(text).items():
        if not isinstance(value, list | dict):
            print(f"{key}: {value:.5g}" if isinstance(value, float) else f"{key}: {value}")
    print(f"wrote {path.with_suffix('.png')} and {path.with_suffix('.json')}")


def panels(rows: int, columns: int, width: float = 9.0, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` × `columns` axes, in reading order, each row `height` inches high."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _write_under(figure: Figure, caption: str) -> None:
    """Make the figure higher by the caption's lines and write them there."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(17 * width))
    below = 0.16 * len(lines) + 0.2
    figure.set_size_inches(width, height + below)
    figure.get_layout_engine().set(rect=(0, below / (height + below), 1, height / (height + below)))
    figure.text(
        0.12 / width, 0.1 / (height + below), "\n".join(lines), fontsize=8, va="bottom", linespacing=1.25
    )
