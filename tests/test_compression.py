"""worldjepa.data.compression: smaller files, the same frames, read and merged like any others."""

import dataclasses
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from moving_dot import write_dots

from worldjepa.cli import main
from worldjepa.config import CollectConfig, EnvConfig
from worldjepa.data.collect import collect
from worldjepa.data.columns import ThroughHDF5
from worldjepa.data.compression import filters
from worldjepa.data.shards import Store
from worldjepa.data.verify import verify
from worldjepa.data.windows import Windows
from worldjepa.errors import UserError
from worldjepa.limits import COMPRESSIONS
from worldjepa.recipes import load_config

KINDS = [kind for kind in COMPRESSIONS if kind != "none"]
COUNTING = EnvConfig(id="counting_env:Counting-v0", image_size=4)
SMALL = CollectConfig(episodes=7, episode_length=30, shard_episodes=2, workers=2)


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dots(tmp_path_factory.mktemp("compression") / "dots", episodes=6, length=12)


def windows(path: Path) -> Windows:
    store = Store(path)
    return Windows(store, np.arange(len(store.lengths)), 3, 2)


@pytest.mark.parametrize("target", ["folder", "merged.h5", "theirs.h5"])
@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_the_same_from_smaller_files(dots: Path, tmp_path: Path, kind: str, target: str):
    """Shards, one file, stable-worldmodel's layout; and back again."""
    verb = "merge" if target == "merged.h5" else "convert"
    new = tmp_path / target
    assert main(["data", verb, str(dots), f"store.to={new}", f"store.compression={kind}"]) == 0
    plain, packed = windows(dots), windows(new)
    size = sum(shard.path.stat().st_size for shard in packed.store.shards)
    assert size < 0.5 * sum(shard.path.stat().st_size for shard in plain.store.shards)
    for shard in packed.store.shards:
        assert isinstance(shard.columns["pixels"], ThroughHDF5)
        with h5py.File(shard.path) as file:
            assert file["pixels"].chunks == (1, *plain.store.image_shape)
            assert file["action"].compression is None
    order = np.random.default_rng(0).permutation(len(plain))
    for numbers in (order[:16], order[-5:], order[:1]):
        one, other = plain.batch(numbers), packed.batch(numbers)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert [finding.problems for finding in verify(new)] == [[]] * len(packed.store.shards)
    assert main(["data", "convert", str(new), f"store.to={tmp_path}/again"]) == 0
    assert [p.read_bytes() for p in sorted((tmp_path / "again").iterdir())] == [
        p.read_bytes() for p in sorted(rewritten(dots, tmp_path / "straight").iterdir())
    ] or target == "theirs.h5", "their layout has no origin"


def rewritten(dots: Path, folder: Path) -> Path:
    assert main(["data", "convert", str(dots), f"store.to={folder}"]) == 0
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_collected_in_parts_and_by_several_the_bytes_are_the_same(tmp_path: Path, kind: str):
    collect(tmp_path / "one", COUNTING, dataclasses.replace(SMALL, workers=1), kind)
    for part in ("2/2", "1/2"):
        collect(tmp_path / "parts", COUNTING, dataclasses.replace(SMALL, shard=part), kind)
    collect(tmp_path / "plain", COUNTING, SMALL)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()
        with h5py.File(path) as packed, h5py.File(tmp_path / "plain" / path.name) as plain:
            assert dict(packed.attrs) == dict(plain.attrs)
            assert {n: c.attrs["crc32"] for n, c in packed.items()} == {
                n: c.attrs["crc32"] for n, c in plain.items()
            }


def test_shards_that_are_there_stay_as_they_are(tmp_path: Path):
    collect(tmp_path, COUNTING, SMALL)
    (tmp_path / "shard-00001.h5").unlink()
    collect(tmp_path, COUNTING, SMALL, "gzip")
    kinds = [type(s.columns["pixels"]) is ThroughHDF5 for s in Store(tmp_path).shards]
    assert kinds == [False, True, False, False]
    assert len(windows(tmp_path).batch(np.arange(40))["pixels"]) == 40


def test_only_frames_are_compressed():
    assert filters("gzip", "action", (2,)) == filters("none", "pixels", (4, 4, 3)) == {}
    assert filters("lzf", "pixels", (4, 4, 3)) == {"chunks": (1, 4, 4, 3), "compression": "lzf"}


def test_what_is_missing_is_named_before_anything_is_written(
    dots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(
        UserError, match=r"store\.compression=blosc: needs hdf5plugin, `pip install hdf5plugin`"
    ):
        collect(tmp_path / "data", COUNTING, SMALL, "blosc")
    assert main(["data", "convert", str(dots), f"store.to={tmp_path}/new", "store.compression=blosc"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_another_name_is_refused():
    with pytest.raises(UserError, match=r"store\.compression=zip: must be one of none, gzip, lzf, blosc"):
        load_config("smoke", ["store.compression=zip"])
