"""worldjepa.data.shards: the store gives back what was written, and says what is wrong with other files."""

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from worldjepa.data.columns import ChunkedRows, ThroughHDF5
from worldjepa.data.shards import PER_EPISODE, SCHEMA, Shard, Store, shard_path, write_shard
from worldjepa.errors import UserError

LENGTHS = [[5, 1, 7], [3], [4, 9]]  # of the episodes of three shards
COLUMNS = ("pixels", "action", "qpos", "step_idx")


def episode(length: int, seed: int, size: int = 8, actions: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "pixels": rng.integers(0, 256, (length, size, size, 3), np.uint8),
        "action": rng.normal(size=(length, actions)).astype(np.float32),
        "qpos": rng.normal(size=(length, 3)),
    }


EPISODES = [[episode(n, 10 * i + j) for j, n in enumerate(shard)] for i, shard in enumerate(LENGTHS)]
FLAT = [each for shard in EPISODES for each in shard]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    for index, episodes in enumerate(EPISODES):
        write_shard(shard_path(path, index), episodes, {"made": index})
    return path


def rewritten(source: Path, path: Path, change: Callable[[h5py.File], Any] | None = None, **how: Any) -> Path:
    """A file of one shard's columns, each stored as `how` says; `change` may spoil it."""
    with h5py.File(source) as old, h5py.File(path, "w") as new:
        for name, column in old.items():
            new.create_dataset(name, data=column[:], **how)
        if change:
            change(new)
    return path


def replace(name: str, values: Any, **how: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values, **how)

    return change


# What is written is read


def test_round_trip_of_every_column(folder: Path):
    store = Store(folder)
    assert store.lengths.tolist() == [5, 1, 7, 3, 4, 9]
    assert store.image_shape == (8, 8, 3)
    assert store.action_dim == 2
    assert store.about == {"made": 0}
    for number, written in enumerate(FLAT):
        steps = np.arange(len(written["action"]))
        for name in COLUMNS:
            read = store.gather(name, np.array([number]), steps[None])[0]
            expected = steps if name == "step_idx" else written[name]
            np.testing.assert_array_equal(read, expected)
            assert read.dtype == expected.dtype


def test_gather_across_shards_in_any_order(folder: Path):
    store = Store(folder)
    episodes = np.array([5, 0, 3, 5, 2, 1])
    steps = np.array([[8, 0, 8], [4, 3, 2], [2, 0, 1], [1, 1, 1], [6, 0, 3], [0, 0, 0]])
    for name in ("pixels", "action", "qpos"):
        rows = store.gather(name, episodes, steps)
        assert rows.shape == (6, 3, *FLAT[0][name].shape[1:])
        for row, e, s in zip(rows, episodes, steps, strict=True):
            np.testing.assert_array_equal(row, FLAT[e][name][s])


@pytest.mark.parametrize("step", [1, 2, 0, -1])
def test_requests_that_go_up_evenly_or_not(folder: Path, step: int):
    """Even steps upward are read as slices, others by their numbers."""
    store = Store(folder)
    steps = 4 + step * np.arange(-1, 2) + np.array([[0], [1]])
    rows = store.gather("pixels", np.array([2, 5]), steps)
    np.testing.assert_array_equal(rows[0], FLAT[2]["pixels"][steps[0]])
    np.testing.assert_array_equal(rows[1], FLAT[5]["pixels"][steps[1]])
    assert store.gather("qpos", np.array([1, 3]), np.zeros((2, 0), int)).shape == (2, 0, 3)


def test_data_larger_than_what_stays_mapped_read_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worldjepa.data.shards.LARGE_BYTES", 1000)
    monkeypatch.setattr("worldjepa.data.shards.MAPPED_BYTES", 1000)
    monkeypatch.setattr("worldjepa.data.shards.AROUND_BYTES", 0)
    store, released = Store(folder), []
    for shard in store.shards:
        monkeypatch.setattr(shard, "release", lambda shard=shard: released.append(Shard.release(shard)))
    for number, written in enumerate(FLAT):
        steps = np.arange(len(written["action"]))[None]
        np.testing.assert_array_equal(store.gather("pixels", np.array([number]), steps)[0], written["pixels"])
    # Of 5, 1, 7, 3, 4 and 9 frames of 192 bytes, the second, third, fifth and sixth pass a thousand.
    assert len(released) == 4 * len(store.shards)


