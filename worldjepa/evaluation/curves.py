"""What metrics.jsonl logged as small charts: inline SVG in the colours of the page that they stand in."""

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

Series = tuple[np.ndarray, np.ndarray]
# Stand-ins, which the page's style sheet says the colours of, in light and in dark.
PAINTS = {"#010101": "--text", "#020202": "--line", "#030303": "--first", "#040404": "--second"}
TEXT, LINE, FIRST, SECOND = PAINTS
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "worldjepa",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
}
# More points than a chart of this width shows.
POINTS = 240


class Chart(NamedTuple):
    """One chart as SVG, and in words what it shows, for who can't see it."""

    title: str
    told: str
    svg: str


class Panel(NamedTuple):
    """What one chart shows: the scalars with their names, a level to hold them against (a number or a
    scalar), the axis."""

    title: str
    scalars: dict[str, str]
    level: tuple[str, float | str] | None = None
    log: bool = False
    low: float | None = None
    high: float | None = None


PANELS = (
    Panel("Loss", {"train/loss": "loss"}, log=True),
    Panel("Prediction error", {"train/prediction": "prediction"}, log=True),
    Panel("Invariance", {"train/invariance": "invariance"}, log=True),
    Panel(
        "SIGReg", {"train/sigreg": "SIGReg"}, ("floor, a perfect Gaussian", "train/sigreg_floor"), log=True
    ),
    Panel("Effective rank (RankMe)", {"latent/rank": "latents", "latent/feature_rank": "features"}, low=0),
    Panel(
        "Spread of the latents' axes",
        {"latent/std_mean": "mean", "latent/std_min": "smallest"},
        ("SIGReg's target", 1.0),
        low=0,
    ),
    Panel("Held-out goals reached, %", {"eval/success": "reached"}, low=0, high=104),
    Panel("kNN on held-out images, %", {"probe/knn": "right"}, low=0, high=104),
    Panel("Speed, frames a second", {"perf/frames_per_second": "frames/s"}, low=0),
    Panel("Share of a step spent on data", {"perf/data_share": "share"}, low=0),
    Panel("Norm of the gradient", {"train/grad_norm": "norm"}, log=True),
    Panel("Learning rate", {"train/lr": "rate"}, low=0),
)


def charts(rows: Sequence[dict[str, float]]) -> list[Chart]:
    """Of what metrics.jsonl holds, one chart for each panel that something was logged for.

    Args:
        rows: its lines, as `Run.metrics` reads them. Numbers that are not finite are left out.
    """
    logged = _series(rows)
    drawn = []
    for panel in [*PANELS[:4], *_other_losses(logged), *PANELS[4:7], *_rollouts(logged), *PANELS[7:]]:
        found = {name: logged[key] for key, name in panel.scalars.items() if key in logged}
        if found:
            level = _level(panel, logged)
            drawn.append(Chart(panel.title, _told(found, level), _draw(panel, found, level)))
    return drawn


def _series(rows: Sequence[dict[str, float]]) -> dict[str, Series]:
    """Of each scalar the steps and the finite values, each (n,) with n > 0."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and np.isfinite(value):
                points.setdefault(name, []).append((row["step"], value))
    return {name: (np.array(p)[:, 0], np.array(p)[:, 1]) for name, p in points.items()}


def _other_losses(logged: dict[str, Series]) -> list[Panel]:
    """Parts of a rival's loss, each by its own name."""
    known = {key for panel in PANELS for key in panel.scalars}
    known |= {"train/sigreg_floor", "train/diverged"}
    names = [key for key in logged if key.startswith("train/") and key not in known]
    return [Panel(key.removeprefix("train/").replace("_", " ").capitalize(), {key: "value"}) for key in names]


def _rollouts(logged: dict[str, Series]) -> list[Panel]:
    """The rollout's gain over predicting that nothing moves, one and the last horizon ahead."""
    horizons = sorted(int(key.rsplit("_", 1)[1]) for key in logged if key.startswith("eval/rollout_gain_"))
    ends = sorted({*horizons[:1], *horizons[-1:]})
    names = {f"eval/rollout_gain_{h}": f"{h} {'block' if h == 1 else 'blocks'} ahead" for h in ends}
    return [Panel("Rollout gain (1: perfect)", names, ("nothing moves", 0.0), high=1.04)]


def _level(panel: Panel, logged: dict[str, Series]) -> tuple[str, float] | None:
    name, value = panel.level or ("", "")
    if isinstance(value, str):
        return (name, float(logged[value][1][-1])) if value in logged else None
    return name, value


def _told(found: dict[str, Series], level: tuple[str, float] | None) -> str:
    parts = [f"{level[0]}: {level[1]:.3g}"] if level else []
    for name, (_, values) in found.items():
        first, last = _short(values[0]), _short(values[-1])
        parts.append(f"{name}: {first} at first, {last} at last" if len(values) > 1 else f"{name}: {last}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _draw(panel: Panel, found: dict[str, Series], level: tuple[str, float] | None) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.0), layout="constrained")
        axis = figure.subplots()
        if level:
            axis.axhline(level[1], color=TEXT, linewidth=1, linestyle=":", label=level[0])
        for (name, (steps, values)), colour in zip(found.items(), (FIRST, SECOND), strict=False):
            sparse: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(values) < 30 else {}
            axis.plot(*_thinned(steps, values), color=colour, linewidth=1.6, label=name, **sparse)
        _scale(axis, panel, np.concatenate([values for _, values in found.values()]))
        if len(axis.lines) > 1:
            axis.legend(frameon=False, fontsize=8, labelcolor=TEXT, borderpad=0, handlelength=1.6)
        axis.set_xlim(0)
        axis.set_xlabel("step", fontsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(labelsize=8, length=2)
        return _svg(figure, panel.title)


def _scale(axis: Axes, panel: Panel, values: np.ndarray) -> None:
    """A logarithmic axis where that was asked for and the values (n,) span enough of one."""
    if panel.log and values.min() > 0 and values.max() > 4 * values.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
    elif panel.low is not None and panel.high is None:
        # Room above the highest point.
        axis.set_ylim(panel.low, 1.08 * max(axis.get_ylim()[1], 1e-9))
    else:
        axis.set_ylim(panel.low, panel.high)


def _thinned(steps: np.ndarray, values: np.ndarray) -> Series:
    """Means of neighbours where there are more points than are seen; the last point stays as it is."""
    group = -(-len(values) // POINTS)
    if group == 1:
        return steps, values
    starts = np.arange(0, len(values), group)
    counts = np.diff([*starts, len(values)])
    means = [np.add.reduceat(column, starts) / counts for column in (steps, values)]
    return np.append(means[0], steps[-1]), np.append(means[1], values[-1])


def _svg(figure: Figure, title: str) -> str:
    """The drawing alone, transparent, without a size of its own; its ids are like no other chart's."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    prefix = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for paint, variable in PAINTS.items():
        text = text.replace(paint, f"var({variable})")
    text = re.sub(
        r'<svg [^>]*viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text, count=1
    )
    # The page's own font; and a style sheet within would be the page's too.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r" font-family: [^;]+;", "", text)
    return text.replace("xlink:href", "href")
