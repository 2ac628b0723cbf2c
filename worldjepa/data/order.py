"""The order in which samples are trained on: drawn from (seed, epoch), the same on any number of ranks."""

from collections.abc import Iterator

import numpy as np

# Which rank's rows of every batch, and of how many ranks.
Part = tuple[int, int]
WHOLE: Part = (0, 1)


def batches_of(
    count: int, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
) -> Iterator[np.ndarray]:
    """Endless batches of sample numbers below `count`, each number at most once per epoch.

    Args:
        batch_size: of the whole batch, over all ranks; at most `count`, a multiple of their number.
        first: number of the batch to start at.
        part: (r, W): rows r·B/W to (r+1)·B/W of each batch.

    Returns:
        (B/W,) int64 each.
    """
    per_epoch = count // batch_size
    mine = rows(batch_size, part)
    while True:
        epoch, position = divmod(first, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for start in range(position * batch_size, per_epoch * batch_size, batch_size):
            yield order[start : start + batch_size][mine]
        first = (epoch + 1) * per_epoch


def rows(batch_size: int, part: Part) -> slice:
    """The rows of a whole batch that are a rank's part, in order of ranks."""
    rank, ranks = part
    return slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)
