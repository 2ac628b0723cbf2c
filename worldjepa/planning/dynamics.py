"""What a plan leads to, as an agent sees it: the latent world model's imagination of it."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .costs import Cost

# Candidates rolled out in one batch, which bounds the memory: LeWM's predictor takes 0.4 MB for each.
AT_ONCE = 4096


class WorldModel(Protocol):
    """What planning needs of a world model."""

    context: int
    latent: int

    def encode(self, frames: Tensor) -> Tensor: ...

    def rollout(self, z: Tensor, past: Tensor, actions: Tensor) -> Tensor: ...


class Dynamics(Protocol):
    """Remembers what was seen and done in E episodes, and scores plans from there."""

    def reset(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        """Begin E episodes with these goals.

        Args:
            frames: (E, H, W, 3) uint8, or (E, G, H, W, 3), of whose G frames the nearest counts.
            states: physics states (E, n), where known.
        """

    def observe(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        """What is seen at the end of an action block."""

    def cost(self, plans: Tensor) -> Tensor:
        """Plans (E, S, H, k·A) in the environment's units to costs (E, S)."""

    def acted(self, block: Tensor) -> None:
        """Remember the action block (E, k·A) that is now carried out."""

    def keep(self, mask: np.ndarray) -> None:
        """Forget the episodes where mask (E,) is False."""


class LatentDynamics:
    """Plans are rolled out in latent space; the distance is the mean squared difference to the goal's latent.

    Args:
        model: in evaluation mode, on the device to compute on.
        cost: distances over the horizon to a cost.
        device: the model's.
        metric: W (D, D), symmetric; distances are between W·z. None: between latents as they are.
    """

    def __init__(self, model: WorldModel, cost: Cost, device: torch.device, metric: Tensor | None = None):
        self.model, self._cost, self.device, self.metric = model, cost, device, metric

    def reset(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        goal = self._encode(frames)
        self.goal = self._measured(goal if goal.ndim == 3 else goal[:, None])
        self.seen = goal.new_empty(len(frames), 0, self.model.latent)
        self.past: Tensor | None = None

    def observe(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        # Each frame is encoded once; only what the predictor can see is kept.
        self.seen = torch.cat([self.seen, self._encode(frames)[:, None]], 1)[:, -self.model.context :]

    def cost(self, plans: Tensor) -> Tensor:
        episodes = max(1, AT_ONCE // plans.shape[1])
        parts = [slice(first, first + episodes) for first in range(0, len(plans), episodes)]
        # Gradients only where a solver asks for them.
        with torch.inference_mode(not plans.requires_grad):
            return torch.cat([self._cost(self._distance(plans[part], part)) for part in parts])

    def _distance(self, plans: Tensor, part: slice) -> Tensor:
        """Of the latents that plans (E, S, H, k·A) lead to, in these episodes, (E, S, H)."""
        blocks = self.seen.shape[1] - 1
        past = (
            plans.new_empty(len(plans), 0, plans.shape[-1])
            if self.past is None
            else self.past[part, self.past.shape[1] - blocks :]
        )
        ahead = self._measured(self.model.rollout(self.seen[part], past, plans).float())
        return (ahead[..., None, :] - self.goal[part, None, None]).square().mean(-1).amin(-1)

    def _measured(self, z: Tensor) -> Tensor:
        return z if self.metric is None else z @ self.metric

    def acted(self, block: Tensor) -> None:
        block = block[:, None]
        self.past = block if self.past is None else torch.cat([self.past, block], 1)[:, -self.model.context :]

    def keep(self, mask: np.ndarray) -> None:
        chosen = torch.as_tensor(mask, device=self.device)
        self.goal, self.seen = self.goal[chosen], self.seen[chosen]
        self.past = None if self.past is None else self.past[chosen]

    @torch.no_grad()
    def _encode(self, frames: np.ndarray) -> Tensor:
        return self.model.encode(torch.as_tensor(frames, device=self.device)).float()
