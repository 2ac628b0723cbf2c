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
from ..planning.packed import pack
from ..planning.solvers import DESCENDING
from ..trainer import choose_precision
from ..world_model import WorldModel
from .geometry import whitening
from .probes import embed

METRIC_FRAMES = 5000


def prepare(model: WorldModel, config: Config, device: torch.device) -> torch.dtype:
    """Its predictor as planning is fastest by it, in place: in the precision that comes back, and packed."""
    precision = choose_precision(config.train, device)
    model.predictor.to(precision)
    if config.plan.solver not in DESCENDING:
        pack(model.predictor)
    return precision


def latent_planner(config: Config, store: Store, model: WorldModel, space: gymnasium.spaces.Box) -> Agent:
    """An agent in `space` on the model's device; `store` is what the model was trained on."""
    dynamics = latent_dynamics(config, store, model)
    return build_agent(config.plan, config.data.frameskip, space, dynamics, dynamics.device)


def latent_dynamics(config: Config, store: Store, model: WorldModel) -> LatentDynamics:
    """What that agent imagines with; an episode leaves nothing in it for the next."""
    device = next(model.parameters()).device
    return LatentDynamics(model, COSTS[config.plan.cost], device, _metric(config, store, model))


def _metric(config: Config, store: Store, model: WorldModel) -> Tensor | None:
    """What `plan.distance` asks for: the whitening map of the latents of some training frames."""
    if config.plan.distance == "plain":
        return None
    training, _ = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    frames = Windows(store, training, 1, 1)
    indices = np.random.default_rng(config.plan.seed).permutation(len(frames))[:METRIC_FRAMES]
    z = torch.from_numpy(embed(model, frames, np.sort(indices), "whiten")[:, 0])
    return whitening(z).to(next(model.parameters()).device)
