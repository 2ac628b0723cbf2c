"""Images to pretrain on, by number, in batches; `image_sources.py` says where they come from."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from ..errors import UserError
from .order import WHOLE, Part, batches_of

# Images that take no more than this are held in memory, bytes.
HELD_BYTES = 2 << 30
# A model has an output for each class.
MOST_CLASSES = 1_000_000


class Images:
    """Images by number, held in memory where they are few, else read when they are asked for.

    Args:
        source: how messages name them.
        read: image numbers (n,) to pixels (n, H, W, C) uint8, C 1 or 3, all of one size.
        count: N, how many.
        labels: (N,) int64, or None where nobody knows.
        classes: names of the labels.

    Attributes:
        shape: (H, W, C).

    Raises:
        UserError: there are none, one can't be read, or labels are not of them.
    """

    def __init__(
        self,
        source: str,
        read: Callable[[np.ndarray], np.ndarray],
        count: int,
        labels: np.ndarray | None = None,
        classes: tuple[str, ...] = (),
    ):
        if not count:
            raise UserError(f"{source}: no images")
        if labels is not None and len(labels) != count:
            raise UserError(f"{source}: {len(labels)} labels of {count} images")
        if labels is not None and not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
            raise UserError(f"{source}: labels from {labels.min()} to {labels.max()}, not numbers of classes")
        self.source, self.labels, self.classes = source, labels, classes
        self._count, self._read = count, read
        first = read(np.arange(1))
        self.shape = first.shape[1:]
        if first.nbytes * count <= HELD_BYTES:
            pixels = read(np.arange(count))
            self._read = pixels.__getitem__

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """Images by number (n,): "pixels" (n, H, W, C) uint8, and "label" (n,) int64 where there are some."""
        batch = {"pixels": torch.from_numpy(np.ascontiguousarray(self._read(indices)))}
        return batch if self.labels is None else {**batch, "label": torch.from_numpy(self.labels[indices])}

    def part(self, numbers: np.ndarray) -> "Images":
        """Those with these numbers (n,), which are counted from 0 then."""
        labels = None if self.labels is None else self.labels[numbers]
        return Images(self.source, lambda i: self._read(numbers[i]), len(numbers), labels, self.classes)

    @property
    def num_classes(self) -> int:
        """0 where nobody knows."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    @property
    def class_names(self) -> list[str]:
        """One for each class; its number where it has no name."""
        return [self.classes[i] if i < len(self.classes) else str(i) for i in range(self.num_classes)]

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Endless batches, every image at most once per epoch, in an order drawn from (seed, epoch).

        Args:
            first: number of the batch to start at.
            part: (r, W), of each batch the r-th of W equal parts alone, for data parallelism.

        Returns:
            as of `batch`, with "index" (B,) int64, the samples' numbers.

        Raises:
            UserError: there are fewer images than one batch takes.
        """
        if len(self) < batch_size:
            raise UserError(f"{self.source}: {len(self)} images are fewer than train.batch_size={batch_size}")
        numbers = batches_of(len(self), batch_size, seed, first, part)
        return ({**self.batch(n), "index": torch.from_numpy(n)} for n in numbers)


def from_arrays(
    source: str, pixels: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] = ()
) -> Images:
    """Images that are there: pixels (N, H, W, C) uint8, labels (N,) int64."""
    return Images(source, pixels.__getitem__, len(pixels), labels, classes)
