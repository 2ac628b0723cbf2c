"""Tables and curves of sweeps, from results/ alone.

python scripts/results_tables.py                  # Markdown of every sweep that has results
python scripts/results_tables.py tasks controls   # of these
python scripts/results_tables.py --to docs        # into docs/results.md, with its curves as PNG
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import RESULTS as BENCHMARKS
from results_curves import draw_curves, drawn
from sweep_grid import SEED, recipe_of
from sweep_results import FLOOR, MODEL, OBJECTIVE, TRUTH, Result, all_rows, groups, parameters, read, rows_of

from worldjepa.documents import OTHER_FORM
from worldjepa.errors import UserError
from worldjepa.evaluation.few_shot import interval
from worldjepa.evaluation.figures import rule
from worldjepa.files import write_text

RESULTS = Path(__file__).parents[1] / "results"
# The sweep whose models, one for each task, one model for several is held against.
SINGLE = "tasks"
# Stands above the tables.
NOTE = (
    "A number is the mean over the seeds; in brackets, or behind ±, its 95% interval: of several seeds "
    "Student's, of one Wilson's over the goals; of two, each is told."
)


def cell(rows: Sequence[dict[str, Any]]) -> str:
    """Success of one policy over the seeds, in per cent, with its interval; of two seeds each one's."""
    if not rows:
        return ""
    found = [row["success"] for row in rows]
    mean = f"{np.mean(found):.1f} %"
    if len(found) == 2:
        return f"{mean} ({found[0]:.1f}, {found[1]:.1f})"
    low, high = interval(found) if len(found) > 1 else rows[0]["interval"]
    low, high = max(0, low), min(100, high)
    digits = 0 if high - low >= 2 else 1
    return f"{mean} ({low:.{digits}f} to {high:.{digits}f})"


def number(values: Sequence[float], digits: int = 2) -> str:
    """A mean over seeds, ± the half of its interval where there are several; of two seeds each one's."""
    if not values:
        return ""
    mean = float(np.mean(values))
    told = f"{mean:,.{digits}f}"
    if len(values) == 2:
        return f"{told} ({values[0]:,.{digits}f}, {values[1]:,.{digits}f})"
    return told + (f" ± {mean - interval(values)[0]:,.{digits}f}" if len(values) > 1 else "")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def sentences(*parts: str) -> str:
    """As lines of the pages' width."""
    return textwrap.fill(" ".join(" ".join(parts).split()), 140)


def success_table(results: Sequence[Result], evaluations: Sequence[str]) -> str:
    """A row for each evaluation and setting; a column for each policy, or for each objective where they
    differ. What does not depend on the model, floor and bound, is the same in every result that has it."""
    policies = list(dict.fromkeys(p for name in evaluations for r in results for p in all_rows(r, name)))
    objectives = list(dict.fromkeys(r["axes"][OBJECTIVE] for r in results if OBJECTIVE in r["axes"]))
    bounds = [name for name in policies if name.endswith("true dynamics")]
    learnt = [name for name in policies if name not in (FLOOR, *bounds)]
    rows = []
    for evaluation in evaluations:
        for values, found in groups(results, (SEED, OBJECTIVE)).items():
            ours = [[r for r in found if r["axes"][OBJECTIVE] == name] for name in objectives]
            columns = [rows_of(found, evaluation, FLOOR)[:1]]
            columns += [rows_of(chosen, evaluation, MODEL) for chosen in ours]
            columns += [] if ours else [rows_of(found, evaluation, name) for name in learnt]
            columns += [rows_of(found, evaluation, name)[:1] for name in bounds]
            seeds = sorted({len(rows_of(chosen, evaluation, MODEL)) for chosen in ours or [found]})
            cells = [*map(cell, columns), " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))]
            rows.append([f"`{evaluation}`", *(f"`{value}`" for value in values), *cells])
    axes = [name for name in results[0]["axes"] if name not in (SEED, OBJECTIVE)]
    return markdown(["goals", *axes, FLOOR, *(objectives or learnt), *bounds, "seeds"], rows)


def rules(results: Sequence[Result], evaluations: Sequence[str]) -> str:
    """What each evaluation counts as reaching a goal, and how many goals it tries."""
    lines = []
    for name in evaluations:
        said = next(r["measured"][name] for r in results if name in r["measured"])
        lines.append(f"- `{name}`: {said['rows'][MODEL]['goals']} held-out goals, {rule(said)}.")
    return "\n".join(lines)


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
        goals = [rows_of(results, near, MODEL), rows_of(own, "near", MODEL)]
        floor, bound = rows_of(results, near, FLOOR)[:1], rows_of(own, "near", TRUTH)[:1]
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
    there = {path.parent.name for path in options.results.glob("*/*.json")}
    sweeps = options.sweeps or sorted(there - {BENCHMARKS.name})
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
        curves = to and drawn(results)
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
