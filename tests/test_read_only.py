"""Data that may be read and not written: a mounted archive, another user's folder."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from barred import bound, read_only

from worldjepa.run import Run


@pytest.fixture
def locked(tiny_data: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the data in which nobody may write."""
    folder = tmp_path / "archive" / "data"
    shutil.copytree(tiny_data, folder)
    with read_only(folder.parent):
        yield folder


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of Linux")
def test_data_are_trained_on_where_nothing_can_be_written(locked: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (locked, *locked.iterdir())}
    words = [f"data.path={locked}", f"run={tmp_path}/run", "train.evaluate_goals=0"]
    done = bound("-m", "worldjepa", "train", "smoke", *words)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    assert run.newest_checkpoint().name == "00000006"
    assert {path: path.stat().st_mtime_ns for path in (locked, *locked.iterdir())} == before
