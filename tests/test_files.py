"""Files that are whole or not at all: two writers of the same, and what a killed one left."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from worldjepa.files import whole, write_text

WRITER = """
import sys
from pathlib import Path
from worldjepa.files import whole
with whole(Path(sys.argv[1])) as temporary:
    temporary.write_text("theirs, ")
    print("half", flush=True)
    sys.stdin.readline()
    temporary.write_text("theirs, whole")
"""


def other(path: Path) -> subprocess.Popen:
    """Another process, half-way through the same file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_of_two_writers_the_later_ones_file_stays(tmp_path: Path) -> None:
    theirs = other(tmp_path / "a.txt")
    write_text(tmp_path / "a.txt", "ours")
    assert (tmp_path / "a.txt").read_text() == "ours"
    theirs.communicate("go on\n")
    assert theirs.returncode == 0
    assert (tmp_path / "a.txt").read_text() == "theirs, whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_writer_left_the_next_one_removes(tmp_path: Path) -> None:
    theirs = other(tmp_path / "a.txt")
    theirs.kill()
    theirs.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [f".new-{platform.node()}-{theirs.pid}-a.txt"]
    write_text(tmp_path / "b.txt", "of another name")
    assert len(list(tmp_path.iterdir())) == 2
    write_text(tmp_path / "a.txt", "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def fail(path: Path) -> None:
    with whole(path) as temporary:
        temporary.write_text("aft")
        raise ValueError("half-way")


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")
    with pytest.raises(ValueError, match="half-way"):
        fail(tmp_path / "a.txt")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "before")]
