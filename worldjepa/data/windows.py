"""Windows: the sub-trajectories that a model trains on, and which episodes are held out."""

from collections.abc import Iterator

import numpy as np
import torch

from ..errors import UserError
from .order import WHOLE, Part, batches_of
from .shards import Store


def split_episodes(count: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Episodes for training and held-out ones, each sorted; at least one of each.

    Splitting whole episodes keeps neighbours of a held-out frame out of training, which splitting windows
    does not.

    Raises:
        UserError: there are fewer than two episodes.
    """
    if count < 2:
        raise UserError(f"data: {count} episode is too few to hold one out; collect at least 2")
    order = np.random.default_rng(seed).permutation(count)
    number = min(max(1, round(held_out * count)), count - 1)
    return np.sort(order[number:]), np.sort(order[:number])


class Windows:
    """All windows of `frames` frames, `frameskip` environment steps apart, of some episodes.

    Args:
        store: the data.
        episodes: (n,) which episodes.
        frames: T, frames of a window.
        frameskip: k, environment steps from frame to frame; the k actions between form an action block.

    Attributes:
        source: what messages call it. action_dim: A.

    Raises:
        UserError: no episode is long enough, or an action within them is not finite.
    """

    def __init__(self, store: Store, episodes: np.ndarray, frames: int, frameskip: int):
        self.store, self.frames, self.frameskip = store, frames, frameskip
        self.source, self.action_dim = str(store.path), store.action_dim
        span = (frames - 1) * frameskip
        counts = np.maximum(store.lengths[episodes] - span, 0)
        if not counts.sum():
            raise UserError(
                f"{store.path}: a window of {frames} frames, {frameskip} steps apart, "
                f"spans {span + 1} frames; the longest episode has {store.lengths[episodes].max()}; "
                "lower data.context or data.frameskip"
            )
        self.episodes = np.repeat(episodes, counts)
        self.starts = np.concatenate([np.arange(count) for count in counts])

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """Windows by number.

        Returns:
            "pixels" (B, T, H, W, 3) uint8; "action" (B, T-1, k·A) float32, block j the k actions, in order,
            that lead from frame j to frame j+1, in the environment's units.

        Raises:
            UserError: an action is not finite.
        """
        episodes, starts = self.episodes[indices], self.starts[indices]
        steps = starts[:, None] + np.arange(self.frames) * self.frameskip
        pixels = self.store.gather("pixels", episodes, steps)
        span = (self.frames - 1) * self.frameskip
        actions = self.store.gather("action", episodes, starts[:, None] + np.arange(span)).astype(np.float32)
        width = self.frameskip * self.store.action_dim
        return {
            "pixels": torch.from_numpy(pixels),
            "action": torch.from_numpy(actions.reshape(len(indices), self.frames - 1, width)),
        }

    def batches(
        self, batch_size: int, seed: int, first: int = 0, part: Part = WHOLE
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Endless batches, every window once per epoch, in an order drawn from (seed, epoch).

        Args:
            first: number of the batch to start at.
            part: (r, W), of each batch the r-th of W equal parts alone, for data parallelism.

        Returns:
            as of `batch`, with "index" (B,) int64, the samples' numbers.

        Raises:
            UserError: there are fewer windows than one batch takes.
        """
        if len(self) < batch_size:
            raise UserError(
                f"{self.source}: {len(self)} windows are fewer than train.batch_size={batch_size}"
            )
        numbers = batches_of(len(self), batch_size, seed, first, part)
        return ({**self.batch(n), "index": torch.from_numpy(n)} for n in numbers)

    def action_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the actions that lead to a frame, (A,) float32 each.

        Raises:
            UserError: an action there is not finite.
        """
        values = self.actions()
        std = values.std(0)
        return values.mean(0).astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32)

    def actions(self) -> np.ndarray:
        """The actions that lead to a frame, (n, A) float64.

        Raises:
            UserError: one is not finite.
        """
        actions = []
        for episode in np.unique(self.episodes):
            steps = np.arange(self.store.lengths[episode] - 1)[None]
            actions.append(self.store.gather("action", np.array([episode]), steps)[0])
        return np.concatenate(actions).astype(np.float64)
