"""Environments and policies as users write them, `own_envs:Gauge-v0` and `own_envs:to_the_middle`."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary


class Gauge(gymnasium.Env):
    """A level between 0 and 1 that actions raise, drawn as the height of a bar.

    Its pictures and what it tells are its own arrays, which change at the next step.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - as Gymnasium declares it
    action_space = Box(-2, 3, (1,), np.float32)
    observation_space = Dict({"level": Box(0, 1, (1,), np.float64), "lamp": Discrete(3)})

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.level, self.canvas, self.steps = np.zeros(1), np.zeros((20, 30, 3), np.uint8), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.level[:], self.steps = self.np_random.uniform(), 0
        return self.seen(), self.told()

    def step(self, action: np.ndarray):
        self.level[:] = np.clip(self.level + 0.05 * action, 0, 1)
        self.steps += 1
        return self.seen(), 0.0, False, False, self.told()

    def seen(self) -> dict[str, Any]:
        return {"level": self.level.copy(), "lamp": self.steps % 3}

    def told(self) -> dict[str, Any]:
        """Of all kinds: what can be a column, what can't, and what others have the name of."""
        columns = {"qpos": self.level, "steps": self.steps, "odd": self.steps % 2 == 1}
        growing = np.zeros(self.steps)
        others = {"name": "gauge", "growing": growing, "map": self.canvas[..., 0], "parts": {"a": 1}}
        late = {"late": 1.0} if self.steps != 3 else {}
        return {**columns, **others, **late, "a/b": 1.0, "action": 7.0, 5: 5.0}

    def render(self) -> np.ndarray:
        """The lower part of the canvas white, up to the level."""
        self.canvas[:] = 255 * (np.arange(20)[::-1, None, None] < 20 * self.level)
        return self.canvas


class Keys(Gauge):
    """Three keys, 5, 6 and 7: down, stay, up."""

    action_space = Discrete(3, start=5)

    def step(self, action: int):
        assert self.action_space.contains(action)
        return super().step(np.array([action - 6.0]))


class Switches(Gauge):
    """Actions that are neither one number nor a vector of numbers."""

    action_space = MultiBinary(3)


class Blind(Gauge):
    """Draws nothing."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012


class Grey(Gauge):
    """Draws something, but no picture."""

    def render(self) -> np.ndarray:
        return super().render()[..., 0]


class Undrawable(Gauge):
    """Needs a package to draw."""

    def render(self) -> np.ndarray:
        raise gymnasium.error.DependencyNotInstalled("crayons are not installed, run `pip install crayons`")


# Gymnasium's checker warns of arrays that are handed out twice, and of pictures that are none.
for _class in (Gauge, Keys, Switches, Blind, Grey, Undrawable):
    gymnasium.register(f"{_class.__name__}-v0", entry_point=_class, disable_env_checker=True)


def to_the_middle(env: gymnasium.Env, rng: np.random.Generator):
    """A scripted policy: by the picture, towards half the height, with noise; beyond the bounds at times."""

    def act(frame: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        return 20 * (0.5 - np.mean(frame) / 255) + rng.normal(size=1)

    return act


def key_up(env: gymnasium.Env, rng: np.random.Generator):
    """One of the keys."""
    return lambda frame, info: 7


def too_many(env: gymnasium.Env, rng: np.random.Generator):
    """No action of any environment here."""
    return lambda frame, info: np.zeros(9)


def as_said(env: gymnasium.Env, rng: np.random.Generator):
    """Whatever `said` is."""
    return lambda frame, info: said


said: Any = None
not_callable = 3
