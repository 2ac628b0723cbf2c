"""The table of goal tasks: what dm-control's suite leaves open for planning to goal images.

A new task is one entry of TASKS. This module imports neither mujoco nor dm_control.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


def wrap_angle(angle: np.ndarray) -> np.ndarray:
    """Angles in radians, any shape, to the same angles in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


@dataclass(frozen=True)
class Task:
    """One goal task.

    Attributes:
        domain, name: the task in dm_control's suite.
        camera: the model's camera that the pixels come from.
        circular: for each entry of qpos, whether it is an angle without limits, compared on the circle.
        tolerance: the goal is reached when every entry of qpos is closer to the goal's than this, in radians
            or metres.
        hidden: names of geoms that show the suite's own target; they are made invisible.
        coordinates: qpos (..., nq) to what a picture shows of it, by name, each of shape (...); what probes
            regress.
    """

    domain: str
    name: str
    camera: str
    circular: tuple[bool, ...]
    tolerance: float
    coordinates: Callable[[np.ndarray], dict[str, np.ndarray]]
    hidden: tuple[str, ...] = field(default=())

    def error(self, qpos: np.ndarray, goal: np.ndarray, protocol: str = "circle") -> np.ndarray:
        """Absolute error of each coordinate, in radians or metres.

        Args:
            qpos, goal: (..., nq) float, broadcast against each other.
            protocol: "circle" compares unlimited angles on the circle; "lewm" subtracts plainly, as
                stable-worldmodel's `qpos_match` does, so that a full turn counts as an error of 2 pi.

        Returns:
            (..., nq) float.
        """
        difference = qpos - goal
        if protocol == "circle":
            difference = np.where(np.asarray(self.circular), wrap_angle(difference), difference)
        return np.abs(difference)


def _reacher_coordinates(qpos: np.ndarray) -> dict[str, np.ndarray]:
    return {
        f"{function.__name__} {joint}": function(qpos[..., index])
        for index, joint in enumerate(("shoulder", "wrist"))
        for function in (np.sin, np.cos)
    }


TASKS: dict[str, Task] = {
    "Reacher": Task(
        domain="reacher",
        name="hard",
        camera="fixed",
        circular=(True, True),
        tolerance=0.05,
        coordinates=_reacher_coordinates,
        hidden=("target",),
    ),
}
