"""Uniform and Gaussian clouds in two dimensions, random directions, and Epps-Pulley in each of them."""

import math
from typing import Any

import torch
from _figure import ACCENT, COLOURS, INK, Drawing, make, panels
from matplotlib.axes import Axes
from scipy import stats
from torch import Tensor

from worldjepa.sigreg import EppsPulley, SIGReg

N, SLICES = 400, 256
TEST = EppsPulley(t_max=5, knots=9)  # the article's 17 knots on [-5, 5]
WIDE, NARROW, GAUSSIAN = "uniform on (-3, 3)²", "uniform, variance 1", "N(0, I)"
SHADES = {WIDE: ACCENT, NARROW: COLOURS[3], GAUSSIAN: INK}


def draw_clouds(plane: Axes, histogram: Axes, clouds: dict[str, Tensor], v: Tensor) -> None:
    """Two clouds, and their projections on the direction v (2,)."""
    for name in (WIDE, GAUSSIAN):
        plane.scatter(*clouds[name].T, s=3, color=SHADES[name], label=name)
        histogram.hist(
            (clouds[name] @ v).numpy(), bins=30, density=True, color=SHADES[name], alpha=0.6, label=name
        )
    plane.annotate("", 3.5 * v, (0, 0), arrowprops={"arrowstyle": "->", "linewidth": 2})
    plane.set(title="clouds and a direction", aspect="equal", xlim=(-4.5, 4.5), ylim=(-4.5, 4.5))
    x = torch.linspace(-5, 5, 200)
    histogram.plot(x, stats.norm.pdf(x), "k--", label="N(0, 1)")
    histogram.set(title="their projections on it")
    histogram.set_ylim(top=0.62)
    histogram.legend()


def draw_statistics(axis: Axes, angles: Tensor, statistics: dict[str, Tensor], critical: float) -> None:
    for name, values in statistics.items():
        axis.semilogy(angles, values, ".", markersize=3, color=SHADES[name], label=name)
    axis.axhline(critical, color="black", linestyle="--", label="95 % of N(0, 1) samples")
    axis.set(title="Epps-Pulley in each direction", xlabel="angle, degrees", xticks=range(0, 181, 45))
    axis.set_ylim(top=3e4)
    axis.legend(fontsize=7)


def caption(numbers: dict[str, Any]) -> str:
    level, critical = numbers["share_of_directions_rejected_in_200_gaussian_clouds"], numbers["critical_95"]
    near, mean = numbers["variance_1_within_10_degrees"], numbers["mean_statistic"]
    share = {name: f"{value:.0%}" for name, value in numbers["share_of_directions_rejected"].items()}
    return (
        "The article: every projection of N(0, I) on a unit vector is N(0, 1), and by Cramér-Wold only "
        "that distribution has this, so 1-D tests of random projections test the whole. Measured (N = "
        f"{N}, {SLICES} random directions, against the 95 % quantile {critical:.2f} of samples of N(0, "
        f"1)): {level:.1%} of the directions reject a Gaussian cloud, over 200 of them, {share[GAUSSIAN]} "
        f"the one shown (their median), {share[WIDE]} the article's uniform one, whose "
        f"variance is 3, mean statistic {mean[GAUSSIAN]:.2f} and {mean[WIDE]:.0f}. "
        f"Scaled to variance 1, {share[NARROW]} reject it: the statistic is "
        f"{near['of an axis']:.1f} within 10 degrees of an axis and {near['of a diagonal']:.1f} of a "
        "diagonal, where the projection is a triangle. Most of the article's difference is the variance; "
        "which direction is looked at matters for the shape."
    )


def draw() -> Drawing:
    uniform = 6 * torch.rand(N, 2) - 3
    sigreg = SIGReg(TEST, SLICES, reference_batch=None)
    gaussians = torch.randn(200, N, 2)
    gaussian_statistics = sigreg.statistics(gaussians)  # (200, SLICES)
    typical = gaussian_statistics.mean(1).argsort()[100]
    clouds = {WIDE: uniform, NARROW: uniform / math.sqrt(3), GAUSSIAN: gaussians[typical]}
    directions = sigreg.directions(2, torch.device("cpu"), torch.float32)  # (2, SLICES)
    angles = torch.atan2(directions[1], directions[0]).rad2deg() % 180
    statistics = {name: sigreg.statistics(cloud) for name, cloud in clouds.items()}
    critical = float(TEST(torch.randn(20000, N)).quantile(0.95))

    figure, (plane, histogram, around) = panels(1, 3, height=3.2)
    draw_clouds(plane, histogram, clouds, directions[:, 0])
    draw_statistics(around, angles, statistics, critical)
    off_axis = (angles % 90 - 45).abs()
    numbers = {
        "N": N,
        "slices": SLICES,
        "critical_95": critical,
        "share_of_directions_rejected": {
            name: float((values > critical).float().mean()) for name, values in statistics.items()
        },
        "share_of_directions_rejected_in_200_gaussian_clouds": float(
            (gaussian_statistics > critical).float().mean()
        ),
        "mean_statistic": {name: float(values.mean()) for name, values in statistics.items()},
        "variance_1_within_10_degrees": {
            "of an axis": float(statistics[NARROW][off_axis > 35].mean()),
            "of a diagonal": float(statistics[NARROW][off_axis < 10].mean()),
        },
        "angles": angles,
        "statistics": statistics,
    }
    return figure, numbers, caption(numbers)


if __name__ == "__main__":
    make(__file__, draw)
