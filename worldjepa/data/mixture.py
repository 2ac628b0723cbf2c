"""Windows of several data sets as those of one: in every batch each has its share of all windows."""

from collections.abc import Sequence

import numpy as np
import torch

from .windows import Windows


class Mixture(Windows):
    """All windows of several data sets, one set's after the other's, each once per epoch.

    Which set a window is of is not told. Actions of fewer numbers than the widest are followed by zeros.

    Args:
        parts: of each set, of as many frames as far apart, all of one size.
        action_dim: A, of the widest action.
    """

    def __init__(self, parts: Sequence[Windows], action_dim: int):
        self.parts, self.action_dim = parts, action_dim
        self.frames, self.frameskip = parts[0].frames, parts[0].frameskip
        self.source = ", ".join(part.source for part in parts)
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """Windows by number; as of `Windows.batch`.

        Raises:
            UserError: an action is not finite.
        """
        which = np.searchsorted(self.ends, indices, "right")
        found = []
        for number, part in enumerate(self.parts):
            rows = np.flatnonzero(which == number)
            if len(rows):
                found.append((rows, part.batch(indices[rows] - (self.ends[number] - len(part)))))
        pixels = found[0][1]["pixels"].new_empty(len(indices), *found[0][1]["pixels"].shape[1:])
        action = torch.zeros(len(indices), self.frames - 1, self.frameskip, self.action_dim)
        for rows, batch in found:
            blocks = batch["action"].unflatten(-1, (self.frameskip, -1))
            pixels[rows], action[rows, ..., : blocks.shape[-1]] = batch["pixels"], blocks
        return {"pixels": pixels, "action": action.flatten(-2)}

    def action_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """As of `Windows.action_statistics`, each number's over the sets whose actions have it.

        Raises:
            UserError: an action there is not finite.
        """
        actions = [part.actions() for part in self.parts]
        columns = [
            np.concatenate([a[:, number] for a in actions if a.shape[1] > number])
            for number in range(self.action_dim)
        ]
        std = np.array([column.std() for column in columns], np.float32)
        mean = np.array([column.mean() for column in columns], np.float32)
        return mean, np.where(std > 1e-6, std, np.float32(1))


def together(parts: Sequence[Windows], action_dim: int) -> Windows:
    """Windows of one data set as they are, of several as a mixture with actions of `action_dim` numbers."""
    if len(parts) == 1 and parts[0].action_dim == action_dim:
        return parts[0]
    return Mixture(parts, action_dim)
