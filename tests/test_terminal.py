"""A narrow terminal breaks no bar over lines; two at once lose nothing that one would have left."""

import fcntl
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

COLUMNS = 40
WORDS = ("plan.goals=3", "plan.budget=10", "plan.bound_goals=0", "plan.rival_steps=0")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "worldjepa", *words]


def on_a_terminal(*words: str) -> tuple[int, list[str]]:
    """Exit code, and lines as they stood on a terminal of 40 columns, each state of a progress bar one."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(command(*words), stdout=theirs, stderr=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 1 << 16):
            said += part
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", said.decode())
    return process.wait(), re.split(r"[\r\n]+", text)


def test_no_progress_bar_is_broken_over_lines(tiny_data: Path, tmp_path: Path) -> None:
    code, lines = on_a_terminal("train", "smoke", f"run={tmp_path}/run", f"data.path={tiny_data}")
    bars = [line for line in lines if re.match(r"(train|goals|collect)\b.*:", line)]
    assert code == 0
    assert any("train" in bar and "steps/s" in bar for bar in bars), lines
    assert max(map(len, bars)) <= COLUMNS


def test_two_evaluations_of_one_run_at_once_leave_what_one_leaves(
    smoke_runs: dict[str, Path], tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(smoke_runs["smoke"], run)
    words = command("plan", str(run), f"data.path={tiny_data}", *WORDS)
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    tables = [process.communicate()[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    rows = [
        re.findall(r"^\| (random actions|world model) +\| +([\d.]+ %)", table, re.MULTILINE)
        for table in tables
    ]
    assert len(rows[0]) == 2
    assert rows[0] == rows[1]
    assert json.loads((run / "evaluation" / "plan.json").read_text("utf-8"))["pairs"] == 3
