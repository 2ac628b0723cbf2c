"""Many trainings, one after the other, that can be stopped and taken up: a queue of the runs of a grid.

    python scripts/sweep.py reacher                       # scripts/grids/reacher.yaml, or a file of yours
    python scripts/sweep.py tasks --list                  # what is done, what is left, in about what time
    python scripts/sweep.py controls --only 'reacher-*'   # some runs, by a pattern of their names
    python scripts/sweep.py tasks --collect               # the data alone, before an array of jobs
    python scripts/sweep.py tasks --part 3/16             # every 16th run from the third
    python scripts/sweep.py tasks train.threads=4         # how this machine does it; nothing else may differ

A run collects its data where they are missing (runs share them), trains, is evaluated, and leaves
results/SWEEP/NAME.json. What is there is not run again, unless the grid now asks for something else by that
name; what was killed goes on from its checkpoint. A run that fails is noted, and the others go on; the exit
code is then 1.
"""

import argparse
import fnmatch
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sweep_grid import Planned, read_grid
from sweep_run import MACHINE, ROOT, Places, Stopped, asked, check_machine, collect, damaged, execute, held
from worldjepa.envs.rendering import OpenGLUnavailable

from worldjepa.data.workers import ctrl_c_noted, end_with_parent
from worldjepa.documents import OTHER_FORM
from worldjepa.errors import UserError
from worldjepa.notation import part

# Guessed, in minutes, until a run of the sweep has been measured.
EVALUATION, STEP = 1.5, 0.003


def read(path: Path) -> dict[str, Any]:
    """A result, or nothing where there is none; UserError where it is damaged."""
    if result := held(path):
        try:
            told(result)
        except OTHER_FORM as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from None
    return result


def state(planned: Planned, places: Places) -> str:
    """done, changed (a result of another grid), failed, begun or left."""
    if result := read(places.result(planned)):
        return "done" if {name: result.get(name) for name in asked(planned)} == asked(planned) else "changed"
    if places.error(planned).exists():
        return "failed"
    return "begun" if places.run(planned).exists() else "left"


def estimates(runs: Sequence[Planned], places: Places) -> dict[str, float]:
    """Minutes that each run takes as a whole: as finished ones with its budget did on average, or guessed."""
    budgets = {run.name: (c.train.minutes, c.train.steps) for run in runs for c in [run.config()]}
    took: dict[tuple[float, int], list[float]] = {}
    for run in runs:
        if result := read(places.result(run)):
            took.setdefault(budgets[run.name], []).append(sum(result["seconds"].values()) / 60)
    minutes = {}
    for run in runs:
        budget, steps = budgets[run.name]
        guess = (STEP * steps or budget) + EVALUATION * len(run.evaluate)
        minutes[run.name] = float(np.mean(took.get((budget, steps), [guess])))
    return minutes


def listing(runs: Sequence[Planned], places: Places) -> str:
    """Every run with its state, and how much is left."""
    states, minutes = {run.name: state(run, places) for run in runs}, estimates(runs, places)
    width, lines, left = max(len(run.name) for run in runs), [], 0.0
    for run in runs:
        if states[run.name] == "done":
            said = told(read(places.result(run)))
        else:
            error = places.error(run)
            said = f"about {minutes[run.name]:.0f} min"
            said += f"; {error.read_text('utf-8').splitlines()[-1]}" if error.exists() else ""
            left += minutes[run.name]
        lines.append(f"{states[run.name]:<8} {run.name:<{width}}  {said}")
    done = list(states.values()).count("done")
    hours, rest = divmod(round(left), 60)
    lines.append(f"{done} of {len(runs)} done, {len(runs) - done} left: about {hours} h {rest} min")
    return "\n".join(lines)


def told(result: dict[str, Any]) -> str:
    """What was measured, in a line."""
    parts = []
    for name, values in result["measured"].items():
        row = values.get("rows", {}).get("world model")
        if row:
            parts.append(f"{name} {row['success']:.1f} %")
        elif values.get("mean_r2"):
            parts.append(f"{name} R² {values['mean_r2']['coordinates']:.2f}")
    minutes = sum(result["seconds"].values()) / 60
    return ", ".join([*parts, f"{minutes:.1f} min"])


