"""What benchmarks found, for the pages: `--keep` writes results/benchmarks/NAME.json, which page.py reads.

python scripts/benchmark_results.py runs/profiled       # keeps the profile of a run (train.profile=true)
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from sweep_run import held

from worldjepa.files import write_text
from worldjepa.versions import versions

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"


def add_keep(parser: argparse.ArgumentParser, name: str) -> None:
    """The flag."""
    parser.add_argument(
        "--keep", action="store_true", help=f"write results/benchmarks/{name}.json, for the pages"
    )


def keep(name: str, measured: dict[str, Any]) -> None:
    """Write down what was measured, beside the machine and the versions."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    about = {"machine": machine(), "versions": versions(), "measured": measured}
    write_text(RESULTS / f"{name}.json", json.dumps(about, indent=1) + "\n")


def machine() -> str:
    """In words: cores and processor."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text("utf-8", "replace").splitlines() if about.exists() else []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    processor = found.get("model name", platform.processor() or platform.machine())
    processor = processor.partition("@")[0].replace("(R)", "").removesuffix(" Processor ").strip()
    matrices = " with AMX" if "amx_tile" in found.get("flags", "") else ""
    return f"{os.cpu_count()} cores, {processor}{matrices}"


def kept(name: str) -> tuple[dict[str, Any], str]:
    """What a benchmark measured, and the machine in words."""
    found = held(RESULTS / f"{name}.json")
    return found["measured"], found["machine"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="trained with train.profile=true")
    path = parser.parse_args().run / "evaluation" / "profile.json"
    if not path.exists():
        parser.error(f"{path} is not there: `worldjepa train ... train.profile=true` writes it")
    keep("profile", held(path))


if __name__ == "__main__":
    main()