def test_more_shards_than_the_process_may_open_files(tmp_path: Path):
    for index in range(40):
        write_shard(shard_path(tmp_path, index), EPISODES[1], {})
    program = (
        "import resource, sys; from worldjepa.data.shards import Store\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (48, int(sys.argv[2])))\n"
        "print(len(Store(sys.argv[1]).shards))"
    )

    def run(hard: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", program, str(tmp_path), str(hard)]
        return subprocess.run(words, capture_output=True, text=True)

    assert run(1024).stdout == "40\n"
    refused = run(48).stderr.splitlines()[-1]
    assert "too many open files; raise `ulimit -n`" in refused


def test_checksums_and_versions_are_kept_with_the_columns(folder: Path):
    shard = Shard(shard_path(folder, 0))
    expected = {name: np.concatenate([e[name] for e in EPISODES[0]]) for name in ("pixels", "action", "qpos")}
    assert set(shard.checksums) == {*COLUMNS, *PER_EPISODE}
    for name, values in expected.items():
        assert shard.checksums[name] == zlib.crc32(values.tobytes())
    assert shard.versions["numpy"] == np.__version__


def test_what_is_gathered_is_a_copy(folder: Path):
    request = np.array([0]), np.array([[0, 1]])
    store = Store(folder)
    store.gather("pixels", *request)[:] = 0
    np.testing.assert_array_equal(store.gather("pixels", *request)[0], FLAT[0]["pixels"][:2])


def test_our_columns_are_mapped_into_memory(folder: Path):
    shard = Shard(shard_path(folder, 0))
    assert set(shard.columns) == set(COLUMNS)
    whole = shard._map.bytes
    for column in shard.columns.values():
        assert isinstance(column, np.ndarray)
        assert np.shares_memory(column, whole)
        assert not column.flags.writeable


def test_same_content_same_bytes(folder: Path, tmp_path: Path):
    again = shard_path(tmp_path, 2)
    write_shard(again, EPISODES[2], {"made": 2})
    assert again.read_bytes() == shard_path(folder, 2).read_bytes()


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "chunks": True, "shuffle": True},
        {"maxshape": (None,)},
        {"fletcher32": True},
    ],
    ids=str,
)
def test_chunked_and_compressed_files_read_the_same(folder: Path, tmp_path: Path, how: dict):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in sorted(folder.iterdir()):
        rewritten(path, mixed / path.name, **{k: v for k, v in how.items() if k != "maxshape"})
        if "maxshape" in how:  # one frame a chunk, growing, as stable-worldmodel's writer makes it
            with h5py.File(path) as old:
                pixels = old["pixels"][:]
            shape = pixels.shape[1:]
            with h5py.File(mixed / path.name, "a") as file:
                replace("pixels", pixels, maxshape=(None, *shape), chunks=(1, *shape))(file)
    one, other = Store(folder), Store(mixed)
    kind = ChunkedRows if "maxshape" in how else ThroughHDF5
    assert isinstance(other.shards[0].columns["pixels"], kind)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    episodes, steps = np.array([5, 0, 2, 0]), np.array([[8, 0, 8], [4, 3, 2], [6, 6, 0], [0, 1, 2]])
    for name in COLUMNS:
        np.testing.assert_array_equal(one.gather(name, episodes, steps), other.gather(name, episodes, steps))


def test_one_file_in_the_published_layout(tmp_path: Path):
    """As stable-worldmodel writes it: growing columns, one frame a chunk, text, no attributes of ours."""
    path = tmp_path / "reacher_random.h5"
    lengths = [len(each["action"]) for each in FLAT]
    with h5py.File(path, "w", libver="latest") as file:
        for name in ("pixels", "action", "qpos"):
            values = np.concatenate([each[name] for each in FLAT])
            shape = values.shape[1:]
            file.create_dataset(name, data=values, maxshape=(None, *shape), chunks=(1, *shape))
        file.create_dataset("ep_len", data=np.array(lengths, np.int32), maxshape=(None,))
        file.create_dataset("ep_offset", data=np.cumsum(lengths) - lengths, maxshape=(None,))
        file.create_dataset("env_name", data=["reacher"] * sum(lengths), dtype=h5py.string_dtype())
        file.create_dataset("terminated", data=np.zeros(sum(lengths), bool))
    store = Store(path)
    assert store.about is None
    assert store.lengths.tolist() == lengths
    for number, written in enumerate(FLAT):
        steps = np.arange(lengths[number])[None]
        np.testing.assert_array_equal(store.gather("pixels", np.array([number]), steps)[0], written["pixels"])
    assert store.read("env_name", np.array([1]), np.array([[0, 0]])).tolist() == [[b"reacher"] * 2]
    with pytest.raises(UserError, match=r"column env_name holds object, not numbers"):
        store.gather("env_name", np.array([1]), np.array([[0, 0]]))


