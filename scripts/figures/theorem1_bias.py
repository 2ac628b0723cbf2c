"""Theorem 1 of LeJEPA (arXiv 2511.08544): the integrated squared bias (ISB) of k-NN and kernel regression.

For densities of equal total variance in two dimensions, exact but for a grid: no samples are drawn.

A query's mean prediction is the mean of the task y over the embeddings in a ball of radius r around it, or
weighted by a Gaussian kernel of deviation h. For a task of one gradient g the leading terms are
r²/(K+2) · g·∇log p and h² · g·∇log p; over directions of g their square is τ²|∇log p|², and its mean over
queries the Fisher information J(p) = ∫ |∇log p|² p, times τ² = |g|²/K.
"""

import math
from typing import Any

import numpy as np
from _figure import COLOURS, QUIET, Drawing, make, panels
from matplotlib.ticker import NullLocator
from scipy.special import j1

SIDE, POINTS = 20.0, 400
AXIS = (np.arange(POINTS) - POINTS // 2) * SIDE / POINTS
X, Y = np.meshgrid(AXIS, AXIS, indexing="ij")
FREQUENCY = 2 * np.pi * np.fft.fftfreq(POINTS, SIDE / POINTS)
KAPPA = np.hypot(FREQUENCY[:, None], FREQUENCY[None, : POINTS // 2 + 1])


def densities() -> dict[str, np.ndarray]:
    """On the grid; centred, all of total variance 2."""
    bumps = sum(np.exp(-((X - s * 1.2) ** 2) / (2 * 0.28) - (Y**2) / (2 * 0.28)) for s in (-1, 1))
    shapes = {
        "isotropic Gaussian": np.exp(-(X**2 + Y**2) / 2),
        "Gaussian, condition 4": np.exp(-(X**2 / 1.6 + Y**2 / 0.4) / 2),
        "Gaussian, condition 10": np.exp(-(X**2 / (20 / 11) + Y**2 / (2 / 11)) / 2),
        "logistic": 1 / (np.cosh(X * math.pi / 12**0.5) * np.cosh(Y * math.pi / 12**0.5)) ** 2,
        "two bumps": bumps,
        "disc, soft edge": 1 / (1 + np.exp((np.hypot(X, Y) - 1.958) / 0.1)),
    }
    return {name: p / p.sum() for name, p in shapes.items()}


def fisher_information(p: np.ndarray) -> float:
    """∫ |∇log p|² p, by central differences of √p: 4 ∫ |∇√p|²."""
    return float(4 * sum((g**2).sum() for g in np.gradient(np.sqrt(p), SIDE / POINTS)))


def ball(r: float) -> np.ndarray:
    """The Fourier transform of the uniform distribution on a disc of radius r."""
    argument = np.maximum(KAPPA * r, 1e-9)
    return 2 * j1(argument) / argument


def gaussian(h: float) -> np.ndarray:
    return np.exp(-((h * KAPPA) ** 2) / 2)


def squared_bias(p: np.ndarray, kernel: np.ndarray, task: np.ndarray) -> float:
    """∫ (mean prediction - task)² p: queries are drawn from p, and where p vanishes there are none."""
    top, bottom = (np.fft.irfft2(np.fft.rfft2(f) * kernel, s=p.shape) for f in (p * task, p))
    where = p > 1e-9 * p.max()
    return float((p * (top / np.where(where, bottom, 1.0) - task) ** 2)[where].sum())


def linear_bias(p: np.ndarray, kernel: np.ndarray) -> float:
    """ISB averaged over the linear tasks of gradient 1, in all directions."""
    return (squared_bias(p, kernel, X) + squared_bias(p, kernel, Y)) / 2


def draw() -> Drawing:
    figure, axes = panels(1, 3, width=11, height=3.5)
    radii = [0.15, 0.25, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0]
    shapes = densities()
    small = 0.15
    numbers: dict[str, Any] = {"r and h": radii, "small r and h": small}
    information = {name: fisher_information(p) for name, p in shapes.items()}
    curves = {
        kind: {name: np.array([linear_bias(p, kernel(r)) for r in radii]) for name, p in shapes.items()}
        for kind, kernel in (("k-NN", ball), ("kernel", gaussian))
    }
    leading = {"k-NN": small**4 / 16 / 2, "kernel": small**4 / 2}
    for (kind, rows), marker in zip(curves.items(), "os", strict=True):
        for colour, (name, row) in zip(COLOURS, rows.items(), strict=False):
            measured = numbers[f"{kind}, ISB over τ² and its power of r or h: {name}"] = (
                row[0] / leading[kind]
            )
            numbers[f"{kind}, ISB: {name}"] = row
            axes[0].loglog(information[name], measured, marker, color=colour, ms=5)
    numbers |= {f"J: {name}": J for name, J in information.items()}
    limits = [1.5, 1.3 * max(information.values())]
    axes[0].loglog(limits, limits, color=QUIET, lw=1, zorder=0)
    for axis, ticks in ((axes[0].xaxis, [2, 3, 4, 6]), (axes[0].yaxis, [2, 3, 4, 6])):
        axis.set_ticks(ticks, labels=[str(tick) for tick in ticks])
        axis.set_minor_locator(NullLocator())
    axes[0].set(xlabel="J(p)", title=f"ISB over its leading factor,\nr, h = {small} (○ k-NN, □ kernel)")
    for axis, (kind, rows) in zip(axes[1:], curves.items(), strict=True):
        for colour, (name, row) in zip(COLOURS, rows.items(), strict=False):
            axis.semilogy(radii, row / rows["isotropic Gaussian"], "o-", color=colour, ms=3, label=name)
        axis.set(
            xlabel="r" if kind == "k-NN" else "h", title=f"{kind}: ISB over that of the\nisotropic Gaussian"
        )
    for axis in axes[1:]:
        axis.set_yticks([0.6, 0.8, 1, 2, 3], labels=["0.6", "0.8", "1", "2", "3"])
        axis.yaxis.set_minor_locator(NullLocator())
    axes[1].legend()

    beaten = curves["k-NN"]["disc, soft edge"] < curves["k-NN"]["isotropic Gaussian"]
    crossing = radii[beaten.tolist().index(True)]
    square, at = X**2 + Y**2, radii.index(0.6)
    round_task = {name: squared_bias(p, ball(0.6), square) for name, p in shapes.items()}
    numbers |= {f"k-NN, ISB of the task |z|², r = 0.6: {name}": value for name, value in round_task.items()}
    numbers["k-NN: the disc is better from r"] = crossing
    worst = max(
        abs(numbers[f"{kind}, ISB over τ² and its power of r or h: {name}"] / information[name] - 1)
        for kind in curves
        for name in shapes
        if name != "disc, soft edge"
    )
    numbers["largest relative distance from the leading term, but for the disc"] = worst
    a, b = (curves["k-NN"][name][at] for name in ("isotropic Gaussian", "disc, soft edge"))
    caption = (
        "Theorem 1 says that the integrated squared bias is r⁴/(K+2)²·τ²·J(p) for k-NN and below "
        "(h²μ/2)²·(2B² + 8L²J(p)) for kernels, and that among densities of one total variance the isotropic "
        "Gaussian alone makes it least. J is least there (2 here, the others "
        f"{min(J for n, J in information.items() if n != 'isotropic Gaussian'):.2f} to "
        f"{max(information.values()):.1f}). Measured over linear tasks at r, h = {small}: within "
        f"{100 * worst:.0f} % of τ²J times r⁴/(K+2)² or h⁴ (but for the disc, whose edge is narrower than "
        "that), a quarter of the kernel's bound. So it holds for small r and h. It is a statement about the "
        f"leading term: from r = {crossing} on a disc with a soft edge has less bias ({b:.4f} against "
        f"{a:.4f} at r = 0.6), though J is {information['disc, soft edge'] / 2:.1f} times as much. The "
        "remainder printed as O(r⁴) is of the order of the term itself: it holds the task's curvature, so a "
        "curved task can choose otherwise even for small r: of |z|² the leading terms stand as 15.4 to 20 "
        f"for logistic and isotropic Gaussian; measured at r = 0.6 {round_task['logistic']:.3f} and "
        f"{round_task['isotropic Gaussian']:.3f}."
    )
    return figure, numbers, caption


if __name__ == "__main__":
    make(__file__, draw)
