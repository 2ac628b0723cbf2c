"""Images: data sets on disk, folders of any kind and what is wrong with them, frames of rollouts."""

import gzip
import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from worldjepa.data import image_sources, images
from worldjepa.data.image_sources import load_images
from worldjepa.data.images import Images, from_arrays
from worldjepa.data.shards import Store
from worldjepa.errors import UserError


def write(path: Path, level: int, width: int = 12, height: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (level, 0, 255 - level)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten images each; the red of each says which it is."""
    for i in range(20):
        write(tmp_path / "set" / ("cats" if i < 10 else "dogs") / f"{i:02d}.png", 10 * i)
    return tmp_path / "set"


def levels(found: Images) -> np.ndarray:
    return found.batch(np.arange(len(found)))["pixels"][:, 0, 0, 0].numpy()


def test_a_folder_of_classes_is_split_and_labelled(folder: Path) -> None:
    train, test = load_images(str(folder), held_out=0.2)
    assert (len(train), len(test)) == (16, 4)
    assert train.classes == test.classes == ("cats", "dogs")
    assert train.shape == (12, 12, 3)
    for side in (train, test):
        np.testing.assert_array_equal(side.labels, levels(side) >= 100)
    assert sorted([*levels(train), *levels(test)]) == [10 * i for i in range(20)]
    again, _ = load_images(str(folder), held_out=0.2, split_seed=1)
    assert list(levels(again)) != list(levels(train))


def test_a_folders_own_split_is_taken(tmp_path: Path) -> None:
    for i, place in enumerate(("train/a", "train/b", "val/a", "val/b")):
        write(tmp_path / place / "deeper" / "picture.JPEG", 60 * i)
    train, test = load_images(str(tmp_path))
    assert (len(train), len(test)) == (2, 2)
    assert list(train.labels) == list(test.labels) == [0, 1]
    (tmp_path / "val").rename(tmp_path.parent / "val")
    alone, _ = load_images(str(tmp_path), held_out=0.5)
    assert alone.classes == ("a", "b")
    (tmp_path.parent / "val").rename(tmp_path / "val")
    (tmp_path / "val" / "b").rename(tmp_path / "val" / "c")
    with pytest.raises(UserError, match=r"val: its classes \(subfolders\) are not those of .*train"):
        load_images(str(tmp_path))


def test_images_side_by_side_have_no_labels(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.png", i)
    (tmp_path / "notes.txt").write_text("not a picture")
    train, test = load_images(str(tmp_path), held_out=0.25)
    assert (len(train), len(test)) == (3, 1)
    assert train.labels is None
    assert test.labels is None


def test_images_are_brought_to_one_size(tmp_path: Path) -> None:
    for i, (width, height) in enumerate([(12, 12), (40, 20), (20, 40), (33, 7)]):
        write(tmp_path / f"{i}.png", 50 * i, width, height)
    with pytest.raises(UserError, match=r"of different sizes \(\d+ × \d+ and \d+ × \d+\); set images\.size"):
        load_images(str(tmp_path))
    train, test = load_images(str(tmp_path), size=12)
    assert train.shape == test.shape == (12, 12, 3)
    assert sorted([*levels(train), *levels(test)]) == [0, 50, 100, 150]


def test_the_middle_is_kept() -> None:
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 200
    assert (image_sources.to_array(Image.fromarray(picture), 10) == 200).all()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n cut short"])
def test_a_broken_image_is_named(folder: Path, content: bytes) -> None:
    broken = folder / "dogs" / "13.png"
    broken.write_bytes(content)
    with pytest.raises(UserError) as raised:
        load_images(str(folder))
    assert str(raised.value).startswith(f"{broken}: not an image that can be read (")
    assert "\n" not in str(raised.value)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0 images \(.*\.png.*\) are too few; give at least 2"):
        load_images(str(tmp_path))
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match=r": no images$"):
        load_images(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("CIFAR11", "images.data=CIFAR11: neither digits, a class of torchvision.datasets, a data set in"),
        ("no/such/folder", "neither digits, a class of torchvision.datasets, a data set in"),
        ("CIFAR10", "images.data=CIFAR10: not in images.root="),
        ("Imagenette", "images.data=Imagenette: not in images.root="),
        ("VOCDetection", "images.data=VOCDetection: has no split for training and test"),
    ],
)
def test_a_data_set_that_is_not_there_is_named(tmp_path: Path, name: str, right: str) -> None:
    with pytest.raises(UserError) as raised:
        load_images(name, str(tmp_path))
    assert right in str(raised.value)
    assert "\n" not in str(raised.value)


def test_digits_are_scikit_learns() -> None:
    train, test = load_images("digits")
    pixels, labels = load_digits(return_X_y=True)
    assert (len(train), len(test)) == (1617, 180)
    assert train.shape == (8, 8, 1)
    total = levels_of(train) + levels_of(test)
    assert total == pytest.approx(pixels.sum() * 255 / 16, rel=1e-2)
    np.testing.assert_array_equal(np.bincount([*train.labels, *test.labels]), np.bincount(labels))


def levels_of(found: Images) -> float:
    return float(found.batch(np.arange(len(found)))["pixels"].double().sum())


def test_fashion_mnist_is_read_from_debians_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 7), ("t10k", 3)):
        arrays[split] = (
            rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            np.arange(count, dtype=np.uint8),
        )
        for name, array in zip(("images", "labels"), arrays[split], strict=True):
            header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
            path = tmp_path / f"{split}-{name}-idx{array.ndim}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes()))
    monkeypatch.setattr(image_sources, "FASHION_MNIST", tmp_path)
    for found, (pixels, labels) in zip(load_images("FashionMNIST"), arrays.values(), strict=True):
        np.testing.assert_array_equal(found.batch(np.arange(len(found)))["pixels"][..., 0], pixels)
        np.testing.assert_array_equal(found.labels, labels)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz: can't be read"):
        load_images("FashionMNIST")


def test_torchvisions_data_sets_are_read_by_name(tmp_path: Path) -> None:
    for split, names in (("train", "ab"), ("val", "a")):
        for name in names:
            write(tmp_path / "eurosat" / "2750" / name / f"{split}.jpg", 100, 30, 20)
    with pytest.raises(UserError, match="EuroSAT: has no split"):
        load_images("EuroSAT", str(tmp_path), size=8)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 5), ("t10k", 2)):
        for name, shape in (("images", (count, 28, 28)), ("labels", (count,))):
            array = np.full(shape, count, np.uint8)
            header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
            (raw / f"{split}-{name}-idx{array.ndim}-ubyte").write_bytes(header + array.tobytes())
    train, test = load_images("MNIST", str(tmp_path), size=14)
    assert (len(train), len(test), train.shape) == (5, 2, (14, 14, 3))
    assert list(test.labels) == [2, 2]
    assert (levels(train) == 5).all()


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        ([2, 0], [2, 0]),
        (torch.tensor([1, 0]), [1, 0]),
        (["a.txt", "b.txt"], None),
        ([0.25, 0.5], None),
        ([[0, 1], [1, 1]], None),
        ([{"box": 1}, {"box": 2}], None),
        ([[0], [1, 2]], None),
        ([None, None], None),
    ],
)
def test_labels_that_are_no_classes_are_none(
    labels: Any, right: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As boxes (Kitti) and attributes (CelebA) are."""

    class Theirs(list[Any]):
        def __init__(self, root: str, train: bool):
            super().__init__([(Image.new("RGB", (4, 4)), None)] * 2)
            self.targets = labels

    monkeypatch.setattr("torchvision.datasets.MNIST", Theirs)
    images, _ = load_images("MNIST", str(tmp_path))
    assert (None if images.labels is None else images.labels.tolist()) == right


def test_frames_of_rollouts_are_images_without_labels(tiny_data: Path) -> None:
    store = Store(tiny_data)
    train, test = load_images(str(tiny_data), held_out=0.34)
    assert (len(train), len(test)) == (4 * 60, 2 * 60)
    assert train.shape == store.image_shape
    assert train.labels is None
    episodes = images_of(train).reshape(4, 60, *store.image_shape)
    everything = store.gather("pixels", np.arange(6), np.tile(np.arange(60), (6, 1)))
    assert sum(any((episode == e).all() for e in everything) for episode in episodes) == 4


def images_of(found: Images) -> np.ndarray:
    return found.batch(np.arange(len(found)))["pixels"].numpy()


def test_large_sets_are_read_when_they_are_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, _ = load_images(str(folder))
    monkeypatch.setattr(images, "HELD_BYTES", 100)
    read, _ = load_images(str(folder))
    (folder / "cats" / "03.png").unlink()
    (folder / "dogs" / "13.png").unlink()
    assert len(images_of(held)) == 18
    with pytest.raises(UserError, match=r"(03|13)\.png: not an image that can be read"):
        images_of(read)


def test_every_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    data = from_arrays("these", np.arange(21, dtype=np.uint8)[:, None, None, None])
    shown = [batch["pixels"].flatten().tolist() for batch in itertools.islice(data.batches(5, 0), 12)]
    epochs = [list(itertools.chain(*shown[i : i + 4])) for i in range(0, 12, 4)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    for first in range(12):
        assert next(data.batches(5, 0, first))["pixels"].flatten().tolist() == shown[first]
    assert next(data.batches(5, 1))["pixels"].flatten().tolist() != shown[0]


def test_fewer_images_than_a_batch_are_refused() -> None:
    data = from_arrays("these", np.zeros((3, 4, 4, 1), np.uint8))
    with pytest.raises(UserError, match=r"these: 3 images are fewer than train\.batch_size=4"):
        data.batches(4, 0)
