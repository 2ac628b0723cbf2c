"""Tables and curves of sweeps, from results/ alone.

python scripts/results_tables.py                  # Markdown of every sweep that has results
python scripts/results_tables.py tasks controls   # of these
python scripts/results_tables.py --to docs        # into docs/results.md, with its curves as PNG
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sweep_grid import SEED, recipe_of
from sweep_run import held

from worldjepa.documents import OTHER_FORM
from worldjepa.errors import UserError
from worldjepa.evaluation.few_shot import interval
from worldjepa.evaluation.figures import INK, QUIET, rule, save
from worldjepa.run import write_text

RESULTS = Path(__file__).parents[1] / "results"
MODEL, FLOOR = "world model", "random actions"
OBJECTIVE = "model.objective"
# The sweep whose models, one for each task, one model for several is held against.
SINGLE = "tasks"
# What the loss needs only while it trains.
HELPERS = ("sigreg", "decoder", "teacher", "inverse_dynamics")

COLOURS = (INK, "#c8553d", "#4d8f6f", QUIET)
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
    """The results of a sweep by the values of their axes, seeds last; numbers in names count as numbers, and
    our own objective comes first."""
    found = [held(path) for path in (results / sweep).glob("*.json")]

    def place(result: Result) -> Any:
        values = [str(value) for name, value in result["axes"].items() if name != SEED]
        parts = [[int(p) if p.isdigit() else p for p in re.split(r"(\d+)", value)] for value in values]
        return [(v != "jepa", p) for v, p in zip(values, parts, strict=True)], result["seed"]

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


def success_table(results: Sequence[Result], evaluations: Sequence[str]) -> str:
    """A row for each evaluation and setting; a column for each policy, or for each objective where they
    differ. What does not depend on the model, floor and bound, is the same in every result that has it."""
    policies = list(dict.fromkeys(p for name in evaluations for r in results for p in _all_rows(r, name)))
    objectives = list(dict.fromkeys(r["axes"][OBJECTIVE] for r in results if OBJECTIVE in r["axes"]))
    bounds = [name for name in policies if name.endswith("true dynamics")]
    learnt = [name for name in policies if name not in (FLOOR, *bounds)]
    rows = []
    for evaluation in evaluations:
        for values, found in groups(results, (SEED, OBJECTIVE)).items():
            ours = [[r for r in found if r["axes"][OBJECTIVE] == name] for name in objectives]
            columns = [_rows(found, evaluation, FLOOR)[:1]]
            columns += [_rows(chosen, evaluation, MODEL) for chosen in ours]
            columns += [] if ours else [_rows(found, evaluation, name) for name in learnt]
            columns += [_rows(found, evaluation, name)[:1] for name in bounds]
            seeds = sorted({len(_rows(chosen, evaluation, MODEL)) for chosen in ours or [found]})
            cells = [*map(cell, columns), " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))]
            rows.append([f"`{evaluation}`", *(f"`{value}`" for value in values), *cells])
    axes = [name for name in results[0]["axes"] if name not in (SEED, OBJECTIVE)]
    return markdown(["goals", *axes, FLOOR, *(objectives or learnt), *bounds, "seeds"], rows)


def _all_rows(result: Result, evaluation: str) -> dict[str, dict[str, Any]]:
    return result["measured"].get(evaluation, {}).get("rows", {})


def rules(results: Sequence[Result], evaluations: Sequence[str]) -> str:
    """What each evaluation counts as reaching a goal, and how many goals it tries."""
    lines = []
    for name in evaluations:
        said = next(r["measured"][name] for r in results if name in r["measured"])
        lines.append(f"- `{name}`: {said['rows'][MODEL]['goals']} held-out goals, {rule(said)}.")
    return "\n".join(lines)


def _rows(results: Sequence[Result], evaluation: str, policy: str) -> list[dict[str, Any]]:
    """One policy's rows of an evaluation, of the results that have it."""
    found = (_all_rows(result, evaluation) for result in results)
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


def against_single(results: Sequence[Result], singles: Sequence[Result]) -> str:
    """One model for several tasks beside the models of each task alone, on the same goals and frames; a row
    for each task. Its evaluations are called "TASK NAME", those of a single model NAME."""
    names = dict.fromkeys(name for r in results for name in r["measured"])
    rows = []
    for task in dict.fromkeys(name.rpartition(" ")[0] for name in names):
        near, probe, own = f"{task} near", f"{task} probe", [r for r in singles if _is_of(r, task)]
        goals = [_rows(results, near, MODEL), _rows(own, "near", MODEL)]
        floor, bound = _rows(results, near, FLOOR)[:1], _rows(own, "near", "same solver, true dynamics")[:1]
        read_off = [
            [r["measured"][name]["mean_r2"]["coordinates"] for r in found if name in r["measured"]]
            for found, name in ((results, probe), (own, "probe"))
        ]
        seeds = f"{len(goals[0])}, {len(goals[1])}"
        rows.append([f"`{task}`", *map(cell, (floor, *goals, bound)), *map(number, read_off), seeds])
    model = ["one model", "a model each"]
    head = ["task", FLOOR, *model, "true dynamics", *(f"R², {name}" for name in model), "seeds"]
    return markdown(head, rows)