def test_a_column_that_only_some_shards_have(folder: Path):
    write_shard(shard_path(folder, 3), [{k: v for k, v in episode(4, 99).items() if k != "qpos"}], {})
    store = Store(folder)
    assert (store.has("action"), store.has("qpos"), store.has("nothing")) == (True, False, False)
    with pytest.raises(UserError, match=r"shard-00003\.h5: has no column qpos"):
        store.gather("qpos", np.array([0, 6]), np.zeros((2, 1), int))


def test_a_write_that_fails_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "worldjepa.data.shards.sync", lambda path: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        write_shard(shard_path(tmp_path, 0), EPISODES[0], {})
    assert not list(tmp_path.glob("shard-*"))
    with pytest.raises(UserError, match="holds no shard"):
        Store(tmp_path)


# What is wrong is named


def refused(path: Path, named: Path, words: str) -> None:
    """Opening `path` gives one line that names a file and what is wrong with it."""
    with pytest.raises(UserError) as caught:
        Store(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(named) in line
    assert words in line, line


def test_nothing_there(tmp_path: Path):
    refused(tmp_path / "missing", tmp_path / "missing", "no such folder")
    refused(tmp_path, tmp_path, "holds no shard-*.h5")
    (tmp_path / ".shard-00000.h5.123.tmp").write_bytes(b"half a shard")
    refused(tmp_path, tmp_path, "holds no shard-*.h5")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated(folder: Path, share: float):
    path = shard_path(folder, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(folder, path, "not a whole HDF5 file")


def test_cut_by_one_byte(folder: Path):
    path = shard_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-1])
    refused(folder, path, "not a whole HDF5 file")


