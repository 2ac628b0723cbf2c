"""TensorBoard's page on two runs, docs/tensorboard.png, from results/dashboard/: `make pictures`.

    python scripts/dashboard_picture.py --record runs/reacher runs/without_sigreg

keeps the scalars of trained runs in results/dashboard/NAME.jsonl. The picture is of event files that are
written from them with the layout of `worldjepa.evaluation.dashboard`, opened by TensorBoard in Chromium.
"""

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from worldjepa.evaluation import dashboard
from worldjepa.files import whole, write_text
from worldjepa.metric_log import read_metrics
from worldjepa.recipes import load_config
from worldjepa.run import Run

ROOT = Path(__file__).parents[1]
RESULTS, PICTURE = ROOT / "results" / "dashboard", ROOT / "docs" / "tensorboard.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = "1600,1400"
# Virtual time: what the page waits for is there before the picture is taken.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=60000")


def draw() -> None:
    """Raises SystemExit where there is no Chromium."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"{PICTURE.name}: needs one of {', '.join(BROWSERS)} (on Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(RESULTS.glob("*.jsonl")):
            write_events(path, Path(folder) / "runs" / path.stem)
        shot = Path(folder) / PICTURE.name
        with _tensorboard(Path(folder) / "runs") as address:
            page = f"{address}/?darkMode=false#custom_scalars"
            about = (f"--screenshot={shot}", f"--window-size={SIZE}", f"--user-data-dir={folder}/browser")
            subprocess.run([browser, *FLAGS, *about, page], check=True, capture_output=True)
        with whole(PICTURE) as temporary:
            shutil.copyfile(shot, temporary)


def write_events(path: Path, folder: Path) -> None:
    """A run folder whose event file says what the kept lines say."""
    run = Run.create_or_open(load_config("reacher", [f"run={folder}"]))
    dashboard.set_up(run, run.config)
    for row in read_metrics(path):
        step = int(row.pop("step"))
        run.log(step, row)
    run.close()


@contextlib.contextmanager
def _tensorboard(runs: Path) -> Iterator[str]:
    """The address of a TensorBoard on these runs, once it has read them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # The page shows the folder's name as it is given.
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", runs.name, "--port", str(port)]
    process = subprocess.Popen(command, cwd=runs.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    wanted = [f'"{path.name}"' for path in runs.iterdir()]
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(f"{address}/data/runs").read().decode()
                if all(name in text for name in wanted):
                    break
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--record", nargs="+", type=Path, default=[], metavar="RUN", help="trained runs")
    runs = parser.parse_args().record
    for run in runs:
        if not (run / "metrics.jsonl").exists():
            parser.error(f"{run}: holds no metrics.jsonl; a trained run does")
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_text(RESULTS / f"{run.name}.jsonl", (run / "metrics.jsonl").read_text("utf-8"))
    if not runs:
        draw()
        print(os.path.relpath(PICTURE))


if __name__ == "__main__":
    main()
