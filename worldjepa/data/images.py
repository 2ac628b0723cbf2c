"""Images to pretrain on, by number, in batches; `image_sources.py` says where they come from."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from ..errors import UserError

# Images that take no more than this are held in memory, bytes.
HELD_BYTES = 2 << 30


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
        UserError: there are none, or one can't be read.
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
        """Images by number (n,): "pixels" (n, H, W, C) uint8."""
        return {"pixels": torch.from_numpy(np.ascontiguousarray(self._read(indices)))}

    def batches(self, batch_size: int, seed: int, first: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """Endless batches, every image at most once per epoch, in an order drawn from (seed, epoch).

        Args:
            first: number of the batch to start at.

        Raises:
            UserError: there are fewer images than one batch takes.
        """
        if len(self) < batch_size:
            raise UserError(f"{self.source}: {len(self)} images are fewer than train.batch_size={batch_size}")
        return self._endless(batch_size, seed, first)

    def _endless(self, batch_size: int, seed: int, first: int) -> Iterator[dict[str, torch.Tensor]]:
        per_epoch = len(self) // batch_size
        while True:
            epoch, position = divmod(first, per_epoch)
            order = np.random.default_rng((seed, epoch)).permutation(len(self))
            for start in range(position * batch_size, per_epoch * batch_size, batch_size):
                yield self.batch(order[start : start + batch_size])
            first = (epoch + 1) * per_epoch


def from_arrays(
    source: str, pixels: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] = ()
) -> Images:
    """Images that are there: pixels (N, H, W, C) uint8, labels (N,) int64."""
    return Images(source, pixels.__getitem__, len(pixels), labels, classes)
