"""Reacher as the tests of worldjepa.envs use it: made, driven, closed."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from worldjepa.envs.goal_env import GoalEnv

ID = "worldjepa.envs:worldjepa/Reacher-v0"
TURN = 2 * np.pi


def reacher(**options: Any) -> GoalEnv:
    env = gymnasium.make(ID, **{"image_size": 32, **options}).unwrapped
    assert isinstance(env, GoalEnv)
    return env


def closing(make: Callable[..., GoalEnv]) -> Iterator[Callable[..., GoalEnv]]:
    """`make`; what it made is closed when the iterator goes on."""
    made: list[GoalEnv] = []
    yield lambda **options: made.append(make(**options)) or made[-1]
    for env in made:
        env.close()


def random_actions(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, 2)).astype(np.float32)


def play(env: GoalEnv, actions: np.ndarray, seed: int) -> np.ndarray:
    """Frames of an episode, the first included, (T + 1, H, W, 3)."""
    first, _ = env.reset(seed=seed)
    return np.stack([first, *(env.step(action)[0] for action in actions)])
