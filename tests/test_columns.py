"""worldjepa.data.columns: however a column is stored, its rows are what h5py reads."""

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from h5py import h5p, h5s, h5t, h5z

from worldjepa.data import columns
from worldjepa.data.columns import ChunkedRows, FileMap, ThroughHDF5, cache_folder, chunk_offsets, column
from worldjepa.errors import UserError

ROWS = 23
VALUES = {
    "frames": np.random.default_rng(0).integers(0, 256, (ROWS, 16, 16, 3), np.uint8),
    "numbers": np.random.default_rng(1).normal(size=(ROWS, 3)).astype(np.float32),
    "big-endian": np.random.default_rng(2).normal(size=(ROWS, 2)).astype(">f8"),
    "flags": np.random.default_rng(3).integers(0, 2, ROWS).astype(bool),
}
PLAIN = {"contiguous": {}, "one row a chunk": {"chunk_rows": 1}, "five rows a chunk": {"chunk_rows": 5}}
REQUESTS = (
    slice(0, 4),
    slice(3, 20, 5),
    slice(4, 4),
    ...,
    np.array([7, 7, 2, 22]),
    np.array([[0, 5], [21, 1]]),
    np.array([], int),
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(path: Path, values: np.ndarray, chunk_rows: int = 0, **how: Any) -> Path:
    """A file with a column among others, as a growing file has them."""
    with h5py.File(path, "w", libver="latest") as file:
        if chunk_rows:
            how = {"chunks": (chunk_rows, *values.shape[1:]), "maxshape": (None, *values.shape[1:])} | how
        data = file.create_dataset("column", values.shape, values.dtype, **how)
        other = file.create_dataset("other", (ROWS, 7), "f4", chunks=(1, 7))
        for row in range(len(values)):
            data[row], other[row] = values[row], row
    return path


def opened(path: Path, name: str = "column") -> columns.Column:
    file = h5py.File(path)
    return column(file, name, file[name].id, FileMap(path))


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("how", PLAIN)
def test_plain_columns_are_read_from_the_map(tmp_path: Path, kind: str, how: str) -> None:
    values = VALUES[kind]
    found = opened(written(tmp_path / "x.h5", values, **PLAIN[how]))
    assert isinstance(found, ChunkedRows if PLAIN[how] else np.ndarray)
    assert (found.shape, found.dtype) == (values.shape, values.dtype)
    for rows in REQUESTS:
        read = found[rows]
        np.testing.assert_array_equal(read, values[rows])
        assert read.dtype == values.dtype


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "gzip", "chunks": (1, 16, 16, 3)},
        {"compression": "lzf", "chunks": (4, 8, 16, 3), "shuffle": True},
        {"chunks": (5, 16, 4, 3)},
        {"fletcher32": True, "chunks": (2, 16, 16, 3)},
    ],
    ids=str,
)
def test_others_are_read_through_h5py(tmp_path: Path, how: dict[str, Any]) -> None:
    found = opened(written(tmp_path / "x.h5", VALUES["frames"], **how))
    assert isinstance(found, ThroughHDF5)
    for rows in REQUESTS:
        np.testing.assert_array_equal(found[rows], VALUES["frames"][rows])


def test_a_file_with_a_user_block_is_read_through_h5py(tmp_path: Path) -> None:
    """Its offsets count from the block's end."""
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["column"] = VALUES["numbers"]
    found = opened(tmp_path / "x.h5")
    np.testing.assert_array_equal(found[:], VALUES["numbers"])


def test_rows_that_were_never_written_are_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("column", (9, 3), np.float32, chunks=(2, 3), fillvalue=7)
        data[4:6] = 1
    found = opened(tmp_path / "x.h5")
    expected = np.full((9, 3), 7, np.float32)
    expected[4:6] = 1
    for rows in (slice(4, 6), slice(0, 9), np.array([8, 4, 0])):
        np.testing.assert_array_equal(found[rows], expected[rows])


def test_pages_let_go_are_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "x.h5", VALUES["frames"])
    mapped = FileMap(path)
    before = mapped.bytes.copy()
    mapped.release()
    np.testing.assert_array_equal(mapped.bytes, before)


def test_bytes_past_the_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    assert FileMap(tmp_path / "x").array(36, (2, 4), np.dtype("f8")).shape == (2, 4)
    with pytest.raises(ValueError, match="64 bytes at 37 reaches past the end"):
        FileMap(tmp_path / "x").array(37, (2, 4), np.dtype("f8"))


