"""Data that may be read and not written: a mounted archive, another user's folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldjepa.run import Run


@pytest.fixture
def locked(tiny_data: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the data in which nobody may write."""
    folder = tmp_path / "archive" / "data"
    shutil.copytree(tiny_data, folder)
    paths = [folder.parent, folder, *folder.iterdir()]
    modes = [(path, path.stat().st_mode) for path in paths]
    for path, mode in modes:
        path.chmod(mode & ~0o222)
    yield folder
    for path, mode in modes:
        path.chmod(mode)


def bound(*command: str) -> subprocess.CompletedProcess[str]:
    """A command to whom the permissions of files apply, as they do not to root."""
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root without setpriv")
        prefix = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    return subprocess.run([*prefix, sys.executable, *command], capture_output=True, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of Linux")
def test_data_are_trained_on_where_nothing_can_be_written(locked: Path, tmp_path: Path) -> None:
    refused = bound("-c", f"open({str(locked / 'new')!r}, 'w')")
    if refused.returncode == 0:
        pytest.skip("permissions do not apply here")
    assert "PermissionError" in refused.stderr
    before = {path: path.stat().st_mtime_ns for path in (locked, *locked.iterdir())}
    words = [f"data.path={locked}", f"run={tmp_path}/run", "train.evaluate_goals=0"]
    done = bound("-m", "worldjepa", "train", "smoke", *words)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    assert run.newest_checkpoint().name == "00000006"
    assert {path: path.stat().st_mtime_ns for path in (locked, *locked.iterdir())} == before
