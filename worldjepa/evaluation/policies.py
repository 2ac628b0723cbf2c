"""What a planner is compared with: random actions below, the same solver on the true dynamics above."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..planning.costs import Cost


class RandomPolicy:
    """Independent, uniform actions: the floor.

    Args:
        low, high: (A,) bounds of an action.
        frameskip: k, actions of a block.
        seed: of its own generator.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, frameskip: int, seed: int):
        self.low, self.high, self.frameskip = low, high, frameskip
        self.rng = np.random.default_rng(seed)

    def reset(self, frames: np.ndarray, states: np.ndarray | None = None) -> None:
        pass

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        """(E, k, A) actions, whatever is seen."""
        return self.rng.uniform(self.low, self.high, (len(frames), self.frameskip, len(self.low)))

    def keep(self, mask: np.ndarray) -> None:
        pass


class TrueDynamics:
    """The simulator itself as an agent's dynamics, with the distance in physical coordinates: the bound.

    A `worldjepa.planning.dynamics.Dynamics`: what it sees are physics states, what it imagines comes true.

    Args:
        env: offers `simulate`, `qpos_of` and `goal_error` (`worldjepa.envs.goal_env.GoalEnv`).
        cost: distances over the horizon to a cost; the distance is the sum of squared errors, in tolerances.
        frameskip: k, actions of a block.
    """

    def __init__(self, env: Any, cost: Cost, frameskip: int):
        self.env, self._cost, self.frameskip = env, cost, frameskip
        self.threads = torch.get_num_threads()

    def reset(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        assert states is not None, "the true dynamics need physics states"
        self.goal = self.env.qpos_of(states)

    def observe(self, frames: np.ndarray, states: np.ndarray | None) -> None:
        self.states = states

    def cost(self, plans: Tensor) -> Tensor:
        assert self.states is not None
        episodes, samples, horizon, _ = plans.shape
        actions = plans.reshape(episodes * samples, horizon * self.frameskip, -1).double().cpu().numpy()
        qpos = self.env.simulate(np.repeat(self.states, samples, 0), actions, self.threads)
        qpos = qpos[:, self.frameskip - 1 :: self.frameskip].reshape(episodes, samples, horizon, -1)
        distance = np.square(self.env.goal_error(qpos, self.goal[:, None, None])).sum(-1)
        return self._cost(torch.as_tensor(distance, dtype=plans.dtype, device=plans.device))

    def acted(self, block: Tensor) -> None:
        pass

    def keep(self, mask: np.ndarray) -> None:
        self.goal = self.goal[mask]
