"""The article's 10-20-10 network, trained by SIGReg alone to make N(0, I) of a uniform input."""

from collections.abc import Sequence
from typing import Any

import torch
from _figure import ACCENT, INK, QUIET, Drawing, make, panels
from matplotlib.axes import Axes
from scipy import stats
from torch import Tensor, nn

from worldjepa.sigreg import EppsPulley, SIGReg

D, N, STEPS = 10, 500, 1000
EPPS_PULLEY = EppsPulley(t_max=5, knots=9)  # the article's 17 knots on [-5, 5]


def train() -> tuple[dict[str, Tensor], list[float]]:
    """Outputs (N, D) before and after, of training and other inputs, and samples of N(0, I); the losses."""
    inputs, test = (10 * torch.rand(2 * N, D) - 5).split(N)
    network = nn.Sequential(nn.Linear(D, 20), nn.ReLU(), nn.Linear(20, D))
    sigreg = SIGReg(EPPS_PULLEY, num_slices=256, reference_batch=None)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    clouds, losses = {"before, test": outputs(network, test)}, []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = sigreg(network(inputs))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    clouds |= {"after, training": outputs(network, inputs), "after, test": outputs(network, test)}
    return clouds | {"N(0, I)": torch.randn(N, D)}, losses


def draw_marginals(axes: Sequence[Axes], clouds: dict[str, Tensor]) -> None:
    x, direction = torch.linspace(-5, 5, 300), torch.randn(D)
    directions = {"first coordinate": torch.eye(D)[0], "a random direction": direction / direction.norm()}
    shown = [(label, name) for label in directions for name in ("before, test", "after, test")]
    for axis, (label, name) in zip(axes, shown, strict=True):
        colour = INK if name == "after, test" else QUIET
        axis.hist((clouds[name] @ directions[label]).numpy(), bins=30, density=True, color=colour)
        axis.plot(x, stats.norm.pdf(x), "--", color=ACCENT)
        axis.set(title=f"{label}, {name}", xlim=(-5, 5))


def draw_losses(axis: Axes, losses: list[float]) -> None:
    axis.loglog(range(1, STEPS + 1), losses, color=INK, linewidth=1)
    axis.axhline(EPPS_PULLEY.floor, color=ACCENT, linestyle="--", label="mean of N(0, I)")
    axis.set(title="training loss", xlabel="step")
    axis.legend()


def draw_statistics(axis: Axes, statistics: dict[str, Tensor]) -> None:
    for name, colour in zip(list(statistics)[1:], (QUIET, INK, ACCENT), strict=True):
        values = statistics[name].sort().values
        axis.semilogx(values, torch.linspace(0, 1, len(values)), color=colour, label=name)
    axis.set(title="2000 other directions, share below")
    axis.legend()


def caption(numbers: dict[str, Any]) -> str:
    statistic, mean, covariance = (
        {name: f"{value:.3g}" for name, value in numbers[key].items()}
        for key in ("mean_statistic", "mean_error", "covariance_error")
    )
    return (
        "The article: SIGReg makes the 10-dimensional outputs of a small network 'more Gaussian', its "
        f"loss ends at 0.26. Measured ({N} training inputs, {STEPS} steps, 256 slices drawn anew at each): "
        f"the loss ends at {numbers['final_loss']:.2f}. On {N} other inputs the mean statistic of 2000 other "
        f"directions fell from {statistic['before, test']} to {statistic['after, test']}, |mean| from "
        f"{mean['before, test']} to {mean['after, test']}, |covariance - I| (Frobenius) from "
        f"{covariance['before, test']} to {covariance['after, test']}; {N} samples of N(0, I) give "
        f"{statistic['N(0, I)']}, {mean['N(0, I)']} and {covariance['N(0, I)']}. On the training inputs it "
        f"is {statistic['after, training']}, {mean['after, training']} and "
        f"{covariance['after, training']}: what lies below the values of N(0, I) is fitted to these "
        "samples and does not carry over to others."
    )


def draw() -> Drawing:
    clouds, losses = train()
    held_out = SIGReg(EPPS_PULLEY, num_slices=2000, reference_batch=None)
    held_out.step.fill_(10**6)  # directions that training has not seen
    statistics = {name: held_out.statistics(cloud) for name, cloud in clouds.items()}
    errors = {name: moment_errors(cloud) for name, cloud in clouds.items()}
    figure, axes = panels(2, 3, height=2.7)
    draw_marginals([axes[0], axes[1], axes[3], axes[4]], clouds)
    draw_losses(axes[2], losses)
    draw_statistics(axes[5], statistics)
    numbers = {
        "D": D,
        "N": N,
        "final_loss": losses[-1],
        "gaussian_floor": EPPS_PULLEY.floor,
        "mean_statistic": {name: float(values.mean()) for name, values in statistics.items()},
        "mean_error": {name: error[0] for name, error in errors.items()},
        "covariance_error": {name: error[1] for name, error in errors.items()},
        "losses": losses,
    }
    return figure, numbers, caption(numbers)


@torch.no_grad()
def outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    return network(inputs)


def moment_errors(cloud: Tensor) -> tuple[float, float]:
    """|mean| and |covariance - I| (Frobenius) of (N, D)."""
    return float(cloud.mean(0).norm()), float((cloud.T.cov() - torch.eye(cloud.shape[1])).norm())


if __name__ == "__main__":
    make(__file__, draw)
