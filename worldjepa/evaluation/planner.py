"""The planner that a configuration describes, on a trained world model."""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ..config import Config
from ..data.shards import Store
from ..data.windows import Windows, split_episodes
from ..planning.agent import Agent, build_agent
from ..planning.costs import COSTS
from ..planning.dynamics import LatentDynamics
from ..world_model import WorldModel
from .geometry import whitening
from .probes import embed

METRIC_FRAMES = 5000


def latent_planner(config: Config, store: Store, model: WorldModel, space: gymnasium.spaces.Box) -> Agent:
    """An agent in `space` on the model's device; `store` is what the model was trained on."""
    device = next(model.parameters()).device
    dynamics = LatentDynamics(model, COSTS[config.plan.cost], device, _metric(config, store, model))
    return build_agent(config.plan, config.data.frameskip, space, dynamics, device)


def _metric(config: Config, store: Store, model: WorldModel) -> Tensor | None:
    """What `plan.distance` asks for: the whitening map of the latents of some training frames."""
    if config.plan.distance == "plain":
        return None
    training, _ = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    frames = Windows(store, training, 1, 1)
    indices = np.random.default_rng(config.plan.seed).permutation(len(frames))[:METRIC_FRAMES]
    z = torch.from_numpy(embed(model, frames, np.sort(indices), "whiten")[:, 0])
    return whitening(z).to(next(model.parameters()).device)