def _is_of(result: Result, task: str) -> bool:
    """Whether it is of our own loss on one task alone."""
    return result["recipe"] == task and result["axes"].get(OBJECTIVE, "jepa") == "jepa"


def of_several(results: Sequence[Result]) -> bool:
    """Whether a model is looked at with other recipes' data than its own."""
    return any(recipe_of(words, "") for r in results for words in r.get("evaluate", {}).values())


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
    evaluations = [name for name in results[0]["measured"] if MODEL in _all_rows(results[0], name)]
    kinds = [kind for kind in CURVES if any(r["axes"]["setting"].startswith(f"{kind}-") for r in results)]
    figure = Figure(figsize=(3.4 * len(kinds), 2.9 * len(evaluations) + 0.3), layout="constrained")
    axes = figure.subplots(len(evaluations), len(kinds), squeeze=False)
    for row, evaluation in zip(axes, evaluations, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            floors = {r["recipe"]: _all_rows(r, evaluation)[FLOOR]["success"] for r in results}
            _panel(axis, curve(results, kind, evaluation), floors)
            axis.set_xlabel(CURVES[kind][0])
        row[0].set_ylabel(f"{evaluation}: goals reached, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False)
    return save(figure, path)


def _panel(axis: Axes, curves: dict[str, list[tuple[float, list[float]]]], floors: dict[str, float]) -> None:
    places = sorted({x for points in curves.values() for x, _ in points})
    for (recipe, points), colour in zip(curves.items(), COLOURS, strict=False):
        axis.plot([x for x, _ in points], [np.mean(y) for _, y in points], color=colour, label=recipe)
        dots = [(x, y) for x, values in points for y in values]
        axis.plot(*zip(*dots, strict=True), "o", color=colour, markersize=3, alpha=0.6)
        axis.axhline(floors[recipe], color=colour, linestyle="--", linewidth=0.8)
    axis.set(xscale="log", ylim=(0, 104))
    axis.set_xticks(places, [_short(x) for x in places])
    axis.minorticks_off()
    axis.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    """A number on an axis: 32k, 1.6M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def section(sweep: str, results: Sequence[Result], singles: Sequence[Result], picture: str = "") -> str:
    """All that is told of a sweep, in Markdown; `singles` are the results of SINGLE."""
    measured = (item for result in results for item in result["measured"].items())
    goals = list(dict.fromkeys(name for name, values in measured if MODEL in values.get("rows", {})))
    tables = [rules(results, goals), success_table(results, goals)]
    tables += [against_single(results, singles)] if of_several(results) else []
    machines = sorted({f"{r['machine']['device']}, {r['machine']['cores']} cores" for r in results})
    hours = sum(sum(result["seconds"].values()) for result in results) / 3600
    many = "1 run" if len(results) == 1 else f"{len(results)} runs"
    made = f"{many}, {hours:.1f} hours ({'; '.join(machines)})."
    shown = [f"![Success against what it costs.]({picture})"] if picture else []
    return "\n\n".join([f"## {sweep}", made, *shown, *tables, training_table(results)])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "results_tables.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help="default: all that have results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: results")
    parser.add_argument("--to", type=Path, help="folder for results.md and PNGs; else Markdown is printed")
    options = parser.parse_args(argv)
    sweeps = options.sweeps or sorted({path.parent.name for path in options.results.glob("*/*.json")})
    try:
        sections = [told(sweep, options.results, options.to) for sweep in sweeps]
        if not sections:
            raise UserError(f"{options.results}: has no results of any sweep")
    except UserError as error:
        print(f"results_tables.py: {error}", file=sys.stderr)
        return 2
    text = "\n\n".join(["# Results", NOTE, *sections]) + "\n"
    if options.to:
        write_text(_made(options.to) / "results.md", text)
    print(options.to / "results.md" if options.to else text)
    return 0


def told(sweep: str, folder: Path, to: Path | None) -> str:
    """The section of a sweep, its curves drawn into a folder.

    Raises:
        UserError: it has no results, or they are damaged or of another version.
    """
    try:
        results = read(sweep, folder)
        if not results:
            raise UserError(f"{folder}: has no results of {sweep}")
        curves = to and all("setting" in result["axes"] for result in results)
        picture = draw_curves(results, _made(to) / f"{sweep}.png").name if to and curves else ""
        return section(sweep, results, read(SINGLE, folder), picture)
    except OTHER_FORM as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{folder / sweep}: holds results of another version ({reason})") from None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
