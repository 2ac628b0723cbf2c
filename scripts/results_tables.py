"""Tables and curves of sweeps, from results/ alone.

python scripts/results_tables.py                  # Markdown of every sweep that has results
python scripts/results_tables.py tasks controls   # of these
python scripts/results_tables.py --to docs        # into docs/results.md, with its curves as PNG
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sweep_grid import SEED

from worldjepa.evaluation.few_shot import interval
from worldjepa.evaluation.figures import INK, QUIET, rule, save
from worldjepa.run import write_text

RESULTS = Path(__file__).parents[1] / "results"
MODEL, FLOOR = "world model", "random actions"
OBJECTIVE = "model.objective"
# What the loss needs only while it trains.
HELPERS = ("sigreg", "decoder", "teacher", "inverse_dynamics")

# Stands above the tables.
NOTE = (
    "A number is the mean over the seeds; in brackets, or behind ±, its 95% interval: of several seeds "
    "Student's, of one Wilson's over the goals."
)

Result = dict[str, Any]


def parameters(result: Result) -> int:
    """Of what plans: encoder, projector, action encoder and predictor."""
    return sum(count for name, count in result["parameters"].items() if name not in HELPERS)


# By the beginning of a setting's name the curve that it is a point of: its axis, and where on it a run lies.
CURVES: dict[str, tuple[str, Callable[[Result], float]]] = {
    "minutes": ("minutes of training", lambda result: result["config"]["train.minutes"]),
    "episodes": ("frames of data", lambda result: result["frames"]),
    "size": ("parameters", parameters),
}
# The recipe itself, a point of every curve that has none of its own by this name.
USUAL = "usual"


def read(sweep: str, results: Path) -> list[Result]:
    """The results of a sweep, by their names, in which numbers count as numbers; our own objective first."""
    found = [json.loads(path.read_text("utf-8")) for path in (results / sweep).glob("*.json")]

    def place(result: Result) -> Any:
        parts = re.split(r"(\d+)", result["name"])
        return result["axes"].get(OBJECTIVE, "jepa") != "jepa", [int(p) if p.isdigit() else p for p in parts]

    return sorted(found, key=place)


def groups(results: Sequence[Result], without: Sequence[str]) -> dict[tuple[Any, ...], list[Result]]:
    """Results by the values of their axes but these; of an axis with one value alone nothing is said."""
    names = [a for a in results[0]["axes"] if a not in without]
    found: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        found.setdefault(tuple(result["axes"][name] for name in names), []).append(result)
    return found


def cell(rows: Sequence[dict[str, Any]]) -> str:
    """Success of one policy over the seeds, in per cent, with its interval."""
    if not rows:
        return ""
    low, high = interval([row["success"] for row in rows]) if len(rows) > 1 else rows[0]["interval"]
    mean = np.mean([row["success"] for row in rows])
    return f"{mean:.1f} % ({max(0, low):.0f} to {min(100, high):.0f})"


def number(values: Sequence[float], digits: int = 2) -> str:
    """A mean over seeds, ± the half of its interval where there are several."""
    if not values:
        return ""
    mean = float(np.mean(values))
    half = mean - interval(values)[0]
    return f"{mean:,.{digits}f}" + (f" ± {half:,.{digits}f}" if len(values) > 1 else "")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def success_table(results: Sequence[Result], evaluation: str) -> str:
    """A row for each setting; a column for each policy, or for each objective where they differ. What does
    not depend on the model, floor and bound, is the same in every result that has it."""
    measured = [result for result in results if evaluation in result["measured"]]
    objectives = list(dict.fromkeys(r["axes"][OBJECTIVE] for r in measured if OBJECTIVE in r["axes"]))
    policies = list(dict.fromkeys(name for r in measured for name in r["measured"][evaluation]["rows"]))
    bounds = [name for name in policies if name.endswith("true dynamics")]
    learnt = [name for name in policies if name not in (FLOOR, *bounds)]
    axes, rows = [name for name in measured[0]["axes"] if name not in (SEED, OBJECTIVE)], []
    for values, found in groups(measured, (SEED, OBJECTIVE)).items():
        columns = [_rows(found, evaluation, FLOOR)[:1]]
        if objectives:
            of = {name: [r for r in found if r["axes"][OBJECTIVE] == name] for name in objectives}
            columns += [_rows(chosen, evaluation, MODEL) for chosen in of.values()]
        else:
            of = {MODEL: found}
            columns += [_rows(found, evaluation, name) for name in learnt]
        columns += [_rows(found, evaluation, name)[:1] for name in bounds]
        seeds = sorted({len(chosen) for chosen in of.values()})
        cells = [*map(cell, columns), " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))]
        rows.append([*(f"`{value}`" for value in values), *cells])
    said = measured[0]["measured"][evaluation]
    table = markdown([*axes, FLOOR, *(objectives or learnt), *bounds, "seeds"], rows)
    return f"{rule(said)}; {said['rows'][MODEL]['goals']} goals of held-out episodes.\n\n{table}"


def _rows(results: Sequence[Result], evaluation: str, policy: str) -> list[dict[str, Any]]:
    """One policy's rows of an evaluation, of the results that have it."""
    found = (result["measured"][evaluation]["rows"] for result in results)
    return [rows[policy] for rows in found if policy in rows]


