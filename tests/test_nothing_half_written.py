"""Every verb on a full disk, where files may only be read, and killed: nothing is lost or half-written."""

import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib  # noqa: F401 - its first import makes a semaphore, which a full disk bars
import pytest
import torch
from barred import bound, full_disk, read_only
from test_lewm_weights import SMALL, published

from worldjepa.cli import VERBS, main
from worldjepa.data.workplace import MADE

# What each verb is to do, in a folder with data/smoke, its run runs/smoke and published weights.
WORK = {
    "collect": "collect smoke data.path=data/new",
    "data show": "data show smoke",
    "data info": "data info smoke",
    "data merge to a file": "data merge smoke store.to=merged.h5",
    "data merge to a folder": "data merge smoke store.to=merged",
    "data split": "data split smoke store.to=part",
    "data convert": "data convert smoke store.to=converted.h5",
    "train": "train smoke run=runs/new train.evaluate_goals=0",
    "plan": "plan runs/smoke plan.rival_steps=0",
    "probe": "probe runs/smoke",
    "surprise": "surprise runs/smoke",
    "decode": "decode runs/smoke",
    "geometry": "geometry runs/smoke",
    "convert": " ".join(["convert reacher_gpu run=runs/lewm convert.weights=lewm.pt", *SMALL]),
    "export": "export runs/smoke",
    "report": "report runs/smoke",
}
# These need not write.
READING = {"data verify": "data verify smoke", "doctor": "doctor smoke"}
# Of a training that was begun.
BEGUN = {"config.yaml", "about.json", "metrics.jsonl"}
# Runs each of argv's commands, and prints their exit codes and what each has said.
SEVERAL = """
import contextlib, io, json, sys
from worldjepa.cli import main
ends = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    ends.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(ends))
"""


def test_no_verb_is_left_out() -> None:
    named = {line.split()[0] for line in [*WORK.values(), *READING.values()]}
    # Its server is in the way of a test; it only reads, as tests/test_dashboard.py has it.
    assert named | {"monitor"} == set(VERBS)


@pytest.fixture(scope="module")
def home(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which there is something to do for each verb."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny_data, folder / "data" / "smoke")
    torch.save(published(), folder / "lewm.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "smoke", "train.evaluate_goals=0"]) == 0
    return folder


@pytest.fixture
def place(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where the test is at work."""
    folder = tmp_path / "place"
    shutil.copytree(home, folder)
    monkeypatch.chdir(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Files, apart from what a start of a training may add: its folder, and TensorBoard's files."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not path.name.startswith("events.out.")
        # Removed a minute later: it may be another's, who has no lock yet.
        and not path.parent.name.startswith(MADE)
        and not (path.parent.parent.name == "runs" and path.name in BEGUN)
    }


def complaint(error: str) -> str:
    """The one line that begins with our name; a progress bar may stand before it."""
    assert "Traceback" not in error
    (line,) = [line for line in error.replace("\r", "\n").splitlines() if line.startswith("worldjepa: ")]
    return line


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
@pytest.mark.parametrize("size", [pytest.param(0, marks=pytest.mark.slow), 3_000])
# The pipe to an ffmpeg that has gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("work", WORK)
def test_a_full_disk(work: str, size: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, before = WORK[work].split(), contents(place)
    with full_disk(size):
        assert main(words) == 2
    complaint(capsys.readouterr().err)
    assert contents(place) == before
    assert main(words) == 0, capsys.readouterr().err


@pytest.fixture
def locked(request: pytest.FixtureRequest, place: Path) -> Iterator[Path]:
    """The place, or a folder in it, that may only be read."""
    with read_only(place / request.param) as folder:
        yield folder


def several(lines: list[str]) -> list[tuple[int, str, str]]:
    """What commands end with and say to somebody whom permissions bar."""
    done = bound("-c", SEVERAL, json.dumps([line.split() for line in lines]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of Linux")
@pytest.mark.parametrize("locked", ["."], indirect=True)
def test_where_nothing_may_be_written(locked: Path) -> None:
    before = contents(locked)
    ends = several([*WORK.values(), *READING.values()])
    for work, (code, out, err) in zip(WORK, ends, strict=False):
        assert code == 2, (work, out, err)
        assert "ermission" in complaint(err), (work, err)
    for reading, (code, _, err) in zip(READING, ends[len(WORK) :], strict=True):
        assert code == 0, (reading, err)
    assert contents(locked) == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="permissions of Linux")
@pytest.mark.parametrize("locked", ["data"], indirect=True)
def test_where_the_data_may_only_be_read(locked: Path) -> None:
    work = {name: line for name, line in (WORK | READING).items() if name != "collect"}
    before = contents(locked)
    for name, (code, _, err) in zip(work, several(list(work.values())), strict=True):
        if name in ("data info", "data show"):
            assert code == 2, name
            assert complaint(err).endswith("Permission denied; store.to=FOLDER puts pictures elsewhere")
        else:
            assert code == 0, (name, err)
    pictures = [f"{WORK[name]} store.to=pictures" for name in ("data info", "data show")]
    assert [code for code, _, _ in several(pictures)] == [0, 0]
    assert contents(locked) == before


# Dies instead of the nth time that a file or folder gets its name.
KILLED = """
import os, signal, sys
from worldjepa.cli import main
left = int(sys.argv[1])

def instead_of(rename):
    def counted(*names):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*names)
    return counted

os.replace, os.rename = instead_of(os.replace), instead_of(os.rename)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_kill_before_any_file_gets_its_name(
    work: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = WORK[work].split()

    def done_again(folder: Path) -> set[str]:
        """The files that are there after the command."""
        monkeypatch.chdir(folder)
        assert main(words) == 0
        return set(contents(folder))

    undisturbed = done_again(Path(shutil.copytree(home, tmp_path / "undisturbed")))
    for count in itertools.count(1):
        folder = Path(shutil.copytree(home, tmp_path / str(count)))
        command = [sys.executable, "-c", KILLED, str(count), *words]
        code = subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert done_again(folder) == undisturbed
    assert count > 1
