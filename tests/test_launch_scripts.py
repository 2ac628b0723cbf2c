"""The scripts that start training on several machines: what they run there, and what a signal does to it.

A cluster's commands are played by shell scripts of a line or two.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldjepa.run import Run

SCRIPTS = Path(__file__).parents[1] / "scripts"
LAUNCHERS = ["slurm_collect.sh", "slurm_sweep.sh", "slurm_train.sh", "ssh_train.sh"]
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_GPUS_ON_NODE": "1",
}


def played(folder: Path, **commands: str) -> dict[str, str]:
    """The environment in which these commands are found before any others."""
    for name, text in commands.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "FOLDER": str(folder)}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_shell_can_read_it_and_it_is_strict(name: str) -> None:
    path = SCRIPTS / name
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    text = path.read_text("utf-8")
    assert text.startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in text
    assert os.access(path, os.X_OK)
    assert name == "slurm_collect.sh" or "Not tried on a cluster yet" in text


def start(script: str, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = ["bash", str(SCRIPTS / script), *words]
    folder, pipe = environment["FOLDER"], subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe, cwd=folder)


def preempted(job: subprocess.Popen[str], begun: Path) -> str:
    """What a job says that SIGTERM reaches once `begun` is there."""
    for _ in range(600):
        if begun.exists():
            break
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    return job.communicate(timeout=30)[1]


SCONTROL = 'if [ "$1" = show ]; then echo node1; echo node2; else echo "$@" >> "$FOLDER/scontrol.log"; fi'


def test_slurm_starts_torchrun_on_every_node(tmp_path: Path) -> None:
    environment = played(tmp_path, srun='printf "%s\\n" "$@"', scontrol=SCONTROL) | SLURM
    environment |= {"SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_RESTART_COUNT": "1"}
    job = start("slurm_train.sh", environment, "reacher", "run=a b")
    out, err = job.communicate(timeout=30)
    assert job.returncode == 0, err
    expected = (
        "--kill-on-bad-exit=1 torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 3 --rdzv-backend c10d "
        "--rdzv-id 77-1 --rdzv-endpoint node1:29500 -m worldjepa train reacher"
    )
    assert out.splitlines() == [*expected.split(), "run=a b"]
    assert not (tmp_path / "scontrol.log").exists()


def test_outside_of_slurm_it_says_so(tmp_path: Path) -> None:
    job = start("slurm_train.sh", played(tmp_path), "reacher")
    assert "SLURM_JOB_NUM_NODES: is set by sbatch" in job.communicate(timeout=30)[1]
    assert job.returncode != 0


def test_preempted_it_passes_the_signal_on_waits_and_is_queued_again(tmp_path: Path) -> None:
    """The processes take a while to write their checkpoint, and exit as `worldjepa train` does."""
    srun = """
trap 'sleep 0.5; touch "$FOLDER/checkpoint"; exit 143' TERM
echo $$ > "$FOLDER/pid.new"; mv "$FOLDER/pid.new" "$FOLDER/pid"
while :; do sleep 0.05; done"""
    environment = SLURM | played(
        tmp_path, srun=srun, scontrol=SCONTROL, scancel='kill -TERM "$(cat "$FOLDER/pid")"'
    )
    job = start("slurm_train.sh", environment, "reacher")
    err = preempted(job, tmp_path / "pid")
    assert job.returncode == 143, err
    assert (tmp_path / "checkpoint").exists()
    assert (tmp_path / "scontrol.log").read_text() == "requeue 77\n"


def test_a_job_that_fails_is_not_queued_again(tmp_path: Path) -> None:
    environment = played(tmp_path, srun="exit 1", scontrol=SCONTROL) | SLURM
    job = start("slurm_train.sh", environment, "reacher")
    job.communicate(timeout=30)
    assert job.returncode == 1
    assert not (tmp_path / "scontrol.log").exists()


ARRAY = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "80"}


def test_a_task_of_an_array_takes_its_part_of_a_sweep(tmp_path: Path) -> None:
    environment = played(tmp_path, python='printf "%s\\n" "$@"', scontrol=SCONTROL) | ARRAY
    job = start("slurm_sweep.sh", environment, "tasks", "--only", "a b")
    out, err = job.communicate(timeout=30)
    assert job.returncode == 0, err
    assert out.splitlines() == ["scripts/sweep.py", "tasks", "--only", "a b", "--part", "3/16"]
    assert not (tmp_path / "scontrol.log").exists()
    job = start("slurm_sweep.sh", played(tmp_path), "tasks")
    assert "SLURM_ARRAY_TASK_ID: is set by sbatch" in job.communicate(timeout=30)[1]


def test_a_preempted_sweep_waits_for_its_checkpoint_and_is_queued_again(tmp_path: Path) -> None:
    python = """
