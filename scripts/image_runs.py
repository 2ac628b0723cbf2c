"""Short image runs for tables and figures, each trained and probed by the command, remembered in a JSON file:
what is there is not run again, and a run that was killed half-way goes on from its last checkpoint.
"""

import argparse
import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldjepa import cli
from worldjepa.files import write_text
from worldjepa.options import leaves
from worldjepa.recipes import load_config
from worldjepa.run import Run

RESULTS = Path(__file__).parents[1] / "results"
RECIPE = "images_cpu"
# A probe that takes seconds; ten draws of each few labels.
PROBE = (
    "probe.train_frames=20000",
    "probe.test_frames=10000",
    "probe.shots=1,10,100",
    "probe.draws=10",
    "probe.map=pca",
)
# The options that runs must have in common, and those among them that change nothing, or that each run sets.
GROUPS = ("images.", "model.", "train.")
FREE = ("images.root", "train.minutes", "train.log_every", "train.evaluate", "train.checkpoint", "train.keep",
        "train.device", "train.threads")  # fmt: skip


def add_options(parser: argparse.ArgumentParser, steps: int = 0) -> None:
    """The command-line options that all scripts of image runs have; --steps where `steps` says how many."""
    if steps:
        parser.add_argument("--steps", type=int, default=steps, help=f"of each run (default: {steps})")
    parser.add_argument(
        "--data", default="FashionMNIST", help="images.data, as digits (default: FashionMNIST)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder that remembers (default: results)"
    )
    parser.add_argument(
        "--print", action="store_true", help="no run: what is there, or how much is to be done"
    )


class ImageRuns:
    """Runs of one recipe by the words that tell them apart.

    Args:
        name: of the file in the folder of results.
        arguments: of the command line (`add_options`).
        common: words of all runs.

    Raises:
        SystemExit: the file holds runs with other common words, or of a recipe that has changed.
    """

    def __init__(self, name: str, arguments: argparse.Namespace, common: Sequence[str] = ()):
        self.path, self.work = arguments.results / f"{name}.json", Path("runs") / name
        self.common = [f"images.data={arguments.data}", *common]
        options = leaves(dataclasses.asdict(load_config(RECIPE, self.common)))
        self.options = {n: v for n, v in options.items() if n.startswith(GROUPS) and not n.startswith(FREE)}
        self.runs: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            held = json.loads(self.path.read_text("utf-8"))
            changed = [n for n, v in self.options.items() if held["options"].get(n, v) != v]
            if changed:
                said = ", ".join(f"{n}={held['options'][n]}, now {self.options[n]}" for n in changed)
                raise SystemExit(f"{self.path}: holds runs with {said}; move it away, or name --results")
            self.runs = held["runs"]

    def missing(self, plan: Sequence[str]) -> list[str]:
        """Of runs by their words, those that have not been done."""
        return [words for words in dict.fromkeys(plan) if words not in self.runs]

    def run_all(
        self, plan: Sequence[str], only_print: bool, expected: float = 0.0, later: float = 0.0
    ) -> bool:
        """Do what is missing, saying how long the rest will take.

        Args:
            plan: runs by their words.
            only_print: say how much it is, and do nothing.
            expected: seconds of a run where none of the plan has been done; 0: nobody knows.
            later: seconds that the caller needs after this plan.

        Returns:
            whether all of the plan is there.
        """
        missing = self.missing(plan)
        for number, words in enumerate(missing):
            left = len(missing) - number
            done = [self.runs[w]["seconds"] for w in plan if w in self.runs]
            each = sum(done) / len(done) if done else expected
            time = (
                f"about {(left * each + later) / 60:,.0f} min" if each else "how long the first one will tell"
            )
            print(f"{self.path.stem}: {len(self.runs)} runs are there, {left} of {len(plan)} to do, {time}")
            if only_print:
                return False
            print(f"{self.path.stem}: {words}", flush=True)
            self.run(words)
        return True

    def run(self, words: str) -> dict[str, Any]:
        """What one with these words gave: "rows" of its probe, "last" of its metrics, "steps", "seconds" (of
        a run that was killed, those since it went on)."""
        if words not in self.runs:
            which = json.dumps([self.options, words]).encode()
            folder = self.work / hashlib.sha256(which).hexdigest()[:16]
            self.runs[words] = train_and_probe(folder, [*self.common, *words.split()])
            self.path.parent.mkdir(parents=True, exist_ok=True)
            held = {"options": self.options, "runs": self.runs}
            write_text(self.path, json.dumps(held, indent=1) + "\n")
            # Remembered first: a kill in between costs nothing.
            shutil.rmtree(folder, ignore_errors=True)
        return self.runs[words]


def train_and_probe(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """The commands' own results.

    Args:
        folder: of the run; what is in it goes on.
        words: options, after the recipe; those of the probe go to the probe.
    """
    began = time.monotonic()
    probing = [word for word in words if word.startswith("probe.")]
    training = [f"run={folder}", "train.evaluate_every=1000000", *(w for w in words if w not in probing)]
    if cli.main(["train", RECIPE, *training]) or cli.main(["probe", str(folder), *PROBE, *probing]):
        raise SystemExit(f"stopped at {' '.join(words)}; the same command goes on from there")
    run = Run(folder)
    probed = json.loads((run.evaluation / "probe.json").read_text("utf-8"))
    metrics = [row for row in run.metrics() if "train/loss" in row]
    # One batch is noise: the mean of the last tenth of the lines.
    last = metrics[-max(1, len(metrics) // 10) :]
    names = [name for name in last[-1] if name.startswith("train/")]
    return {
        "rows": probed["rows"],
        "last": {name: sum(row[name] for row in last) / len(last) for name in names},
        "steps": int(run.newest_checkpoint().name),
        "seconds": time.monotonic() - began,
    }
