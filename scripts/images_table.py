"""LeJEPA beside rival losses on Fashion-MNIST: same encoder, views, trainer and minutes.

    python scripts/images_table.py                # 3 seeds, 2 minutes each: 75 minutes on two cores
    python scripts/images_table.py --minutes 20   # ten times the training
    python scripts/images_table.py --print        # what is there, and how long the rest will take

Of each loss the learning rate and its one own weight are tuned on the same small grid, three values of each
with the other at its default, at one seed, in runs of a quarter of the minutes, on nine tenths of the
training images; the best 10-shot probe on the last tenth decides: no test image has a say in what the table
shows. results/images_table.json remembers every run: a table that was killed goes on.
"""

import argparse
from typing import Any

import numpy as np
from image_runs import ImageRuns, add_options

from worldjepa.evaluation.few_shot import interval
from worldjepa.evaluation.image_probes import RAW

# What runs gave, by their words.
Runs = dict[str, dict[str, Any]]

MINUTES, SEEDS = 2.0, 3
UNTRAINED = "untrained"
RATES = ("7.5e-4", "1.5e-3", "3e-3")
# Of the runs that decide, whose linear probe nobody reads; 6,000 images judge them.
QUICK = "images.test=held_out probe.train_frames=2000 probe.shots=10 probe.baselines=false"
# Each loss, and the one option of it that is tuned; its middle value is the recipe's or the config's.
RIVALS: dict[str, tuple[str, tuple[str, ...]]] = {
    "jepa": ("model.sigreg.weight", ("0.005", "0.01", "0.02")),
    "vicreg": ("model.rival.covariance", ("0.01", "0.04", "0.16")),
    "simclr": ("model.rival.temperature", ("0.1", "0.2", "0.5")),
    "byol": ("model.rival.momentum", ("0.97", "0.99", "0.996")),
    "none": ("model.projector_hidden", ("256", "512", "1024")),
    "supervised": ("train.weight_decay", ("0.001", "0.01", "0.1")),
}


def tries(name: str) -> list[str]:
    """Words of a loss with the values of its grid, the middle ones first."""
    option, values = RIVALS[name]
    pairs = [(RATES[1], values[1]), (RATES[0], values[1]), (RATES[2], values[1])]
    pairs += [(RATES[1], values[0]), (RATES[1], values[2])]
    return [f"model.objective={name} train.learning_rate={rate} {option}={value}" for rate, value in pairs]


def plans(
    runs: Runs, minutes: float = MINUTES, seeds: int = SEEDS, grid: bool = True
) -> dict[str, tuple[list[str], list[str]]]:
    """Of each loss the runs of its grid that decide, and those of the seeds with the values that did best at
    10 shots; with the middle values where there is no `grid`, or nothing has decided yet."""
    found = {}
    for name in RIVALS:
        tried = {
            words: f"{words} train.minutes={minutes / 4:g} train.seed=0 {QUICK}" for words in tries(name)
        }
        there = {words: key for words, key in tried.items() if grid and key in runs}
        best = tries(name)[0]
        if len(there) == len(tried):
            best = max(there, key=lambda w: ten_shots(runs[there[w]]))
        # Raw pixels and the encoder untrained are the same for all.
        alone = "" if name == "jepa" else " probe.baselines=false"
        final = [f"{best} train.minutes={minutes:g} train.seed={seed}{alone}" for seed in range(seeds)]
        found[name] = list(tried.values()) if grid else [], final
    return found


def done(
    runs: Runs, minutes: float = MINUTES, seeds: int = SEEDS, grid: bool = True
) -> dict[str, list[dict[str, Any]]]:
    """Of each loss the runs of the seeds that are there, where there are some."""
    final = {name: keys for name, (_, keys) in plans(runs, minutes, seeds, grid).items()}
    found = {name: [runs[key] for key in keys if key in runs] for name, keys in final.items()}
    return {name: there for name, there in found.items() if there}


