"""Where images come from: data sets that are on disk, any folder, frames of rollouts."""

import gzip
import inspect
import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .hugging_face import Encoded, cached, encoded_parts, holds_tables
from .images import Images, from_arrays
from .pictures import DAMAGED_PICTURE, opened
from .shards import Store
from .windows import split_episodes

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
# What packed files raise beside OSError.
BAD_ARCHIVE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, UnpicklingError)
# Debian's package dataset-fashion-mnist.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def load_images(
    data: str, root: str = "data", size: int = 0, held_out: float = 0.1, split_seed: int = 0
) -> tuple[Images, Images]:
    """Training images and held-out ones: the data set's own split where it has one, else drawn.

    Args:
        data: digits, a class of torchvision.datasets, OWNER/NAME in Hugging Face's cache, a folder of images
            or of Hugging Face's files, or rollouts.
        root: folder of torchvision's data sets.
        size: side that images are brought to (the shorter side resized, the middle cut out), pixels; 0: as
            they are, which must be all of one size. Arrays and rollouts stay as they are.
        held_out, split_seed: share of the images, or of the episodes, where there is no split.

    Raises:
        UserError: nothing is there, an image is damaged, or sizes differ.
    """
    path = Path(data)
    if data == "digits":
        return _digits(held_out, split_seed)
    if path.suffix == ".h5" or any(path.glob("shard-*.h5")):
        return _rollouts(Store(path), held_out, split_seed)
    if path.is_dir() and not holds_tables(path):
        return _folder(path, size, held_out, split_seed)
    folder = path if path.is_dir() else cached(data)
    if folder is not None:
        return _hugging_face(folder, size, held_out, split_seed)
    if data == "FashionMNIST" and FASHION_MNIST.is_dir():
        return _idx(FASHION_MNIST, data, "train"), _idx(FASHION_MNIST, data, "t10k")
    return _torchvision(data, root, size)


def _digits(held_out: float, seed: int) -> tuple[Images, Images]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    array = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    names = tuple(str(digit) for digit in range(10))
    train, test = (
        from_arrays("digits", array[part], labels[part].astype(np.int64), names)
        for part in split_episodes(len(array), held_out, seed)
    )
    return train, test


def _idx(folder: Path, source: str, split: str) -> Images:
    """MNIST's files, gzipped: a magic number, the shape, then bytes."""

    def array(name: str, axes: int) -> np.ndarray:
        path = folder / f"{split}-{name}-idx{axes}-ubyte.gz"
        try:
            raw = gzip.decompress(path.read_bytes())
            shape = np.frombuffer(raw, ">u4", axes, 4).astype(np.int64)
            return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
        except (OSError, ValueError, MemoryError, *BAD_ARCHIVE) as error:
            raise UserError(f"{path}: can't be read ({error}); install dataset-fashion-mnist anew") from None

    names = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
    )  # fmt: skip
    return from_arrays(source, array("images", 3)[..., None], array("labels", 1).astype(np.int64), names)


def _rollouts(store: Store, held_out: float, seed: int) -> tuple[Images, Images]:
    def frames_of(episodes: np.ndarray) -> Images:
        lengths = store.lengths[episodes]
        episode = np.repeat(episodes, lengths)
        step = np.concatenate([np.arange(length) for length in lengths])

        def read(indices: np.ndarray) -> np.ndarray:
            return store.gather("pixels", episode[indices], step[indices][:, None])[:, 0]

        return Images(str(store.path), read, len(step))

    training, others = split_episodes(len(store.lengths), held_out, seed)
    return frames_of(training), frames_of(others)


def _folder(path: Path, size: int, held_out: float, seed: int) -> tuple[Images, Images]:
    """`train` and `val` or `test` within it are its split, otherwise it is drawn."""
    test = next((path / name for name in ("val", "test") if (path / name).is_dir()), None)
    if (path / "train").is_dir() and test is not None:
        files, labels, classes = _labelled_files(path / "train")
        others, other_labels, other_classes = _labelled_files(test)
        if classes != other_classes:
            raise UserError(f"{test}: its classes (subfolders) are not those of {path / 'train'}")
        return (
            _from_files(str(path), files, size, labels, classes),
            _from_files(str(test), others, size, other_labels, classes),
        )
    # A split that is not whole is none: `train` alone would be the only class.
    files, labels, classes = _labelled_files(path)
    if classes == ("train",):
        files, labels, classes = _labelled_files(path / "train")
    if len(files) < 2:
        raise UserError(f"{path}: {len(files)} images ({', '.join(SUFFIXES)}) are too few; give at least 2")
    parts = split_episodes(len(files), held_out, seed)
    train, rest = (
        _from_files(
            str(path), [files[i] for i in part], size, None if labels is None else labels[part], classes
        )
        for part in parts
    )
    return train, rest


