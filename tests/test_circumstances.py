"""Commands where the disk is full, the folder is taken, the terminal is narrow, or there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from barred import full_disk

from worldjepa.cli import VERBS, main
from worldjepa.exclusive import exclusive


def typed(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `worldjepa` is ours."""
    program = f'worldjepa() {{ "{sys.executable}" -m worldjepa "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(
        ["bash", "-c", program], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def words(run: Path, tiny_data: Path) -> list[str]:
    """A training of two steps."""
    training = ["train", "smoke", "train.steps=2", "train.evaluate_goals=0"]
    return [*training, f"run={run}", f"data.path={tiny_data}"]


def test_a_second_training_is_kept_out_of_a_run_folder(
    run: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with exclusive(run):
        assert main(words) == 2
        assert capsys.readouterr().err.endswith(
            f"worldjepa: run={run}: another `worldjepa train` is at work there; name another\n"
        )
        assert list(run.iterdir()) == []
    assert main(words) == 0


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    run: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk(30_000):
        assert main(words) == 2
    said = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (line,) = [line for line in said if line.startswith("worldjepa: ")]
    assert "00000002" in line
    assert "can't be written" in line
    assert list((run / "checkpoints").iterdir()) == []
    assert main(words) == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000002"]


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_a_terminal_of_forty_columns(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main([*filter(None, [verb]), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # A name that is longer is not cut.
    assert [line for line in lines if len(line) > 40 and len(line.split()) > 1] == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("worldjepa train --help | head -1 | grep -q usage", (0, 1)),
        ("worldjepa --help >&-", (0,)),
        ("worldjepa nonsense 2>&-", (2,)),
        ("worldjepa --help <&-", (0,)),
        ("worldjepa --help > /dev/full", (2,)),
        ("LC_ALL=C PYTHONIOENCODING=ascii PYTHONUTF8=0 worldjepa train nö", (2,)),
    ],
)
def test_no_terminal_is_no_traceback(tmp_path: Path, line: str, code: tuple[int, ...]) -> None:
    done = typed(line, tmp_path, HOME="/nonexistent")
    assert done.returncode in code, done
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert list(tmp_path.iterdir()) == []
