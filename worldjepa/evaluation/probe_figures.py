"""The table and the figures of `worldjepa probe` for world models, drawn from its probe.json."""

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import INK, QUIET, save
from .tables import markdown

HEADS = {"ridge": "ridge, R²", "mlp": "MLP, R²", "knn": "kNN, R²", "logistic": "quarter, % right"}
COLOURS = ("#1f3b57", "#9aa7b4", "#c8553d", "#3f8f5f")


def probe_table(results: dict[str, Any]) -> str:
    """What `worldjepa probe` prints, from its probe.json, in Markdown."""
    latents = [
        row
        for task, names in results["probes"]["latent"].items()
        for row in (
            *([_named(task, name), *_cells(kinds)] for name, kinds in names.items()),
            [f"mean of {task}", *_cells(results["means"]["latent"][task])],
        )
    ]
    seeds, episodes = results["options"]["seeds"], results["test_episodes"]
    return "\n\n".join(
        [
            markdown(["from latents", *HEADS.values()], latents),
            markdown(*_compared(results)),
            *([markdown(*_depths(results))] if "rollouts" in results else []),
            f"Fitted on {results['train_frames']} training frames, {seeds} times; judged on "
            f"{results['test_frames']} frames of {episodes} held-out episodes. In brackets: 95% intervals of "
            "the bootstrap over those episodes. A quarter is named by chance in about 25 %.",
            f"RankMe {results['rank']:.1f} of {results['latent']} dimensions",
        ]
    )


def _named(task: str, name: str) -> str:
    return f"Δ {name}" if task == "changes" else name


def _cells(kinds: dict[str, Any]) -> list[str]:
    return [_cell(kinds[kind]) for kind in HEADS]


def _cell(row: dict[str, Any]) -> str:
    if "accuracy" in row:
        return f"{100 * row['accuracy']:.1f}"
    low, high = row["episodes"]
    return f"{row['r2']:.3f} [{low:.3f}, {high:.3f}]"


def _compared(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Means from every source, and the share that latents give of what the true coordinates give."""
    means, rows = results["means"], []
    for task in means["latent"]:
        for kind, head in HEADS.items():
            of_sources = [source[task][kind] for source in means.values()]
            share = results["of_truth"][task].get(kind)
            rows.append(
                [
                    f"{task}, {head}",
                    *(f"{r['r2']:.3f}" if "r2" in r else f"{100 * r['accuracy']:.1f}" for r in of_sources),
                    "" if share is None else f"{share:.3f}",
                ]
            )
    return ["mean, from", *means, "latent / true"], rows


def _depths(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Mean R² of the state from imagined latents, at some depths."""
    curves = results["rollouts"]
    count = len(next(iter(next(iter(curves.values())).values())))
    depths = sorted({0, 1, 2, 3, 5, 8, count - 1} & set(range(count)))
    rows = [
        [f"{task}: {name.replace('mlp', 'MLP')}", *(f"{rows[depth]['r2']:.3f}" for depth in depths)]
        for task, curve in curves.items()
        for name, rows in curve.items()
    ]
    return ["R² at depth, action blocks", *map(str, depths)], rows


def probe_figures(path: Path) -> list[Path]:
    """All kinds of probe of everything from every source as probe.png, and, where there are rollouts, R²
    against their depth as probe_depth.png; from probe.json, beside it."""
    results = json.loads(path.read_text("utf-8"))
    return [_draw_probes(path, results), *([_draw_depths(path, results)] if "rollouts" in results else [])]


def _draw_probes(path: Path, results: dict[str, Any]) -> Path:
    """A column for each kind of probe, a row for each task; in each a point for each value and source."""
    probes = results["probes"]
    tasks = {task: list(names) for task, names in probes["latent"].items()}
    heights = [len(names) + 1 for names in tasks.values()]
    figure = Figure(figsize=(13, 0.36 * sum(heights) + 1.6), layout="constrained")
    axes = figure.subplots(len(tasks), len(HEADS), squeeze=False, height_ratios=heights, sharey="row")
    for row, (task, names) in enumerate(tasks.items()):
        for column, (kind, head) in enumerate(HEADS.items()):
            axis = axes[row, column]
            _draw_points(axis, {source: rows[task] for source, rows in probes.items()}, names, kind)
            axis.set_yticks(range(len(names)), [_named(task, name) for name in names])
            axis.set_ylim(len(names) - 0.5, -0.5)
            if row == 0:
                axis.set_title(head, loc="left", fontsize=10)
        axes[row, 0].set_ylabel(task)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return save(figure, path.with_suffix(".png"))


def _draw_points(axis: Axes, sources: dict[str, Any], names: list[str], kind: str) -> None:
    """Bars are 95% intervals over held-out episodes. What is below 0 stands at the edge."""
    value, scale = ("accuracy", 100) if kind == "logistic" else ("r2", 1)
    for number, (source, rows) in enumerate(sources.items()):
        found = [rows[name][kind] for name in names]
        middle = [scale * max(0, row[value]) for row in found]
        ends = [[scale * max(0, end) for end in row["episodes"]] for row in found]
        spread = [
            [max(0, m - low) for m, (low, _) in zip(middle, ends, strict=True)],
            [max(0, high - m) for m, (_, high) in zip(middle, ends, strict=True)],
        ]
        places = [i + 0.17 * (number - (len(sources) - 1) / 2) for i in range(len(names))]
        axis.errorbar(middle, places, xerr=spread, color=COLOURS[number], fmt="o", markersize=4, label=source)
    if kind == "logistic":
        chance = sum(row[kind]["chance"] for row in sources["latent"].values()) / len(names)
        axis.axvline(scale * chance, color=QUIET, linestyle=":", linewidth=1)
    axis.set_xlim(-0.03 * scale, 1.03 * scale)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_depths(path: Path, results: dict[str, Any]) -> Path:
    """A panel for each task; the band is the 95% interval over held-out episodes."""
    curves = results["rollouts"]
    figure = Figure(figsize=(5.5 * len(curves), 4), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    colours = {"ridge": INK, "mlp": COLOURS[2], "ridge, refitted": COLOURS[3]}
    styles = {"imagined": "-", "seen": "--", "still": ":"}
    for axis, (task, curve) in zip(axes, curves.items(), strict=True):
        for name, rows in curve.items():
            kind, _, how = name.partition(", ")
            colour, style = colours.get(name) or colours[kind], styles.get(how, "-")
            label = name.replace("mlp", "MLP")
            axis.plot([row["r2"] for row in rows], color=colour, linestyle=style, label=label)
            if style == "-":
                low, high = zip(*(row["episodes"] for row in rows), strict=True)
                axis.fill_between(range(len(rows)), low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(task, loc="left", fontsize=10)
        axis.set_xlabel(f"depth, action blocks of {results['frameskip']} steps")
        least = min(row["r2"] for rows in curve.values() for row in rows)
        axis.set_ylim(max(-0.05, least - 0.05), 1.02)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("mean R², held-out episodes")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return save(figure, path.with_name("probe_depth.png"))