def training_table(results: Sequence[Result]) -> str:
    """What each setting's training gave beside goals: probes, rank, size, time."""
    head = ["R² coordinates", "R² velocities", "RankMe", "parameters", "frames", "steps", "minutes", "seeds"]
    rows = []
    for values, found in groups(results, (SEED,)).items():
        probes = [p for r in found if (p := r["measured"].get("probe")) and "mean_r2" in p]
        read_off = [
            [p["mean_r2"][k] for p in probes if k in p["mean_r2"]] for k in ("coordinates", "velocities")
        ]
        cells = [*map(number, read_off), number([p["rank"] for p in probes], 1)]
        cells += [f"{parameters(found[0]) / 1e6:.2f} M", f"{found[0].get('frames', 0):,}"]
        cells += [
            number([r["steps"] for r in found], 0),
            number([r["seconds"]["train"] / 60 for r in found], 1),
        ]
        rows.append([*(f"`{value}`" for value in values), *cells, str(len(found))])
    return markdown([*(name for name in results[0]["axes"] if name != SEED), *head], rows)


def curve(
    results: Sequence[Result], kind: str, evaluation: str
) -> dict[str, list[tuple[float, list[float]]]]:
    """By recipe the points of a curve, from left to right: where, and the success of each seed."""
    where, points = CURVES[kind][1], {}
    own = {r["axes"]["setting"] for r in results}
    usual = f"{kind}-{USUAL}" if f"{kind}-{USUAL}" in own else USUAL
    for result in results:
        setting = result["axes"]["setting"]
        if setting == usual or setting.startswith(f"{kind}-"):
            success = result["measured"][evaluation]["rows"][MODEL]["success"]
            points.setdefault(result["recipe"], {}).setdefault(where(result), []).append(success)
    return {recipe: sorted(found.items()) for recipe, found in points.items()}


def draw_curves(results: Sequence[Result], path: Path) -> Path:
    """A panel for each curve and evaluation: mean of the seeds, each seed as a dot, the floor dashed."""
    evaluations = [n for n, v in results[0]["measured"].items() if "rows" in v]
    kinds = [kind for kind in CURVES if any(r["axes"]["setting"].startswith(f"{kind}-") for r in results)]
    figure = Figure(figsize=(3.4 * len(kinds), 2.9 * len(evaluations)), layout="constrained")
    axes = figure.subplots(len(evaluations), len(kinds), squeeze=False)
    colours = dict(
        zip(dict.fromkeys(r["recipe"] for r in results), (INK, "#c8553d", "#4d8f6f"), strict=False)
    )
    for row, evaluation in zip(axes, evaluations, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            for recipe, points in curve(results, kind, evaluation).items():
                colour = colours.get(recipe, QUIET)
                axis.plot([x for x, _ in points], [np.mean(y) for _, y in points], color=colour, label=recipe)
                dots = [(x, y) for x, values in points for y in values]
                axis.plot(*zip(*dots, strict=True), "o", color=colour, markersize=3, alpha=0.6)
                floor = next(r for r in results if r["recipe"] == recipe)["measured"][evaluation]["rows"][
                    FLOOR
                ]
                axis.axhline(floor["success"], color=colour, linestyle="--", linewidth=0.8)
            axis.set(xscale="log", ylim=(0, 104), xlabel=CURVES[kind][0])
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"{evaluation}: goals reached, %")
    axes[0, 0].legend(frameon=False, loc="lower right")
    return save(figure, path)


def section(sweep: str, results: Sequence[Result], picture: str = "") -> str:
    """All that is told of a sweep, in Markdown."""
    measured = (item for result in results for item in result["measured"].items())
    goals = dict.fromkeys(name for name, values in measured if MODEL in values.get("rows", {}))
    tables = [f"### {name}\n\n{success_table(results, name)}" for name in goals]
    machines = sorted({f"{r['machine']['device']}, {r['machine']['cores']} cores" for r in results})
    hours = sum(sum(result["seconds"].values()) for result in results) / 3600
    made = f"{len(results)} runs, {hours:.1f} hours ({'; '.join(machines)})."
    shown = [f"![Success against what it costs.]({picture})"] if picture else []
    return "\n\n".join([f"## {sweep}", made, *shown, *tables, "### training", training_table(results)])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "results_tables.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help="default: all that have results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: results")
    parser.add_argument("--to", type=Path, help="folder for results.md and PNGs; else Markdown is printed")
    options = parser.parse_args(argv)
    sweeps = options.sweeps or sorted({path.parent.name for path in options.results.glob("*/*.json")})
    found = {sweep: read(sweep, options.results) for sweep in sweeps}
    if empty := [sweep for sweep, results in found.items() if not results] or not found:
        names = "any sweep" if empty is True else ", ".join(empty)
        print(f"results_tables.py: {options.results}: has no results of {names}", file=sys.stderr)
        return 2
    sections = []
    for sweep, results in found.items():
        curves = options.to and all("setting" in result["axes"] for result in results)
        picture = draw_curves(results, _made(options.to) / f"{sweep}.png").name if curves else ""
        sections.append(section(sweep, results, picture))
    text = "\n\n".join(["# Results", NOTE, *sections]) + "\n"
    if options.to:
        write_text(_made(options.to) / "results.md", text)
    print(options.to / "results.md" if options.to else text)
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
