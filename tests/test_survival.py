"""torchrun jobs whose processes are killed start again, end, and leave what an undisturbed job leaves."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from moving_dot import write_dots

from worldjepa.run import Run

STEPS = 60


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("dots"))


def start(folder: Path, data: Path, processes: int, steps: int) -> subprocess.Popen:
    """A job that saves as good as every step."""
    launcher = "-m torch.distributed.run --standalone --max-restarts=1000 --monitor-interval=0.1"
    words = (
        "train.evaluate_goals=0 train.threads=1 train.log_every=1 train.evaluate_every=1000 "
        f"train.checkpoint_minutes=0.00001 train.device=cpu train.steps={steps}"
    )
    command = [*launcher.split(), f"--nproc-per-node={processes}", "-m", "worldjepa", "train", "smoke"]
    return subprocess.Popen(
        [sys.executable, *command, f"data.path={data}", f"run={folder}", *words.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def workers(launcher: int) -> list[int]:
    """Live processes that a launcher started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == launcher and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def end(job: subprocess.Popen) -> None:
    """Kills what is left of a job: torchrun gives each worker a session of its own."""
    if job.poll() is None:
        for process in [job.pid, *workers(job.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    job.wait()


def steps_made(folder: Path) -> int:
    try:
        rows = Run(folder).metrics()
    except Exception:
        # It is being made.
        return 0
    return int(rows[-1]["step"]) if rows else 0


def run_to_the_end(
    folder: Path, data: Path, processes: int, steps: int, kills: int = 0, seed: int = 0
) -> tuple[float, int]:
    """The last loss of a job, and how many of its processes were killed, each at a random moment of a start,
    a resume or a step."""
    rng, killed = np.random.default_rng(seed), 0
    job = start(folder, data, processes, steps)
    deadline = time.monotonic() + 900
    try:
        while job.poll() is None:
            assert time.monotonic() < deadline, f"at step {steps_made(folder)} after {killed} kills"
            time.sleep(rng.uniform(0, 8) if killed < kills else 0.1)
            alive = workers(job.pid)
            # The last tenth is left to end in.
            if killed < kills and alive and steps_made(folder) < 0.9 * steps:
                try:
                    os.kill(int(rng.choice(alive)), signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    continue
    finally:
        end(job)
    assert job.returncode == 0
    rows = [row for row in Run(folder).metrics() if "train/loss" in row]
    assert [row["step"] for row in rows] == list(range(1, steps + 1)), "each step is there once"
    return rows[-1]["train/loss"], killed


@pytest.mark.parametrize("processes", [2])
def test_a_job_whose_process_is_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, dots: Path, processes: int
) -> None:
    expected, _ = run_to_the_end(tmp_path / "undisturbed", dots, processes, STEPS)
    job = start(tmp_path / "killed", dots, processes, STEPS)
    try:
        while steps_made(tmp_path / "killed") < 5:
            assert job.poll() is None
            time.sleep(0.02)
        os.kill(workers(job.pid)[-1], signal.SIGKILL)
        assert job.wait(240) == 0
    finally:
        end(job)
    last = [row["train/loss"] for row in Run(tmp_path / "killed").metrics() if "train/loss" in row][-1]
    assert last == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_thirty_kills_change_nothing(tmp_path: Path, dots: Path, processes: int) -> None:
    steps = 3000
    expected, _ = run_to_the_end(tmp_path / "undisturbed", dots, processes, steps)
    found, killed = run_to_the_end(tmp_path / "killed", dots, processes, steps, kills=30)
    assert killed == 30
    if processes == 1:
        assert found == expected, "bit for bit"
    assert found == pytest.approx(expected, rel=1e-5)
