"""LeJEPA beside rival losses on Fashion-MNIST: same encoder, views, trainer and minutes.

    python scripts/images_table.py                        # 3 seeds, 20 minutes each: a day on two cores
    python scripts/images_table.py --minutes 1 --seeds 1  # a sketch
    python scripts/images_table.py --print                # the table alone

Of each loss the learning rate and its one own weight are tuned on the same small grid, three values of each
with the other at its default, at one seed; the best 10-shot probe decides. results/images_table.json
remembers every run: a stopped table goes on.
"""

import argparse
from typing import Any

import numpy as np
from image_runs import ImageRuns

from worldjepa.evaluation.few_shot import interval

RATES = ("1e-3", "2e-3", "4e-3")
# Each loss, and the one option of it that is tuned; its middle value is the recipe's or the config's.
RIVALS: dict[str, tuple[str, tuple[str, ...]]] = {
    "jepa": ("model.sigreg.weight", ("0.005", "0.01", "0.02")),
    "vicreg": ("model.rival.covariance", ("0.01", "0.04", "0.16")),
    "simclr": ("model.rival.temperature", ("0.1", "0.2", "0.5")),
    "byol": ("model.rival.momentum", ("0.97", "0.99", "0.996")),
    "none": ("model.projector_hidden", ("256", "512", "1024")),
    "supervised": ("train.weight_decay", ("0.001", "0.01", "0.1")),
}


def tuned(runs: ImageRuns, name: str, grid: bool) -> list[str]:
    """The words of a loss with the values that did best at 10 shots, of those that have been tried where
    there is no `grid` to try, and its middle values where none has."""
    option, values = RIVALS[name]
    words = [f"model.objective={name}", f"train.learning_rate={RATES[1]}", f"{option}={values[1]}"]
    tries = [words]
    tries += [[words[0], f"train.learning_rate={rate}", words[2]] for rate in (RATES[0], RATES[2])]
    tries += [[words[0], words[1], f"{option}={value}"] for value in (values[0], values[2])]
    if not grid:
        tries = [w for w in tries if " ".join([*w, "train.seed=0"]) in runs.runs] or [words]
    if len(tries) == 1:
        return words
    return max(tries, key=lambda w: runs.run(*w, "train.seed=0")["rows"]["trained"]["shots"]["10"]["mean"])


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Means over the seeds with Student's 95% interval."""
    lines = [f"{'':<14}{'linear':>18}{'kNN':>18}{'1-shot':>18}{'10-shot':>18}{'100-shot':>18}{'runs':>6}"]
    for name, found in rows.items():
        cells = [[r["linear"] for r in found], [r["knn"] for r in found]]
        cells += [[r["shots"][n]["mean"] for r in found] for n in ("1", "10", "100")]
        text = "".join(f"{f'{np.mean(c):.2f} ±{np.mean(c) - interval(c)[0]:5.2f}':>18}" for c in cells)
        lines.append(f"{name:<14}{text}{len(found):>6}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="training time of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-grid", action="store_true", help="middle values in place of tuned ones")
    parser.add_argument("--print", action="store_true", help="no run: the table of those that are there")
    arguments = parser.parse_args()
    runs = ImageRuns("images_table", [f"train.minutes={arguments.minutes:g}"])
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in RIVALS:
        seeds = [f"train.seed={seed}" for seed in range(arguments.seeds)]
        words = tuned(runs, name, not arguments.no_grid and not arguments.print)
        keys = [" ".join([*words, seed]) for seed in seeds]
        if not arguments.print:
            for seed in seeds:
                runs.run(*words, seed)
        found = [runs.runs[key]["rows"] for key in keys if key in runs.runs]
        if found:
            rows[name] = [row["trained"] for row in found]
            if name == "jepa":
                rows = {other: [row[other] for row in found] for other in ("raw pixels", "untrained")} | rows
    print(table(rows))
    print(f"Fashion-MNIST, {arguments.minutes:g} minutes a run; ±: 95% interval of the mean over seeds.")


if __name__ == "__main__":
    main()