def attempt(planned: Planned, places: Places, machine: Sequence[str]) -> int:
    """`execute`, with what goes wrong written down; 0, 1, or 130 or 143 where it was stopped."""
    error = places.error(planned)
    error.unlink(missing_ok=True)
    try:
        print(f"{planned.name}: {told(execute(planned, places, machine))}", flush=True)
    except Stopped as stop:
        return stop.code
    except KeyboardInterrupt:
        return 130
    except (UserError, OpenGLUnavailable, OSError) as wrong:
        _note(error, " ".join(str(wrong).split()))
        return 1
    except Exception:
        _note(error, traceback.format_exc().rstrip())
        return 1
    return 0


def _note(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", "utf-8")


def _child(planned: Planned, places: Places, machine: Sequence[str]) -> None:
    end_with_parent()
    sys.exit(attempt(planned, places, machine))


def attempt_apart(planned: Planned, places: Places, machine: Sequence[str]) -> int:
    """`attempt` in a process of its own, which may die alone. Ctrl-C and SIGTERM reach it, and it leaves a
    checkpoint; negative where a signal killed it."""
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(planned, places, machine))
    terminated: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: (terminated.append(number), process.terminate()))
    try:
        with ctrl_c_noted() as interrupted:
            process.start()
            process.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    code = process.exitcode or 0
    if interrupted or terminated:
        return 143 if terminated else 130
    if code < 0:
        name = signal.Signals(-code).name
        _note(places.error(planned), f"its process was killed by {name}; memory may have run out")
    return code


def work(runs: Sequence[Planned], places: Places, machine: Sequence[str], remove: bool) -> int:
    """Run what is left; 0, 1 where some failed, 130 or 143 where it was stopped.

    Args:
        remove: the folder of each run that is done.
    """
    left = [run for run in runs if state(run, places) != "done"]
    failed = []
    for number, run in enumerate(left, 1):
        print(f"{run.sweep}: run {number} of {len(left)}, {run.name}", flush=True)
        code = attempt_apart(run, places, machine)
        if code in (130, 143):
            print(f"{run.sweep}: stopped; the same command goes on from there", file=sys.stderr)
            return code
        if code:
            failed.append(run)
            print(f"{run.name}: failed: {places.error(run).read_text('utf-8').rstrip()}", file=sys.stderr)
        elif remove:
            shutil.rmtree(places.run(run))
    print(f"{len(runs) - len(failed)} of {len(runs)} runs done")
    for run in failed:
        print(f"failed: {run.name}, see {places.error(run)}", file=sys.stderr)
    return 1 if failed else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "sweep.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("grid", help="a file of scripts/grids, without .yaml, or a YAML file")
    parser.add_argument("machine", nargs="*", metavar="name=value", help="of " + ", ".join(MACHINE))
    parser.add_argument("--list", action="store_true", help="what is done and what is left; runs nothing")
    parser.add_argument("--collect", action="store_true", help="the data alone")
    parser.add_argument("--only", default="", metavar="PATTERN", help="runs whose name has this in it; *, ?")
    parser.add_argument("--part", default="1/1", metavar="k/n", help="every n-th run from the k-th")
    parser.add_argument("--remove", action="store_true", help="the folder of each run that is done")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of data sets: data")
    parser.add_argument("--runs", type=Path, default=Path("runs/sweeps"), help="of run folders: runs/sweeps")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="of results: results")
    return parser.parse_intermixed_args(argv)


def _part(text: str) -> tuple[int, int]:
    try:
        return part(text)
    except ValueError as error:
        raise UserError(f"--part: {error}; it is k/n with k from 1 to n, as in 3/16") from None


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    if not sys.stderr.isatty():
        # Without a terminal a progress bar is a line of a log, as of `worldjepa`; tqdm reads this.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    places = Places(options.data, options.runs, options.results)
    try:
        check_machine(options.machine)
        k, n = _part(options.part)
        runs = [r for r in read_grid(options.grid) if fnmatch.fnmatch(r.name, f"*{options.only}*")][
            k - 1 :: n
        ]
        if not runs:
            raise UserError(
                f"{options.grid}: no run is called {options.only or 'that'} in part {options.part}"
            )
        if options.list:
            print(listing(runs, places))
            return 0
        if options.collect:
            for run in {run.data(): run for run in runs}.values():
                collect(run, places, options.machine)
            return 0
        return work(runs, places, options.machine, options.remove)
    except (UserError, OpenGLUnavailable) as error:
        print(f"sweep.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
