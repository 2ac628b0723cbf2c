"""Goal-image tasks of dm-control as Gymnasium environments.

Importing this package registers the ids below and nothing more: mujoco is imported when an environment is
built, after the OpenGL back end is chosen. From elsewhere,
`gymnasium.make("worldjepa.envs:worldjepa/Reacher-v0")` does both.
"""

import gymnasium

from .tasks import TASKS

for _name in TASKS:
    gymnasium.register(
        id=f"worldjepa/{_name}-v0",
        entry_point="worldjepa.envs.pixel_env:PixelEnv",
        kwargs={"task": _name},
        max_episode_steps=1000,
    )
