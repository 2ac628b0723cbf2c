"""The tasks that have a success rule: a goal is a physics state and its image."""

from typing import Any

import numpy as np

from .pixel_env import PixelEnv
from .tasks import table


class GoalEnv(PixelEnv):
    """A `PixelEnv` whose episodes may have a goal, which is another physics state and its picture.

    Info with a goal: beside what `PixelEnv` tells, `error` (C,), of each coordinate of the table, in radians
    or metres, `success` (bool) and `goal_pixels`, the picture of the goal at rest.

    Reward: 1 at a step that reaches the goal, else 0; without a goal always 0.
    Starting state: the suite's own random one, or options["state"]; options["goal"] gives a goal.
    Termination: the goal is reached. Truncation: Gymnasium's time limit, 1000 steps as registered.

    With `protocol="lewm"` no angle is compared on the circle, as LeWorldModel's evaluation of reacher does.
    """

    reset_options = ("state", "goal")

    def __init__(self, task: str, **options: Any):
        super().__init__(task, **options)
        self._goal_qpos: np.ndarray | None = None
        self._goal_pixels: np.ndarray | None = None

    @property
    def error_names(self) -> tuple[str, ...]:
        """What the entries of the info's `error` are, and their units: ("shoulder [rad]", ...)."""
        return tuple(f"{c.joint} [{c.unit}]" for c in self.task.coordinates)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: as Gymnasium defines it.
            options: "state", a whole physics state (n,) to start from; "goal", another to reach. Without
                "goal" the episode has none.
        """
        frame, info = super().reset(seed=seed, options=options)
        self.set_goal((options or {}).get("goal"))
        return frame, info | self._goal_info(info["qpos"])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step under `action` (A,), clipped to the action space."""
        frame, _, _, _, info = super().step(action)
        info |= self._goal_info(info["qpos"])
        success = info.get("success", False)
        return frame, float(success), success, False, info

    def set_goal(self, goal: np.ndarray | None, draw: bool = True) -> np.ndarray | None:
        """Make the state `goal` (n,) this episode's goal, or take the goal away; the present state is kept.

        Args:
            goal: a whole physics state, or None.
            draw: whether to draw the goal's picture; without, `goal_pixels` is missing from the info.

        Returns:
            The goal's image (image_size, image_size, 3) uint8, or None.
        """
        self._goal_pixels = None
        self._goal_qpos = None if goal is None else self.qpos_of(np.asarray(goal, np.float64))
        if goal is not None and draw:
            present = self.get_state()
            self.set_state(goal)
            self._goal_pixels = self._camera(self._data)
            self.set_state(present)
        return self._goal_pixels

    def goal_error(self, qpos: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Error of qpos (..., nq) against a goal's qpos, per coordinate (..., C), in tolerances."""
        return self._error(qpos, goal) / self.task.tolerance

    def _error(self, qpos: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return self.task.error(qpos[..., self._places], goal[..., self._places], self.protocol)

    def _goal_info(self, qpos: np.ndarray) -> dict[str, Any]:
        if self._goal_qpos is None:
            return {}
        error = self._error(qpos, self._goal_qpos)
        info: dict[str, Any] = {"error": error, "success": bool((error < self.task.tolerance).all())}
        if self._goal_pixels is not None:
            info["goal_pixels"] = self._goal_pixels
        return info


GoalEnv.__doc__ = f"{GoalEnv.__doc__}\n{table()}\n"
