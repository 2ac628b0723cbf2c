"""worldjepa.data.verify: every byte that is not what was written is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_rewrite import EPISODES, ORIGIN

from worldjepa.data.rewrite import write_file
from worldjepa.data.shards import PER_EPISODE, Shard, shard_path, write_shard
from worldjepa.data.verify import verify
from worldjepa.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(3):
        write_shard(shard_path(tmp_path, index), EPISODES[index : index + 3], ORIGIN.about)
    return tmp_path


def test_whole_data_have_nothing_to_tell(folder: Path) -> None:
    findings = verify(folder)
    assert [(f.path, f.problems, f.notes) for f in findings] == [
        (shard_path(folder, i), [], []) for i in range(3)
    ]
    assert [(f.episodes, f.frames) for f in findings] == [(3, 13), (3, 11), (3, 19)]


@pytest.mark.parametrize("name", ["pixels", "action", "qpos", "step_idx", *PER_EPISODE])
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_bit_is_noticed(folder: Path, name: str, place: str) -> None:
    path = shard_path(folder, 1)
    with h5py.File(path) as file:
        start, size = file[name].id.get_offset(), file[name].id.get_storage_size()
    content = bytearray(path.read_bytes())
    # The lowest bit of the first number, or of its last byte but one: a float stays finite.
    content[start if place == "first" else start + size - 2] ^= 1
    path.write_bytes(content)
    one, other, last = verify(folder)
    assert (one.problems, last.problems) == ([], [])
    assert other.problems
    if name not in PER_EPISODE:
        assert f"column {name} is not what was written (checksum)" in other.problems


def test_frames_without_a_checksum_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "theirs.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        frames = rng.integers(0, 256, (8, 4, 4, 3), np.uint8)
        file.create_dataset("pixels", data=frames, chunks=(4, 4, 4, 3), compression="gzip")
        file["action"] = np.zeros((8, 2), np.float32)
        file["ep_len"], file["ep_offset"] = [8], [0]
        place = file["pixels"].id.get_chunk_info(1).byte_offset
    assert verify(path)[0].problems == []
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    assert "pixels" in verify(path)[0].problems[0]


def test_a_shard_that_is_cut_short_and_the_others(folder: Path) -> None:
    path = shard_path(folder, 0)
    path.write_bytes(path.read_bytes()[:-1])
    one, *others = verify(folder)
    assert one.problems[0].startswith("not a whole HDF5 file")
    assert [f.problems for f in others] == [[], []]


def test_numbers_that_are_not_finite(folder: Path) -> None:
    spoilt = {name: values.copy() for name, values in EPISODES[0].items()}
    spoilt["action"][[0, 2, 4], 0] = np.nan, np.inf, np.nan
    spoilt["qpos"][4] = np.nan
    write_shard(shard_path(folder, 0), [spoilt], {})
    assert verify(folder)[0].problems == [
        "column action has 2 rows with a number that is not finite",
        "column qpos has 1 rows with a number that is not finite",
    ], "the action at the last frame leads nowhere"


def test_frames_that_are_counted_wrongly(folder: Path) -> None:
    path = shard_path(folder, 0)
    with h5py.File(path, "r+") as file:
        steps = file["step_idx"][:]
        steps[3] = 7
        del file["step_idx"]
        file["step_idx"] = steps
    assert verify(path)[0].problems == ["column step_idx does not count the frames of each episode"]


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda file: [file[name].attrs.pop("crc32") for name in file], "has no checksums"),
        (lambda file: file["qpos"].attrs.pop("crc32"), "no checksum of qpos"),
        (lambda file: file.attrs.pop("about"), "does not say how it was collected"),
    ],
)
def test_what_is_missing_is_noted(folder: Path, change: Callable[[h5py.File], Any], note: str) -> None:
    with h5py.File(shard_path(folder, 0), "r+") as file:
        change(file)
    one, *others = verify(folder)
    assert (one.problems, one.notes) == ([], [note])
    assert [f.notes for f in others] == [[], []]


def test_a_shard_missing_between_others_is_noted(folder: Path) -> None:
    shard_path(folder, 1).unlink()
    assert verify(folder)[0].notes == ["shards are missing between others: 1"]


def test_shards_numbered_by_the_day_take_no_memory(folder: Path) -> None:
    last = sorted(folder.glob("shard-*.h5"))[-1]
    last.rename(folder / "shard-20240101.h5")
    (note,) = verify(folder)[0].notes
    assert note.startswith("shards are missing between others: ")
    assert note.endswith(" to 20240100")


def test_a_file_of_theirs(tmp_path: Path) -> None:
    write_file(tmp_path / "theirs.h5", EPISODES, None, None)
    (finding,) = verify(tmp_path / "theirs.h5")
    assert finding.problems == []
    assert finding.notes == ["has no checksums", "does not say how it was collected"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        verify(tmp_path / "missing")


def test_pieces_give_the_checksum_of_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldjepa.data.summary.PIECE_BYTES", 400)
    assert [f.problems for f in verify(folder)] == [[], [], []]
    assert Shard(shard_path(folder, 0)).checksums
