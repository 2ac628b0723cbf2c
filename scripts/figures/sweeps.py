"""Figure 16: the "X" of Figure 6, for several dimensions and numbers of slices, by Epps-Pulley."""

from typing import Any

import torch
from _figure import ACCENT, COLOURS, Drawing, make, panels
from x_distribution import STEPS, N, best_descent, dependence, relative_move, x_samples

from worldjepa.sigreg import EppsPulley

DIMENSIONS, SLICES, SEEDS = (3, 8, 32, 128, 512), (4, 16, 64), 3


def draw() -> Drawing:
    after, move = (torch.zeros(len(SLICES), len(DIMENSIONS), SEEDS) for _ in range(2))
    for column, D in enumerate(DIMENSIONS):
        for seed in range(SEEDS):
            start = x_samples(N, D)
            for row, slices in enumerate(SLICES):
                end = best_descent(EppsPulley(), start, slices)
                after[row, column, seed] = dependence(end)
                move[row, column, seed] = relative_move(start, end)

    figure, axes = panels(1, 2)
    titles = (
        "correlation of the squares (X: 1, Gaussian: 0)",
        "move of the X's coordinates, in that of the others",
    )
    for axis, values, title in zip(axes, (after, move), titles, strict=True):
        for slices, ends, colour in zip(SLICES, values, COLOURS, strict=False):
            axis.semilogx(DIMENSIONS, ends.mean(-1), "o-", color=colour, label=f"{slices} slices")
            axis.fill_between(DIMENSIONS, ends.amin(-1), ends.amax(-1), color=colour, alpha=0.15)
        axis.axhline(1, color=ACCENT, linestyle="--", linewidth=0.8)
        axis.set(title=title, xlabel="dimensions")
        axis.set_xticks(DIMENSIONS, DIMENSIONS)
        axis.minorticks_off()
    axes[1].set_ylim(bottom=0)
    axes[0].legend(loc="lower right")

    numbers = {
        "N": N,
        "steps": STEPS,
        "seeds": SEEDS,
        "dimensions": DIMENSIONS,
        "slices": SLICES,
        "correlation_of_squares_after": after,
        "move_of_the_two_coordinates_in_that_of_the_others": move,
    }
    return figure, numbers, caption(after.mean(-1), move.mean(-1))


def caption(after: Any, move: Any) -> str:
    """`after` and `move` are (slices, dimensions) means over the seeds."""

    def listed(values: Any) -> str:
        return ", ".join(f"{value:.2f}" for value in values)

    rows = "; ".join(
        f"with {slices} slices {listed(ends)}, while the two coordinates move {listed(moves)} times as far "
        "as the others"
        for slices, ends, moves in zip(SLICES, after, move, strict=True)
    )
    return (
        "The paper (section 4.3, Figure 16): even with 512 dimensions and 16 slices SIGReg detects the two "
        "degenerate dimensions of the X and unfolds them, over various dimensions and numbers of slices. "
        f"Measured (Epps-Pulley, N = {N}, {STEPS} steps of gradient descent, the best of four step sizes, "
        f"mean and range of {SEEDS} seeds): in {', '.join(map(str, DIMENSIONS))} dimensions the correlation "
        f"of the two coordinates' squares, 1 for the X and 0 for N(0, I), becomes {rows}. Where the X is "
        "told apart the second number is above 1; at 1 it is blurred like all the rest."
    )


if __name__ == "__main__":
    make(__file__, draw)
