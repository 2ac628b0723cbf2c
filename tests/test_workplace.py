"""worldjepa.data.workplace: what a killed collection left is told from what a living one is at."""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldjepa.data import workplace as module
from worldjepa.data.workplace import remove_left_overs, workplace
from worldjepa.errors import UserError

HOLD = """
import sys
from pathlib import Path
from worldjepa.data.workplace import workplace
with workplace(Path(sys.argv[1])) as place:
    (place / "shard-00000.h5").write_bytes(b"half")
    print(place, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Another process at work in the folder, and its place there."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_a_place_is_gone_at_the_end_whatever_ends_it(tmp_path: Path):
    folder = tmp_path / "new" / "data"
    with workplace(folder) as place:
        assert place.parent == folder
        (place / "shard-00000.h5").touch()
    assert list(tmp_path.iterdir()) == [], "nothing came about in it"
    folder.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), workplace(folder):
        raise KeyboardInterrupt
    assert list(folder.iterdir()) == []
    with workplace(tmp_path / "used") as place:
        (place.parent / "shard-00000.h5").touch()
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["shard-00000.h5"]


def test_what_lives_is_left_alone_and_what_was_killed_is_removed(
    tmp_path: Path, other: tuple[subprocess.Popen, Path]
):
    process, place = other
    remove_left_overs(tmp_path)
    with workplace(tmp_path) as ours:
        assert ours != place
    assert (place / "shard-00000.h5").read_bytes() == b"half"
    process.kill()
    process.wait()
    assert place.exists(), "a killed process removes nothing"
    with workplace(tmp_path) as ours:
        assert list(tmp_path.iterdir()) == [ours]


def test_a_place_can_be_found_by_others_only_when_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = []

    def flock(file: int, how: int) -> None:
        found.append([path.name for path in tmp_path.glob(".collect-*")])

    monkeypatch.setattr(fcntl, "flock", flock)
    with workplace(tmp_path):
        assert found == [[]]


def test_without_locks_nobodys_place_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def flock(file: int, how: int) -> None:
        raise OSError("no locks here")

    (tmp_path / ".collect-x").mkdir()
    (tmp_path / ".collect-x" / "lock").touch()
    with monkeypatch.context() as patched:
        patched.setattr(module.fcntl, "flock", flock)
        with workplace(tmp_path) as place:
            assert place.exists()
        assert (tmp_path / ".collect-x").exists()
    remove_left_overs(tmp_path)
    assert not (tmp_path / ".collect-x").exists()


def test_other_files_stay(tmp_path: Path):
    (tmp_path / "shard-00000.h5").touch()
    (tmp_path / ".collect-notes").write_text("mine")
    remove_left_overs(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_can_not_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            UserError, match=rf"data\.path={tmp_path}/file/data: can't be written: Not a directory"
        ),
        workplace(tmp_path / "file" / "data"),
    ):
        raise AssertionError