def _labelled_files(folder: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...]]:
    """Images below a folder; the subfolder that one lies in is its class. No subfolders: no labels."""
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [
        (file, label)
        for label, sub in enumerate(subfolders or [folder])
        for file in sorted(sub.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    labels = np.array([label for _, label in found], np.int64) if subfolders else None
    return [file for file, _ in found], labels, tuple(sub.name for sub in subfolders)


def _from_files(
    source: str, files: list[Path], size: int, labels: np.ndarray | None, classes: tuple[str, ...]
) -> Images:
    def read(indices: np.ndarray) -> np.ndarray:
        return _stack([(str(files[i]), _decode(str(files[i]), files[i], size)) for i in indices])

    return Images(source, read, len(files), labels, classes)


def _hugging_face(folder: Path, size: int, held_out: float, seed: int) -> tuple[Images, Images]:
    train, test = encoded_parts(folder)
    if test is not None:
        first, second = (_from_encoded(part, np.arange(part.rows), size) for part in (train, test))
        return first, second
    kept, others = (_from_encoded(train, part, size) for part in split_episodes(train.rows, held_out, seed))
    return kept, others


def _from_encoded(pictures: Encoded, numbers: np.ndarray, size: int) -> Images:
    def read(indices: np.ndarray) -> np.ndarray:
        named = [(f"{pictures.source}, row {i}", pictures.read(int(i))) for i in numbers[indices]]
        return _stack([(name, _decode(name, io.BytesIO(data), size)) for name, data in named])

    labels = None if pictures.labels is None else pictures.labels[numbers]
    return Images(pictures.source, read, len(numbers), labels, pictures.classes)


def _decode(name: str, file: Path | io.BytesIO, size: int) -> np.ndarray:
    try:
        with opened(file) as image:
            return to_array(image, size)
    except DAMAGED_PICTURE as error:
        # Of a picture in memory PIL tells its address, which is nobody's business.
        reason = " ".join(str(error).partition("<")[0].split())[:100]
        raise UserError(f"{name}: not an image that can be read ({reason}); remove it") from None


def to_array(image: Image.Image, size: int) -> np.ndarray:
    """(H, W, 3) uint8; the shorter side is brought to `size` and the middle cut out, unless it is 0."""
    image = image.convert("RGB")
    if size and image.size != (size, size):
        width, height = image.size
        factor = size / min(width, height)
        image = image.resize(
            (max(size, round(width * factor)), max(size, round(height * factor))), Image.Resampling.BILINEAR
        )
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def _stack(named: list[tuple[str, np.ndarray]]) -> np.ndarray:
    first, shape = named[0][0], named[0][1].shape
    for name, array in named:
        if array.shape != shape:
            sizes = " and ".join(f"{a.shape[0]} × {a.shape[1]}" for a in (named[0][1], array))
            raise UserError(f"{name} and {first}: of different sizes ({sizes}); set images.size")
    return np.stack([array for _, array in named])


def _torchvision(name: str, root: str, size: int) -> tuple[Images, Images]:
    import torchvision.datasets as datasets

    kind: Any = getattr(datasets, name, None)
    if not inspect.isclass(kind) or name not in datasets.__all__:
        raise UserError(
            f"images.data={name}: neither digits, a class of torchvision.datasets, a data set in Hugging "
            "Face's cache, nor a folder of images or rollouts"
        )
    taken = inspect.signature(kind).parameters
    splits: list[dict[str, Any]] = [{"train": True}, {"train": False}]
    if "train" not in taken:
        if "split" not in taken:
            raise UserError(f"images.data={name}: has no split for training and test")
        splits = [{"split": "train"}, {"split": "val" if name in ("Imagenette", "ImageNet") else "test"}]
    try:
        train, test = (kind(root, **split) for split in splits)  # type: ignore[call-arg]
    except (AssertionError, *DAMAGED_PICTURE, *BAD_ARCHIVE) as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"images.data={name}: not in images.root={root}, or damaged ({reason})") from None
    return _from_items(name, train, size), _from_items(name, test, size)


def _item(name: str, items: Any, index: int, size: int) -> np.ndarray:
    try:
        return to_array(items[index][0], size)
    except DAMAGED_PICTURE as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"images.data={name}: image {index} can't be read ({reason})") from None


def _from_items(name: str, items: Any, size: int) -> Images:
    """A torchvision data set, whose items are pairs of a picture and a label."""

    def read(indices: np.ndarray) -> np.ndarray:
        return _stack([(f"{name} {i}", _item(name, items, int(i), size)) for i in indices])

    labels = next((getattr(items, a) for a in ("targets", "labels", "_labels") if hasattr(items, a)), None)
    if labels is None:
        labels = [items[i][1] for i in range(len(items))]
    classes = tuple(str(c) for c in getattr(items, "classes", ()))
    return Images(name, read, len(items), _class_numbers(labels), classes)


def _class_numbers(labels: Any) -> np.ndarray | None:
    """(N,) int64; none where labels are something else, as boxes, attributes or names of files are."""
    try:
        numbers = np.asarray(labels)
    except (TypeError, ValueError):
        return None
    return numbers.astype(np.int64) if numbers.ndim == 1 and numbers.dtype.kind in "iub" else None