trap 'sleep 0.5; touch "$FOLDER/checkpoint"; exit 143' TERM
touch "$FOLDER/begun"
while :; do sleep 0.05; done"""
    environment = played(tmp_path, python=python, scontrol=SCONTROL) | ARRAY
    job = start("slurm_sweep.sh", environment, "tasks")
    err = preempted(job, tmp_path / "begun")
    assert job.returncode == 143, err
    assert (tmp_path / "checkpoint").exists()
    assert (tmp_path / "scontrol.log").read_text() == "requeue 77_3\n"


def test_a_sweep_with_a_failed_run_is_not_queued_again(tmp_path: Path) -> None:
    environment = played(tmp_path, python="exit 1", scontrol=SCONTROL) | ARRAY
    job = start("slurm_sweep.sh", environment, "tasks")
    job.communicate(timeout=30)
    assert job.returncode == 1
    assert not (tmp_path / "scontrol.log").exists()


def test_ssh_starts_torchrun_on_every_machine(tmp_path: Path) -> None:
    (tmp_path / "activate").write_text("")
    ssh = 'shift; host=$1; shift; bash -c "$*" > "$FOLDER/$host"'
    environment = played(tmp_path, ssh=ssh, torchrun='printf "%s\\n" "$PWD" "$@"')
    environment |= {"HOSTS": "one two", "PROCESSES": "4", "ENVIRONMENT": "activate"}
    job = start("ssh_train.sh", environment, "reacher", "run=a b")
    err = job.communicate(timeout=30)[1]
    assert job.returncode == 0, err
    first, second = ((tmp_path / host).read_text().splitlines() for host in ("one", "two"))
    assert first == second
    meeting = first[first.index("--rdzv-id") + 1]
    expected = (
        f"{tmp_path} --nnodes 2 --nproc-per-node 4 --max-restarts 3 --rdzv-backend c10d --rdzv-id {meeting} "
        "--rdzv-endpoint one:29500 -m worldjepa train reacher"
    )
    assert first == [*expected.split(), "run=a b"]


def test_ssh_without_machines_and_with_one_that_fails(tmp_path: Path) -> None:
    job = start("ssh_train.sh", played(tmp_path), "reacher")
    assert "HOSTS: names the machines" in job.communicate(timeout=30)[1]
    environment = played(tmp_path, ssh='[ "$2" = one ] || exit 3') | {"HOSTS": "one two"}
    job = start("ssh_train.sh", environment, "reacher")
    job.communicate(timeout=30)
    assert job.returncode == 3


@pytest.mark.slow
def test_the_slurm_script_trains(tmp_path: Path, tiny_data: Path) -> None:
    """With torch's own torchrun, one process on this machine."""
    environment = played(tmp_path, srun='shift; exec "$@"', scontrol="echo localhost") | SLURM
    words = [f"data.path={tiny_data}", "run=run", "train.device=cpu", "train.evaluate_goals=0"]
    job = start("slurm_train.sh", environment, "smoke", *words)
    err = job.communicate(timeout=300)[1]
    assert job.returncode == 0, err
    assert Run(tmp_path / "run").newest_checkpoint().name == "00000006"
