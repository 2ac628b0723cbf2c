"""What SIGReg is worth beside what stands in its place, of the results of a sweep of controls: a table, and
how far it is ahead of each."""

from collections.abc import Sequence

import numpy as np
from results_tables import cell, markdown, number
from sweep_results import MODEL, OBJECTIVE, Result, rows_of

# What keeps latents from collapsing, as the pages call it; ours first.
OURS = "jepa"
CONTROLS = {
    OURS: "SIGReg",
    "pldm": "PLDM's terms",
    "decoder": "a decoder",
    "ema": "averaged encoder",
    "frozen": "untrained, frozen",
    "none": "nothing",
}
GOALS = ("near", "far50")


def whole(results: Sequence[Result]) -> list[Result]:
    """Of each of CONTROLS the results of those training seeds that have every task, so that means compare."""
    tasks = {result["recipe"] for result in results}
    named: dict[tuple[str, int], set[str]] = {}
    for result in results:
        named.setdefault(_training(result), set()).add(result["recipe"])
    return [r for r in results if named[_training(r)] == tasks]


def pairs(results: Sequence[Result], rival: str) -> list[Result]:
    """Ours and a rival's, of those tasks and seeds that have both."""
    names = {OURS, rival}
    named: dict[tuple[str, int], set[str]] = {}
    for result in results:
        named.setdefault(_place(result), set()).add(result["axes"][OBJECTIVE])
    return [r for r in results if r["axes"][OBJECTIVE] in names and names <= named[_place(r)]]


def _place(result: Result) -> tuple[str, int]:
    return result["recipe"], result["seed"]


def _training(result: Result) -> tuple[str, int]:
    return result["axes"][OBJECTIVE], result["seed"]


def table(results: Sequence[Result]) -> str:
    """A column for each that has results; goals and what is read off the latents by task, means over all."""
    tasks = list(dict.fromkeys(result["recipe"] for result in results))
    every = {name: [r for r in results if r["axes"][OBJECTIVE] == name] for name in CONTROLS}
    of = {name: runs for name, runs in every.items() if runs}
    rows = []
    for goals in GOALS:
        for task in tasks:
            own = ([r for r in runs if r["recipe"] == task] for runs in of.values())
            rows.append([f"`{goals}`", task, *(cell(rows_of(runs, goals, MODEL)) for runs in own)])
        means = [np.mean([row["success"] for row in rows_of(runs, goals, MODEL)]) for runs in of.values()]
        rows.append([f"`{goals}`", "mean", *(f"**{mean:.1f} %**" for mean in means)])
    probes = {
        name: [r["measured"]["probe"] | {"task": r["recipe"]} for r in runs] for name, runs in of.items()
    }
    for task in tasks:
        own = ([p["mean_r2"]["coordinates"] for p in found if p["task"] == task] for found in probes.values())
        rows.append(["R² of coordinates", task, *map(number, own)])
    ranks = (np.mean([p["rank"] for p in found]) for found in probes.values())
    rows.append(["RankMe", "mean", *(f"{rank:.1f}" for rank in ranks)])
    rows.append(["training seeds", "", *(str(len({r["seed"] for r in runs})) for runs in of.values())])
    return markdown(["", "task", *(CONTROLS[name] for name in of)], rows)


def verdict(results: Sequence[Result]) -> str:
    """How many points of success SIGReg is ahead of each control, over tasks and the seeds that both have."""
    said, rivals = [], [name for name in CONTROLS if name != OURS and pairs(results, name)]
    for goals in GOALS:
        texts = (f"{CONTROLS[name]} {_points(results, goals, name)}" for name in rivals)
        said.append(f"`{goals}`: {', '.join(texts)}.")
    tasks = list(dict.fromkeys(result["recipe"] for result in results))
    return (
        f"SIGReg's success less that of what stands in its place, in points, mean over {', '.join(tasks)} at "
        f"{results[0]['steps']:,} steps and over the training seeds that both have (in brackets the 95 % "
        f"interval over the goals, which all try, and what each seed gave where there are several). "
        f"{' '.join(said)}"
    )


def _points(results: Sequence[Result], goals: str, rival: str) -> str:
    mean, half = ahead(results, goals, rival)
    seeds = sorted({result["seed"] for result in pairs(results, rival)})
    each = (ahead([r for r in results if r["seed"] == seed], goals, rival)[0] for seed in seeds)
    told = f"; {', '.join(f'{points:+.1f}' for points in each)}" if len(seeds) > 1 else ""
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f}{told})"


def ahead(results: Sequence[Result], goals: str, rival: str) -> tuple[float, float]:
    """Points by which ours is ahead of a rival where both were run: the mean over tasks and seeds of the
    differences goal by goal, and half of its 95% interval over the goals, each averaged over its seeds."""
    runs = {(*_place(result), result["axes"][OBJECTIVE]): result for result in pairs(results, rival)}
    apart: dict[str, list[np.ndarray]] = {}
    for task, seed in dict.fromkeys(place[:2] for place in runs):
        ours, theirs = (_each(runs[task, seed, name], goals) for name in (OURS, rival))
        apart.setdefault(task, []).append(ours - theirs)
    tasks = [np.mean(differences, axis=0) for differences in apart.values()]
    half = 1.96 * np.sqrt(sum(each.var(ddof=1) / len(each) for each in tasks)) / len(tasks)
    return 100 * float(np.mean([each.mean() for each in tasks])), 100 * float(half)


def _each(result: Result, goals: str) -> np.ndarray:
    """Goal by goal whether it was reached, 1 or 0."""
    return np.array(list(result["measured"][goals]["rows"][MODEL]["each"]), dtype=float)
