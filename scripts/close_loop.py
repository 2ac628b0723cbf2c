"""Closing the loop: collect with a trained model's planner, train anew on old and new data, evaluate again.

    python scripts/close_loop.py walker                # three trainings of 3,000 steps; prints the table
    python scripts/close_loop.py walker --list         # what is done, what is left, in about what time
    python scripts/close_loop.py walker --seeds 0 1 2 --episodes 200
    python scripts/close_loop.py walker --only planned # of the three, as a second process beside the first
    python scripts/close_loop.py walker train.threads=4

Three models of one recipe and as many steps try the same goals, of the recipe's held-out episodes:

    first      on the recipe's data
    more       on these, and new episodes that were collected as they were
    planned    on these, and as many that the first one's planner collected on its way to random goals

Like the runs of a sweep (scripts/sweep.py) they leave results/close_loop/NAME.json, what is there is not run
again, and what was killed goes on. scripts/results_tables.py draws their table too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import results_tables
from sweep import listing, work
from sweep_grid import Planned
from sweep_run import MACHINE, ROOT, Places, check_machine

from worldjepa.errors import UserError

SWEEP = "close_loop"
KINDS = ("first", "more", "planned")
EVALUATE = {
    "near": "plan plan.bound_goals=100",
    "far50": "plan plan.protocol=far50 plan.bound_goals=0",
    "probe": "probe probe.seeds=1",
}


def loop(task: str, seed: int, episodes: int, steps: int) -> list[Planned]:
    """The three runs, in the order in which they need one another.

    Args:
        task: a recipe.
        seed: of the trainings; of the new episodes it is one more, as that of the recipe's is 0.
        episodes: how many new ones.
        steps: of each training, so that a busy machine changes nothing.
    """
    new = [f"collect.episodes={episodes}", f"collect.seed={seed + 1}"]
    planner = ["collect.behaviour=planner", f"collect.run={{runs}}/{name_of(task, 'first', seed)}"]
    sets = dict(zip(KINDS, ([[]], [[], new], [[], [*new, *planner]]), strict=True))
    options = {"train.seed": seed, "train.steps": steps, "train.evaluate_goals": 0}
    evaluate = {name: text.split() for name, text in EVALUATE.items()}
    return [
        Planned(
            SWEEP,
            name_of(task, kind, seed),
            task,
            {"train.seed": seed, "recipe": task, "data": kind},
            options,
            evaluate,
            sets[kind],
        )
        for kind in KINDS
    ]


def name_of(task: str, kind: str, seed: int) -> str:
    return f"{Path(task).stem}-{kind}-seed{seed}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "close_loop.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("task", help="a recipe")
    parser.add_argument("machine", nargs="*", metavar="name=value", help="of " + ", ".join(MACHINE))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings: 0")
    parser.add_argument("--episodes", type=int, default=400, help="new ones: 400, as many as there were")
    parser.add_argument("--steps", type=int, default=3000, help="of each training: 3000")
    parser.add_argument("--only", choices=KINDS, help="of the three: all")
    parser.add_argument("--list", action="store_true", help="what is done and what is left; runs nothing")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of data sets: data")
    parser.add_argument("--runs", type=Path, default=Path("runs/sweeps"), help="of run folders: runs/sweeps")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="of results: results")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    places = Places(options.data, options.runs, options.results)
    try:
        check_machine(options.machine)
        if options.steps < 1:
            raise UserError(f"--steps {options.steps}: must be 1 or more")
        runs = [
            run
            for seed in options.seeds
            for run in loop(options.task, seed, options.episodes, options.steps)
            if options.only in (None, run.axes["data"])
        ]
        for run in runs:
            for words in run.trained_on:
                run.config(words)
        if options.list:
            print(listing(runs, places))
            return 0
        if code := work(runs, places, options.machine, remove=False):
            return code
    except UserError as error:
        print(f"close_loop.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return results_tables.main([SWEEP, "--results", str(options.results)])


if __name__ == "__main__":
    sys.exit(main())
