"""Short image runs for tables and figures, each trained and probed by the command, remembered in a JSON file:
what is there is not run again, so a script that was stopped goes on where it was.
"""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldjepa import cli
from worldjepa.run import Run

RESULTS = Path(__file__).parents[1] / "results"
# A probe that takes seconds; ten draws of each few labels.
PROBE = ("probe.train_frames=20000", "probe.test_frames=10000", "probe.shots=1,10,100", "probe.draws=10")


class ImageRuns:
    """Runs of one recipe by the words that tell them apart.

    Args:
        name: of the file in results/.
        common: words of all runs; where the file holds runs of others, it is begun anew under a new name.
    """

    def __init__(self, name: str, common: Sequence[str]):
        self.path, self.common = RESULTS / f"{name}.json", list(common)
        self.runs: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            held = json.loads(self.path.read_text("utf-8"))
            if held["common"] != self.common:
                raise SystemExit(f"{self.path}: holds runs with {' '.join(held['common'])}; move it away")
            self.runs = held["runs"]

    def run(self, *words: str) -> dict[str, Any]:
        """What one with these words gave: "rows" of its probe, "last" of its metrics, "steps", "seconds"."""
        key = " ".join(words)
        if key not in self.runs:
            with tempfile.TemporaryDirectory() as folder:
                self.runs[key] = train_and_probe(Path(folder) / "run", [*self.common, *words])
            RESULTS.mkdir(exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            held = {"common": self.common, "runs": self.runs}
            temporary.write_text(json.dumps(held, indent=1) + "\n", "utf-8")
            os.replace(temporary, self.path)
        return self.runs[key]


def train_and_probe(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """The commands' own results of a run that is not kept.

    Args:
        words: options, after the recipe images_cpu.
    """
    began = time.monotonic()
    training = ["train", "images_cpu", f"run={folder}", "train.evaluate_every=1000000", *words]
    if cli.main(training) or cli.main(["probe", str(folder), *PROBE]):
        raise SystemExit(f"stopped at {' '.join(words)}")
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
