"""worldjepa.data.rewrite: episodes come out of new files as they went in, and nothing is half-written."""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from worldjepa.data.provenance import Origin, made_here
from worldjepa.data.rewrite import (
    Episode,
    common_columns,
    episodes_of,
    joint_origin,
    write_file,
    write_shards,
)
from worldjepa.data.shards import PER_EPISODE, Store, shard_path, write_shard
from worldjepa.data.verify import verify
from worldjepa.errors import UserError

LENGTHS = (5, 1, 7, 3, 9)


def episode(length: int, seed: int) -> Episode:
    rng = np.random.default_rng(seed)
    return {
        "pixels": rng.integers(0, 256, (length, 8, 8, 3), np.uint8),
        "action": rng.normal(size=(length, 2)).astype(np.float32),
        "qpos": rng.normal(size=(length, 3)),
    }


EPISODES = [episode(n, i) for i, n in enumerate(LENGTHS)]
ORIGIN = Origin({"env": {"id": "x"}}, {"numpy": "1"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = tmp_path / "data"
    folder.mkdir()
    write_shard(shard_path(folder, 0), EPISODES[:2], ORIGIN.about, ORIGIN)
    write_shard(shard_path(folder, 1), EPISODES[2:], ORIGIN.about, ORIGIN)
    return Store(folder)


def every(store: Store) -> Iterator[Episode]:
    return episodes_of(store, range(len(store.lengths)), common_columns([store]))


def holds(path: Path, expected: list[Episode]) -> Store:
    """The store at a path, seen to hold these episodes and no others, and to be whole."""
    store = Store(path)
    assert store.lengths.tolist() == [len(e["action"]) for e in expected]
    for found, wanted in zip(every(store), expected, strict=True):
        assert set(found) == set(wanted)
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype
    assert [finding.problems for finding in verify(path)] == [[]] * len(store.shards)
    return store


def test_one_file_holds_the_shards_episodes(store: Store, tmp_path: Path) -> None:
    assert write_file(tmp_path / "new" / "one.h5", every(store), ORIGIN, sum(LENGTHS)) == 5
    merged = holds(tmp_path / "new" / "one.h5", EPISODES).shards[0]
    assert all(isinstance(column, np.ndarray) for column in merged.columns.values()), "contiguous"
    assert (merged.about, merged.versions) == tuple(ORIGIN)
    assert set(merged.checksums) == {"pixels", "action", "qpos", "step_idx", *PER_EPISODE}
    steps = merged.columns["step_idx"][:]
    np.testing.assert_array_equal(steps, np.concatenate([np.arange(n) for n in LENGTHS]))


def test_their_layout(store: Store, tmp_path: Path) -> None:
    """What stable-worldmodel 0.1.1's HDF5Writer makes: growing columns, one row a chunk, its types."""
    write_file(tmp_path / "theirs.h5", every(store), None, None)
    holds(tmp_path / "theirs.h5", EPISODES)
    with h5py.File(tmp_path / "theirs.h5", swmr=True) as file:
        assert dict(file.attrs) == {}
        assert (file["ep_len"].dtype, file["ep_offset"].dtype) == (np.int32, np.int64)
        for name, column in file.items():
            assert dict(column.attrs) == {}
            assert column.maxshape == (None, *column.shape[1:])
            assert name in PER_EPISODE or column.chunks == (1, *column.shape[1:])


@pytest.mark.parametrize(("shard_episodes", "files"), [(1, 5), (2, 3), (5, 1), (9, 1)])
def test_shards_again(store: Store, tmp_path: Path, shard_episodes: int, files: int) -> None:
    assert write_shards(tmp_path / "again", every(store), ORIGIN, shard_episodes) == 5
    again = holds(tmp_path / "again", EPISODES)
    assert len(again.shards) == files
    assert {(str(s.about), str(s.versions)) for s in again.shards} == {tuple(map(str, ORIGIN))}


def test_some_episodes_in_the_order_asked_for(store: Store, tmp_path: Path) -> None:
    some = episodes_of(store, [4, 0], common_columns([store]))
    write_shards(tmp_path / "some", some, ORIGIN, 20)
    holds(tmp_path / "some", [EPISODES[4], EPISODES[0]])


def test_shard_to_shard_the_bytes_are_the_same(store: Store, tmp_path: Path) -> None:
    write_shards(tmp_path / "again", every(store), ORIGIN, 5)
    write_shards(tmp_path / "once more", every(Store(tmp_path / "again")), ORIGIN, 5)
    one, other = (shard_path(tmp_path / name, 0).read_bytes() for name in ("again", "once more"))
    assert one == other


def test_texts_are_kept(tmp_path: Path) -> None:
    texts = np.array([b"reach", b"the \xc3\xa9"], object)
    write_file(tmp_path / "a.h5", [EPISODES[0] | {"task": texts.repeat([2, 3])}], ORIGIN, 5)
    write_shards(tmp_path / "b", every(Store(tmp_path / "a.h5")), ORIGIN, 1)
    for path in (tmp_path / "a.h5", tmp_path / "b"):
        store = Store(path)
        assert store.read("task", np.array([0]), np.array([[0, 4]])).tolist() == [texts.tolist()]
        assert verify(path)[0].problems == []


def test_columns_that_not_all_have_are_left_out_and_types_widen(store: Store, tmp_path: Path) -> None:
    other = {name: values for name, values in EPISODES[0].items() if name != "qpos"}
    write_file(tmp_path / "b.h5", [other | {"action": other["action"].astype(np.float64)}], ORIGIN, 5)
    columns = common_columns([store, Store(tmp_path / "b.h5")])
    assert columns == {"pixels": np.uint8, "action": np.float64}


@pytest.mark.parametrize(("name", "shape"), [("pixels", (5, 9, 9, 3)), ("action", (5, 3)), ("qpos", (5, 2))])
def test_data_that_are_not_alike_are_refused(
    store: Store, tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    values = np.zeros(shape, EPISODES[0][name].dtype)
    write_file(tmp_path / "b.h5", [EPISODES[0] | {name: values}], ORIGIN, 5)
    with pytest.raises(UserError, match=rf"b\.h5: {name} is "):
        common_columns([store, Store(tmp_path / "b.h5")])


def test_where_data_of_several_origins_come_from(store: Store, tmp_path: Path) -> None:
    assert joint_origin([store]) == ORIGIN
    write_file(tmp_path / "b.h5", EPISODES[:1], made_here({"env": {"id": "y"}}), 5)
    other = Store(tmp_path / "b.h5")
    assert joint_origin([store, other, store]) == (
        {"merged": [{"env": {"id": "x"}}, {"env": {"id": "y"}}]},
        {},
    )
    write_file(tmp_path / "c.h5", EPISODES[:1], None, None)
    assert joint_origin([Store(tmp_path / "c.h5")]) == ({"merged": [None]}, {})


# Whole or not at all


def writers(path: Path) -> dict[str, object]:
    return {
        "file": lambda episodes: write_file(path, episodes, ORIGIN, sum(LENGTHS)),
        "theirs": lambda episodes: write_file(path, episodes, None, None),
        "shards": lambda episodes: write_shards(path, episodes, ORIGIN, 2),
    }


@pytest.mark.parametrize("kind", ["file", "theirs", "shards"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError, OSError])
def test_what_is_broken_off_leaves_nothing(tmp_path: Path, kind: str, error: type[BaseException]) -> None:
    def some() -> Iterator[Episode]:
        yield from EPISODES[:3]
        raise error("stop")

    with pytest.raises(UserError if error is OSError else error, match="stop"):
        writers(tmp_path / "new")[kind](some())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "theirs", "shards"])
@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_what_is_there_stays(tmp_path: Path, kind: str, there: str) -> None:
    target = tmp_path / "new"
    if there == "file":
        target.write_text("mine")
    elif there == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is there already, and is not overwritten"):
        writers(target)[kind](iter(EPISODES))
    assert list(tmp_path.iterdir()) == [target]
    assert there != "file" or target.read_text() == "mine"