FOREIGN = {
    "text": b"episode,reward\n1,2\n",
    "zip": b"PK\x03\x04" + bytes(500),
    "zeros": bytes(10_000),
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_no_hdf5_at_all(folder: Path, content: bytes):
    path = shard_path(folder, 1)
    path.write_bytes(content)
    refused(folder, path, "not a whole HDF5 file")
    refused(path, path, "not a whole HDF5 file")


def test_a_folder_named_like_a_shard(folder: Path):
    path = shard_path(folder, 7)
    path.mkdir()
    refused(folder, path, "not a whole HDF5 file")


def test_hdf5_of_something_else(tmp_path: Path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layer").create_dataset("kernel", data=np.zeros((3, 3)))
    refused(path, path, "has no column pixels")


# Each row: what is done to the last shard's file, and what the one line says of it.
TEXT = h5py.string_dtype()
SPOILED = {
    "newer": (lambda file: file.attrs.update(schema=SCHEMA + 1), "newer worldjepa"),
    "schema is text": (lambda file: file.attrs.update(schema="one"), "not a whole HDF5 file"),
    "schema is a list": (lambda file: file.attrs.update(schema=[1, 2]), "not a whole HDF5 file"),
    "about is a number": (lambda file: file.attrs.update(about=5), "not a whole HDF5 file"),
    "about is no JSON": (lambda file: file.attrs.update(about="{"), "not a whole HDF5 file"),
    "no action": (lambda file: file.pop("action"), "has no column action"),
    "no ep_len": (lambda file: file.pop("ep_len"), "has no column ep_len"),
    "group for a column": (lambda f: [f.pop("pixels"), f.create_group("pixels")], "no column pixels"),
    "float pixels": (replace("pixels", np.zeros((13, 8, 8, 3), np.float32)), "pixels are float32"),
    "channels first": (replace("pixels", np.zeros((13, 3, 8, 8), np.uint8)), "not uint8 (N, H, W, 3)"),
    "grey pixels": (replace("pixels", np.zeros((13, 8, 8), np.uint8)), "not uint8 (N, H, W, 3)"),
    "no pixels at all": (replace("pixels", h5py.Empty(np.uint8)), "not uint8 (N, H, W, 3)"),
    "flat action": (replace("action", np.zeros(13, np.float32)), "not numbers (N, A)"),
    "scalar action": (replace("action", 1.0), "not numbers (N, A)"),
    "text action": (replace("action", [["left"]] * 13, dtype=TEXT), "not numbers (N, A)"),
    "fewer actions": (replace("action", np.zeros((12, 2), np.float32)), "reaches past the 12 rows"),
    "more pixels": (replace("pixels", np.zeros((14, 8, 8, 3), np.uint8)), "action has 13 rows"),
    "short qpos": (replace("qpos", np.zeros((12, 3))), "column qpos"),
    "scalar column": (lambda file: file.create_dataset("fps", data=50.0), "column fps"),
    "past the end": (replace("ep_offset", np.array([0, 5])), "reaches past the 13 rows"),
    "before the start": (replace("ep_offset", np.array([-1, 4])), "reaches past"),
    "past all numbers": (
        lambda f: [replace("ep_offset", np.array([0, 2**62]))(f), replace("ep_len", np.array([4, 2**62]))(f)],
        "reaches past the 13 rows",
    ),
    "episodes over one another": (replace("ep_offset", np.array([0, 3])), "reaches into the next"),
    "no actions": (replace("action", np.zeros((13, 0), np.float32)), "not numbers (N, A)"),
    "frames of nothing": (replace("pixels", np.zeros((13, 0, 8, 3), np.uint8)), "not uint8 (N, H, W, 3)"),
    "larger than any memory": (
        lambda f: [f.pop("qpos"), f.create_dataset("qpos", (2**60, 3), np.float64, chunks=(1, 3))],
        "column qpos says that it has",
    ),
    "schema is infinite": (lambda file: file.attrs.update(schema=np.inf), "not a whole HDF5 file"),
    "about is a list": (lambda file: file.attrs.update(about="[1]"), "its attribute about says [1]"),
    "about a text for env": (lambda file: file.attrs.update(about='{"env": "x"}'), "attribute about says"),
    "about no text": (lambda file: file.attrs.update(about='{"x": "\\ud800"}'), "not a whole HDF5 file"),
    "about without end": (lambda file: file.attrs.update(about="[" * 60_000), "nested too deep"),
    "text for qpos": (replace("qpos", np.full((13, 3), "x", object), dtype=TEXT), "qpos holds object"),
    "fewer offsets": (replace("ep_offset", np.array([0])), "no whole episode"),
    "no episode": (lambda f: [replace(n, np.zeros(0, int))(f) for n in PER_EPISODE], "no whole episode"),
    "episode of no frames": (replace("ep_len", np.array([4, 0])), "no whole episode"),
    "fractional ep_len": (replace("ep_len", np.array([4.5, 8.5])), "not whole numbers (E,)"),
    "text ep_len": (replace("ep_len", ["four", "nine"], dtype=TEXT), "not whole numbers (E,)"),
    "table ep_len": (replace("ep_len", np.array([[4, 9]])), "not whole numbers (E,)"),
    "scalar ep_len": (replace("ep_len", 13), "not whole numbers (E,)"),
    "other frame size": (replace("pixels", np.zeros((13, 9, 9, 3), np.uint8)), "pixels is (9, 9, 3) a frame"),
    "other action size": (replace("action", np.zeros((13, 3), np.float32)), "action is (3,) a frame"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_files(folder: Path, name: str):
    change, words = SPOILED[name]
    path = shard_path(folder, 2)
    rewritten(path, folder / "new", change).replace(path)
    refused(folder, path, words)


def test_the_unspoiled_rewrite_is_accepted(folder: Path):
    path = shard_path(folder, 2)
    rewritten(path, folder / "new", lambda file: file.attrs.update(schema=SCHEMA)).replace(path)
    assert Store(folder).lengths.tolist() == [5, 1, 7, 3, 4, 9]


def test_a_column_that_lies_in_another_file(folder: Path, tmp_path: Path):
    """Its place is one in that file, and not in this one's map."""
    other = np.arange(26.0).reshape(13, 2)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["qvel"] = other
    path = shard_path(folder, 2)
    rewritten(path, folder / "new", lambda file: file.update(qvel=h5py.ExternalLink("../other.h5", "/qvel")))
    (folder / "new").replace(path)
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["qvel"], other)
    np.testing.assert_array_equal(Shard(path).columns["qvel"][:], other)


def test_a_damaged_chunk_is_named_when_it_is_read(folder: Path):
    path = shard_path(folder, 2)
    rewritten(path, folder / "new", compression="gzip").replace(path)
    with h5py.File(path) as file:
        chunk = file["pixels"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 8] = bytes(8)
    path.write_bytes(content)
    store = Store(folder)
    with pytest.raises(UserError, match=rf"{path}: column pixels can't be read"):
        store.gather("pixels", np.array([4]), np.array([[0]]))
