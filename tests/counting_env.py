"""An environment whose frame tells its whole past: `gymnasium.make("counting_env:Counting-v0")`.

Two counts grow by the two parts of the action and lose a tenth at each step, so that neither the order of the
actions nor that of their parts can be mistaken. The frame holds the counts' float64 bytes: equality is exact.
"""

import os
import signal
from typing import Any

import gymnasium
import numpy as np

ENDS_ABOVE = 2.0
LOW, HIGH = np.array([-1, 0], np.float32), np.array([1, 3], np.float32)


def advance(count: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Counts (2,) float64 and an action (2,) to the next counts."""
    return 0.9 * count + action


def draw(count: np.ndarray) -> np.ndarray:
    """Counts (2,) float64 to their frame (4, 4, 3) uint8."""
    frame = np.zeros(48, np.uint8)
    frame[:16] = np.frombuffer(count.tobytes(), np.uint8)
    return frame.reshape(4, 4, 3)


def read(frames: np.ndarray) -> np.ndarray:
    """Frames (..., 4, 4, 3) uint8 to their counts (..., 2) float64."""
    data = np.ascontiguousarray(frames.reshape(*frames.shape[:-3], 48)[..., :16])
    return data.view(np.float64)


class Counting(gymnasium.Env):
    """The episode ends when the first count passes ENDS_ABOVE."""

    action_space = gymnasium.spaces.Box(LOW, HIGH, dtype=np.float32)
    observation_space = gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.count = self.np_random.uniform(-1, 1, 2)
        return draw(self.count), {"state": self.count}

    def step(self, action):
        self.count = advance(self.count, action)
        return draw(self.count), 0.0, bool(self.count[0] > ENDS_ABOVE), False, {"state": self.count}


class Dying(Counting):
    """Takes its process with it at the first step."""

    def step(self, action):
        os.kill(os.getpid(), signal.SIGKILL)


gymnasium.register("Counting-v0", entry_point=Counting)
gymnasium.register("Dying-v0", entry_point=Dying)
