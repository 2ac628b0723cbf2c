"""Model-predictive control: look, plan, carry out the first action blocks, look again."""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ..config import PlanConfig
from .cem import CEM
from .dynamics import Dynamics


class Agent:
    """Plans to goals with a solver on some dynamics, for E episodes at once.

    Args:
        dynamics: imagination (`LatentDynamics`), or the truth.
        solver: its bounds are those of an action block.
        horizon: H, blocks of a plan.
        frameskip: k, actions of a block.
        replan_every: blocks carried out before planning again, at most `horizon`.
    """

    def __init__(self, dynamics: Dynamics, solver: CEM, horizon: int, frameskip: int, replan_every: int):
        self.dynamics, self.solver = dynamics, solver
        self.horizon, self.frameskip, self.replan_every = horizon, frameskip, replan_every

    def reset(self, frames: np.ndarray, states: np.ndarray | None = None) -> None:
        """Begin E episodes, whose goals are frames (E, H, W, 3) uint8 (and states (E, n), where known)."""
        self.dynamics.reset(frames, states)
        self._plan = self.solver.centre(len(frames), self.horizon)
        self._done = self.replan_every

    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        """The next action block, from what is seen at the end of the last one.

        Args:
            frames: (E, H, W, 3) uint8. states: (E, n), where known.

        Returns:
            (E, k, A) float32, in the environment's units.
        """
        self.dynamics.observe(frames, states)
        if self._done == self.replan_every:
            self._plan = self.solver.solve(self.dynamics.cost, self._plan)
            self._done = 0
        block = self._plan[:, 0]
        # What is left of the plan is where the next one starts.
        self._plan = torch.cat([self._plan[:, 1:], self.solver.centre(len(block), 1)], 1)
        self._done += 1
        self.dynamics.acted(block)
        return self._actions(block)

    def keep(self, mask: np.ndarray) -> None:
        """Go on with the episodes where mask (E,) is True."""
        self.dynamics.keep(mask)
        self._plan = self._plan[torch.as_tensor(mask, device=self._plan.device)]

    def _actions(self, block: Tensor) -> np.ndarray:
        return block.cpu().numpy().reshape(len(block), self.frameskip, -1)


def build_agent(
    plan: PlanConfig, frameskip: int, space: gymnasium.spaces.Box, dynamics: Dynamics, device: torch.device
) -> Agent:
    """The agent that `plan` describes, for actions of `space`, on any dynamics."""
    low, high = (
        torch.as_tensor(np.tile(bound, frameskip), device=device) for bound in (space.low, space.high)
    )
    solver = CEM(low, high, plan.num_samples, plan.num_elites, plan.iterations, plan.initial_std, plan.seed)
    return Agent(dynamics, solver, plan.horizon, frameskip, plan.replan_every)
