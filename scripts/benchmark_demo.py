"""How long `make demo` takes and what it reaches, in a clone of its own, the installation apart.

python scripts/benchmark_demo.py --keep         # in results/benchmarks/, for the README
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

from benchmark_results import add_keep, keep
from sweep_results import MODEL

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_keep(parser, "demo")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "worldjepa"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        # The clone runs what is installed here: this one's own files.
        (clone / ".venv").symlink_to(ROOT / ".venv")
        began = time.perf_counter()
        subprocess.run(["make", "--assume-old=.venv/.installed", "demo"], cwd=clone, check=True)
        seconds = time.perf_counter() - began
        evaluation = clone / "runs" / "reacher" / "evaluation"
        plan = json.loads((evaluation / "plan.json").read_text("utf-8"))
    near = plan["rows"][MODEL]
    measured = {
        "seconds": seconds,
        "steps": plan["checkpoint"],
        "reached": near["reached"],
        "goals": near["goals"],
    }
    print(measured)
    if options.keep:
        keep("demo", measured)


if __name__ == "__main__":
    main()