# The list of chunks, kept


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], np.ndarray]:
    """Lists the chunks of a file's column as if they were many."""
    monkeypatch.setattr(columns, "CACHED_CHUNKS", 1)

    def run(path: Path) -> np.ndarray:
        with h5py.File(path) as file:
            return chunk_offsets(file["column"], path.stat().st_size)

    return run


def kept() -> list[Path]:
    return sorted(cache_folder().rglob("*.npy"))


def summed(offsets: np.ndarray) -> np.ndarray:
    """With their checksum behind them."""
    return np.append(offsets, zlib.crc32(offsets.tobytes()))


def as_npz(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, np.zeros(3))


def one_less(path: Path) -> None:
    offsets = np.load(path)
    offsets[3] -= 1
    np.save(path, offsets)


def test_the_list_is_kept_and_used(tmp_path: Path, listed: Callable[[Path], np.ndarray]) -> None:
    path = written(tmp_path / "x.h5", VALUES["frames"], chunk_rows=1)
    offsets = listed(path)
    assert len(kept()) == 1
    np.testing.assert_array_equal(np.load(kept()[0]), summed(offsets))
    # Other offsets that are possible show where the second list comes from.
    np.save(kept()[0], summed(offsets[::-1]))
    np.testing.assert_array_equal(listed(path), offsets[::-1])
    assert not list(cache_folder().rglob("*.tmp"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b""),
        lambda path: np.save(path, np.zeros(3, np.int64)),
        lambda path: np.save(path, np.zeros(ROWS + 1)),
        lambda path: np.save(path, summed(np.full(ROWS, 10**9))),
        lambda path: np.save(path, summed(np.full(ROWS, -2))),
        as_npz,
        one_less,
        lambda path: np.save(path, np.array([{}] * ROWS), allow_pickle=True),
    ],
)
def test_a_spoiled_list_is_made_again(
    tmp_path: Path, listed: Callable[[Path], np.ndarray], spoil: Callable[[Path], Any]
) -> None:
    path = written(tmp_path / "x.h5", VALUES["frames"], chunk_rows=1)
    offsets = listed(path)
    spoil(kept()[0])
    np.testing.assert_array_equal(listed(path), offsets)
    np.testing.assert_array_equal(np.load(kept()[0]), summed(offsets))


def test_another_file_in_its_place_has_a_list_of_its_own(
    tmp_path: Path, listed: Callable[[Path], np.ndarray]
) -> None:
    path = written(tmp_path / "x.h5", VALUES["frames"], chunk_rows=1)
    listed(path)
    written(path, VALUES["numbers"], chunk_rows=1)
    listed(path)
    assert len(kept()) == 2
    np.testing.assert_array_equal(opened(path)[:], VALUES["numbers"])


def test_without_a_cache_folder_it_works_as_well(
    tmp_path: Path, listed: Callable[[Path], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "x.h5", VALUES["frames"], chunk_rows=1)
    offsets = listed(path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    np.testing.assert_array_equal(listed(path), offsets)
    assert (tmp_path / "file").read_bytes() == b""


def test_few_chunks_are_not_kept(tmp_path: Path) -> None:
    opened(written(tmp_path / "x.h5", VALUES["frames"], chunk_rows=1))[:]
    assert kept() == []


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("linux", ".cache/worldjepa"), ("darwin", "Library/Caches/worldjepa"), ("win32", "worldjepa/cache")],
)
def test_the_cache_is_where_the_system_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, expected: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_folder() == tmp_path / expected


# Compression


def test_a_filter_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_chunk((1, 3))
    # An optional filter may be missing when a file is written; 305 is nobody's.
    properties.set_filter(305, h5z.FLAG_OPTIONAL, (1,))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        space = h5s.create_simple((ROWS, 3))
        h5py.h5d.create(file.id, b"column", h5t.py_create(np.dtype("f4")), space, properties)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UserError, match=r"x\.h5: column column is compressed with filter 305 .*hdf5plugin"):
        opened(tmp_path / "x.h5")


@pytest.mark.parametrize("chunk_rows", [1, 4])
def test_blosc(tmp_path: Path, chunk_rows: int) -> None:
    import hdf5plugin

    chunks = (chunk_rows, 16, 16, 3)
    how = {"chunks": chunks, **hdf5plugin.Blosc(cname="lz4")}
    found = opened(written(tmp_path / "x.h5", VALUES["frames"], **how))
    assert isinstance(found, ThroughHDF5)
    np.testing.assert_array_equal(found[2:9:3], VALUES["frames"][2:9:3])
