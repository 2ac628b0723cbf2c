"""Figures and tables of results, drawn from the JSON that the commands leave, never from a live model."""

import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..files import whole
from .tables import markdown

INK, QUIET = "#1f3b57", "#9aa7b4"


def plan_table(results: dict[str, Any]) -> str:
    """The table that `worldjepa plan` prints, from its plan.json, in Markdown."""
    rows = []
    for name, row in results["rows"].items():
        low, high = row["interval"]
        rows.append(
            [
                name,
                f"{row['success']:.1f} %",
                f"{low:.1f} to {high:.1f} %",
                f"{row['reached']} of {row['goals']}",
                f"{row['median_final_error']:.2f} ×",
                f"{1000 * row['seconds_per_decision']:.1f} ms",
            ]
        )
    head = ["", "success", "95% interval", "goals", "final error", "per decision"]
    looked = results["already_there"] + results["pairs"]
    lines = [rule(results), "", markdown(head, rows), ""]
    lines.append(
        f"{results['already_there']} of {looked} starts were already at their goal and are left out; "
        "final error: median, in tolerances."
    )
    errors = results["rows"]["world model"].get("median_errors", {})
    if errors:
        told = ", ".join(f"{name} {value:.3g}" for name, value in errors.items())
        lines.append(f"World model, median final error: {told}.")
    return "\n".join(lines)


def rule(results: dict[str, Any]) -> str:
    """What a plan.json counts as reaching a goal, in words."""
    words = f"{results['goal_offset']} steps ahead, budget {results['budget']}"
    if results["tolerance"] != 1:
        words += f", within {results['tolerance']:g} × the tolerance"
    return words + (f", for {results['hold']} steps" if results["hold"] > 1 else "")


def plan_figure(path: Path) -> Path:
    """Bars of success with their intervals, from plan.json; written beside it as plan.png."""
    results = json.loads(path.read_text("utf-8"))
    rows = results["rows"]
    figure = Figure(figsize=(7, 0.6 * len(rows) + 1.3), layout="constrained")
    axis = figure.subplots()
    for position, (name, row) in enumerate(reversed(rows.items())):
        low, high = row["interval"]
        success = row["success"]
        axis.barh(position, success, color=INK if name == "world model" else QUIET, height=0.6)
        axis.errorbar(
            success,
            position,
            xerr=[[max(0, success - low)], [max(0, high - success)]],
            color="black",
            capsize=3,
        )
        if low > 20:
            axis.text(2, position, f"{success:.1f} %", va="center", color="white", fontweight="bold")
        else:
            axis.text(high + 2, position, f"{success:.1f} %", va="center", fontweight="bold")
    axis.set_yticks(range(len(rows)), reversed(rows.keys()))
    axis.set_xlim(0, 100)
    axis.set_xlabel("goals reached, % (bars: Wilson 95% interval)")
    name = results["environment"].split("/")[-1]
    axis.set_title(f"{name}: {rule(results)}", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    return save(figure, path.with_suffix(".png"))


def save(figure: Figure, path: Path) -> Path:
    with matplotlib.rc_context({"savefig.dpi": 150}), whole(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
