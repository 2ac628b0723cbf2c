"""Who acts where `collect.behaviour` is planner: a trained run's planner, from one goal frame to the next."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from ..config import CollectConfig, Config
from ..data.behaviours import Act
from ..data.environments import GOALS, OneHot
from ..data.shards import Store
from ..data.windows import split_episodes
from ..errors import UserError
from ..planning.agent import Agent, build_agent
from ..planning.dynamics import LatentDynamics
from ..run import Run
from .planner import latent_dynamics, prepare


class Trained(NamedTuple):
    """What stays from episode to episode: how the run plans, its model and what that imagines with, the data
    and the episodes that goals are drawn from."""

    config: Config
    model: Any
    dynamics: LatentDynamics
    store: Store
    training: np.ndarray


@functools.cache
def load(checkpoint: str, goals: str) -> Trained:
    """A checkpoint of a run, on one CPU core as a collecting process has it, and the data of its goals.

    Raises:
        UserError: one of them is not there, or damaged.
    """
    path, device = Path(checkpoint), torch.device("cpu")
    target = Run(path.parents[1], path.name)
    config, model, store = target.config, target.load_world_model(device), Store(goals)
    prepare(model, config, device)
    # Of held-out episodes no frame may become one that a model is trained on.
    training, _ = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    return Trained(config, model, latent_dynamics(config, store, model), store, training)


def seek(env: gymnasium.Env, rng: np.random.Generator, options: CollectConfig) -> Act:
    """Who acts in one episode; a `worldjepa.data.behaviours.Policy` that is told the options too.

    Args:
        env: takes a bounded box's actions.
        rng: decides on goals, candidates and noise.
        options: `run`, a checkpoint's folder, `goals`, `nearest` and `noise`.

    Raises:
        UserError: the environment's actions are not the model's; or as of `load`.
    """
    trained, space = load(options.run, options.goals), env.action_space
    if isinstance(env, OneHot):
        raise UserError("collect.behaviour=planner: needs an environment whose actions are a bounded Box")
    assert isinstance(space, Box)
    if not trained.model.takes(space.shape[0]):
        raise UserError(f"collect.run={options.run}: takes no actions of {space.shape[0]} numbers")
    frameskip = trained.config.data.frameskip
    half = torch.from_numpy(options.noise * (space.high - space.low) / 2).repeat(frameskip)
    low, high = (torch.from_numpy(bound).repeat(frameskip) for bound in (space.low, space.high))

    def disturb(block: Tensor) -> Tensor:
        noise = torch.from_numpy(rng.standard_normal(tuple(block.shape), np.float32))
        return (block + half * noise).clamp(low, high)

    # However long it takes: what is drawn must not depend on a clock.
    plan = dataclasses.replace(trained.config.plan, seed=int(rng.integers(1 << 31)), seconds_per_decision=0.0)
    agent = build_agent(plan, frameskip, space, trained.dynamics, torch.device("cpu"), disturb)
    return Seeker(agent, trained, env.unwrapped, rng, options.nearest)


class Seeker:
    """Acts towards a frame of the data; once that is reached, or plan.budget steps are over, the next.

    It is the nearest of `nearest` random ones, by the planner's own distance: most others are too far away
    for a plan of some blocks to lead there.

    That it is reached is seen at any step, and acted on at the end of the action block; where the environment
    says what it means, and the data hold the goal's state.
    """

    def __init__(self, agent: Agent, trained: Trained, env: Any, rng: np.random.Generator, nearest: int):
        self.agent, self.trained, self.env, self.rng, self.nearest = agent, trained, env, rng, nearest
        self.ahead: list[np.ndarray] = []
        self.left, self.reached = 0, False
        self.state: np.ndarray | None = None
        self.judges = trained.store.has("state") and all(hasattr(env, name) for name in GOALS)

    def __call__(self, frame: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """(H, W, 3) uint8 and its info to an action (A,)."""
        self.reached = self.reached or self.is_there(info)
        if not self.ahead:
            if self.left <= 0 or self.reached:
                self.next_goal(frame)
            self.ahead = list(self.agent.act(frame[None])[0])
            self.left -= len(self.ahead)
        return self.ahead.pop(0)

    def next_goal(self, frame: np.ndarray) -> None:
        """Frames are drawn, each training episode and each of its frames as likely as any other."""
        store = self.trained.store
        episodes = self.rng.choice(self.trained.training, self.nearest)
        steps = self.rng.integers(store.lengths[episodes])[:, None]
        frames = store.gather("pixels", episodes, steps)[:, 0]
        number = int(self.distance(frame, frames).argmin())
        episode, step = episodes[number : number + 1], steps[number : number + 1]
        self.agent.reset(frames[number : number + 1])
        self.left, self.reached = self.trained.config.plan.budget, False
        if self.judges:
            self.state = store.gather("state", episode, step)[0, 0]
            if self.state.shape != np.shape(self.env.get_state()):
                raise UserError(f"collect.goals={store.path}: its states are of another environment")

    @torch.inference_mode()
    def distance(self, frame: np.ndarray, frames: np.ndarray) -> Tensor:
        """From a frame (H, W, 3) to each of frames (n, H, W, 3), (n,)."""
        model, metric = self.trained.model, self.trained.dynamics.metric
        here, there = (model.encode(torch.from_numpy(pixels)).float() for pixels in (frame[None], frames))
        away = there - here if metric is None else (there - here) @ metric
        return away.square().mean(-1)

    def is_there(self, info: dict[str, Any]) -> bool:
        """Whether every coordinate is within its tolerance of the goal's."""
        if not self.judges or self.state is None:
            return False
        error = self.env.goal_error(info["qpos"], self.env.qpos_of(self.state))
        return bool((error < self.trained.config.plan.tolerance).all())