def ten_shots(run: dict[str, Any]) -> float:
    return run["rows"]["trained"]["shots"]["10"]["mean"]


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Of each loss, by its runs, means over the seeds with Student's 95% interval; raw pixels, which know no
    seed, and the encoder untrained before them."""
    first, *_ = untrained = [run["rows"] for run in found["jepa"]]
    rows = {RAW: [first[RAW]], UNTRAINED: [row[UNTRAINED] for row in untrained]}
    rows |= {name: [run["rows"]["trained"] for run in runs] for name, runs in found.items()}
    lines = [
        "| loss | linear probe | kNN | 1-shot | 10-shot | 100-shot | steps | runs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of_runs in rows.items():
        cells = [[r["linear"] for r in of_runs], [r["knn"] for r in of_runs]]
        cells += [[r["shots"][n]["mean"] for r in of_runs] for n in ("1", "10", "100")]
        steps = f"{np.mean([run['steps'] for run in found[name]]):,.0f}" if name in found else ""
        lines.append(f"| {name} | {' | '.join(map(_mean, cells))} | {steps} | {len(of_runs)} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    mean = np.mean(values)
    return f"{mean:.2f} ± {mean - interval(values)[0]:.2f} %" if len(values) > 1 else f"{mean:.2f} %"


def verdict(found: dict[str, list[dict[str, Any]]]) -> str:
    """What the table says of LeJEPA, beside the encoder untrained and the best self-supervised rival."""
    trained, untrained = ([run["rows"][row] for run in found["jepa"]] for row in ("trained", UNTRAINED))
    wrong, at_first = (100 - np.mean([row["linear"] for row in rows]) for rows in (trained, untrained))
    ten, ten_at_first = (
        np.mean([row["shots"]["10"]["mean"] for row in rows]) for rows in (trained, untrained)
    )
    at_ten = {name: [ten_shots(run) for run in runs] for name, runs in found.items()}
    said = (
        f"jepa: {100 * (1 - wrong / at_first):.0f} % fewer errors than untrained by the linear probe, "
        f"{ten - ten_at_first:.1f} points more at 10 shots"
    )
    rivals = at_ten.keys() - {"jepa", "supervised"}
    if not rivals:
        return said
    best = max(rivals, key=lambda name: np.mean(at_ten[name]))
    # Seed by seed: the same images are labelled.
    apart = [ours - theirs for ours, theirs in zip(at_ten["jepa"], at_ten[best], strict=False)]
    side = "behind it" if np.mean(apart) >= 0 else "ahead of it"
    said += f"; the best self-supervised rival there, {best}, is {abs(np.mean(apart)):.1f} points {side}"
    if len(apart) < 2:
        return said
    low, high = interval(apart)
    return f"{said} (95 % interval of the difference, over seeds: {low:+.1f} to {high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="training time of each run (default: 2)"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="default: 3")
    parser.add_argument("--no-grid", action="store_true", help="middle values in place of tuned ones")
    add_options(parser)
    chosen = parser.parse_args()
    if chosen.minutes <= 0 or chosen.seeds < 1:
        parser.error("--minutes must be more than 0, --seeds at least 1")
    runs = ImageRuns("images_table", chosen)
    grid = not chosen.no_grid
    asked = chosen.minutes, chosen.seeds, grid

    tried = [key for deciding, _ in plans(runs.runs, *asked).values() for key in deciding]
    # Training, and a probe.
    quarter, whole = 15 * chosen.minutes + 20, 60 * chosen.minutes + 90
    if runs.run_all(tried, chosen.print, quarter, len(RIVALS) * chosen.seeds * whole):
        asked_for = [key for _, keys in plans(runs.runs, *asked).values() for key in keys]
        runs.run_all(asked_for, chosen.print, whole)

    found = done(runs.runs, *asked)
    if "jepa" not in found:
        return
    print(table(found))
    print(f"\n{verdict(found)}")
    print(f"\n{chosen.data}, {chosen.minutes:g} minutes a run; ±: 95% interval of the mean over seeds.")


if __name__ == "__main__":
    main()
