"""dm-control tasks as Gymnasium environments: pixels, states that can be set, goals.

Importing this package registers the ids below and nothing more: mujoco is imported when an environment is
built, after the OpenGL back end is chosen. From elsewhere,
`gymnasium.make("worldjepa.envs:worldjepa/Reacher-v0")` does both.
"""

import gymnasium

from .tasks import TASKS

for _name, _task in TASKS.items():
    gymnasium.register(
        id=f"worldjepa/{_name}-v0",
        entry_point=f"worldjepa.envs.{'goal_env:GoalEnv' if _task.has_goals else 'pixel_env:PixelEnv'}",
        kwargs={"task": _name},
        max_episode_steps=1000,
    )
