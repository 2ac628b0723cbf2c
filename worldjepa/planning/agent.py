"""Model-predictive control: look, plan, carry out the first action blocks, look again."""

import time
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ..config import PlanConfig
from .costs import ActionCost
from .dynamics import Dynamics
from .solver import Solver
from .solvers import build_solver


class Agent:
    """Plans to goals with a solver on some dynamics, for E episodes at once.

    It needs no environment: whatever gives a frame at the end of each action block can be controlled.

    Args:
        dynamics: imagination (`LatentDynamics`), or the truth.
        solver: its bounds are those of an action block.
        horizon: H, blocks of a plan.
        frameskip: k, actions of a block.
        replan_every: blocks carried out before planning again, at most `horizon`.
        action_cost: added to the dynamics' cost of a plan.
        seconds: for a decision, what is seen included; the solver's first iteration is always carried out.
            0: as long as it takes.
        disturb: of action blocks (E, k·A) those that are carried out in their place.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        solver: Solver,
        horizon: int,
        frameskip: int,
        replan_every: int,
        action_cost: ActionCost | None = None,
        seconds: float = 0.0,
        disturb: Callable[[Tensor], Tensor] | None = None,
    ):
        self.dynamics, self.solver = dynamics, solver
        self.horizon, self.frameskip, self.replan_every = horizon, frameskip, replan_every
        self.action_cost, self.seconds, self.disturb = action_cost, seconds, disturb

    # Outside inference mode, whose tensors have no gradients, whatever the caller is in.
    @torch.inference_mode(False)
    def reset(self, frames: np.ndarray, states: np.ndarray | None = None) -> None:
        """Begin E episodes.

        Args:
            frames: their goals, (E, H, W, 3) uint8; or (E, G, H, W, 3), of whose G frames the nearest counts.
            states: the goals' physics states (E, n), where known.
        """
        self.dynamics.reset(frames, states)
        self.solver.reset()
        self._plan = self.solver.centre(len(frames), self.horizon)
        # Before the first action there was rest.
        self._before = torch.zeros_like(self._actions(self._plan[:, 0])[:, -1])
        self._done = self.replan_every

    @torch.inference_mode(False)
    def act(self, frames: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        """The next action block, from what is seen at the end of the last one.

        Args:
            frames: (E, H, W, 3) uint8. states: (E, n), where known.

        Returns:
            (E, k, A) float32, in the environment's units.
        """
        deadline = time.perf_counter() + self.seconds if self.seconds else None
        self.dynamics.observe(frames, states)
        if self._done == self.replan_every:
            self._plan = self.solver.solve(self._cost, self._plan, deadline)
            self._done = 0
        block = self.disturb(self._plan[:, 0]) if self.disturb else self._plan[:, 0]
        actions = self._actions(block)
        # What is left of the plan is where the next one starts.
        self._plan, self._before = self.solver.shifted(self._plan), actions[:, -1]
        self._done += 1
        self.solver.advance()
        self.dynamics.acted(block)
        return actions.cpu().numpy()

    def keep(self, mask: np.ndarray) -> None:
        """Go on with the episodes where mask (E,) is True."""
        self.dynamics.keep(mask)
        self.solver.keep(mask)
        chosen = torch.as_tensor(mask, device=self._plan.device)
        self._plan, self._before = self._plan[chosen], self._before[chosen]

    def _cost(self, plans: Tensor) -> Tensor:
        cost = self.dynamics.cost(plans)
        return cost + self.action_cost(plans, self._before) if self.action_cost else cost

    def _actions(self, block: Tensor) -> Tensor:
        return block.unflatten(-1, (self.frameskip, -1))


def build_agent(
    plan: PlanConfig,
    frameskip: int,
    space: gymnasium.spaces.Box,
    dynamics: Dynamics,
    device: torch.device,
    disturb: Callable[[Tensor], Tensor] | None = None,
) -> Agent:
    """The agent that `plan` describes, for actions of `space`, on any dynamics."""
    low, high = (torch.as_tensor(bound, device=device) for bound in (space.low, space.high))
    solver = build_solver(plan, low.repeat(frameskip), high.repeat(frameskip), frameskip)
    action_cost = (
        ActionCost(low, high, plan.action_cost, plan.smoothness_cost)
        if plan.action_cost or plan.smoothness_cost
        else None
    )
    seconds = plan.seconds_per_decision
    every = plan.replan_every
    return Agent(dynamics, solver, plan.horizon, frameskip, every, action_cost, seconds, disturb)
