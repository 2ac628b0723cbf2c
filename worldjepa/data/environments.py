"""Any Gymnasium environment as this library sees one: frames of one size, actions in a bounded box."""

import dataclasses
import functools
import importlib
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.spaces import Box, Dict, Discrete, Space, Tuple

from ..config import EnvConfig, VariationsConfig
from ..errors import UserError
from ..notation import span

# What an environment offers that goals can be set in (README, "Your own environment").
GOALS = ("set_state", "get_state", "set_goal", "qpos_of", "goal_error")


def make_env(config: EnvConfig) -> gymnasium.Env:
    """The environment that a configuration names.

    One of `worldjepa.envs` draws what it is asked for. Any other is seen through `Frames`, and through
    `OneHot` where its actions are discrete.

    Raises:
        UserError: there is no such environment, it does not take these options, or it shows no pictures.
    """
    ranges = {kind: span(text) for kind, text in variations(config).items()}
    if config.id.startswith("worldjepa.envs:"):
        options = {name: getattr(config, name) for name in ("image_size", "render_quality", "protocol")}
        # Ours are checked where they are tested, not at every step.
        options |= {"disable_env_checker": True} | ({"variations": ranges} if ranges else {})
        return _make(config.id, options)
    if ranges:
        raise UserError(f"env.variations.{next(iter(ranges))}: env.id={config.id} is not of worldjepa.envs")
    env = _make(config.id, {"render_mode": "rgb_array"} if _draws(config.id) else {})
    if not _is_picture(env.observation_space) and env.render_mode != "rgb_array":
        raise UserError(
            f"env.id={config.id}: shows {env.observation_space}, not pictures, uint8 (H, W, 3), "
            "and its metadata['render_modes'] has no rgb_array"
        )
    env = Frames(env, config.image_size)
    return OneHot(env) if isinstance(env.action_space, Discrete) else env


def variations(config: EnvConfig) -> dict[str, str]:
    """What varies from episode to episode, by kind its range as it is written."""
    return {kind: text for kind, text in dataclasses.asdict(config.variations).items() if text}


def described(config: EnvConfig) -> dict[str, Any]:
    """What data say of their environment: every option that changes what is seen or done."""
    options = dataclasses.asdict(config)
    del options["protocol"], options["variations"]
    return options | ({"variations": varied} if (varied := variations(config)) else {})


def as_described(options: dict[str, Any]) -> EnvConfig:
    """The options that `described` wrote.

    Raises:
        TypeError: it did not write these.
    """
    return EnvConfig(**options | {"variations": VariationsConfig(**options.get("variations", {}))})


def is_bounded(space: Space) -> bool:
    """Whether actions are rows of numbers between bounds, which drawing and planning them need."""
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        return False
    return space.is_bounded() and len(space.shape) == 1


def _make(name: str, options: dict[str, Any]) -> gymnasium.Env:
    try:
        return gymnasium.make(name, **options)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise _no_such(name, error) from None


def _draws(name: str) -> bool:
    """Whether the class that is registered says that it draws; asked before an environment is built."""
    module, _, registered = name.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
        point = gymnasium.spec(registered).entry_point
        creator = load_env_creator(point) if isinstance(point, str) else point
    except (gymnasium.error.Error, ImportError, AttributeError, TypeError, ValueError) as error:
        raise _no_such(name, error) from None
    return "rgb_array" in (getattr(creator, "metadata", None) or {}).get("render_modes", ())


def _no_such(name: str, error: Exception) -> UserError:
    hint = "; is it installed, or its folder in PYTHONPATH?" if isinstance(error, ImportError) else ""
    return UserError(f"env.id={name}: {' '.join(str(error).split())}{hint}")


def _is_picture(space: Space) -> bool:
    shape = space.shape or ()
    return space.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3


def _is_vector(space: Space) -> bool:
    """Whether observations are numbers that can stand in a row, and none of them a picture."""
    if isinstance(space, Dict | Tuple):
        parts = space.spaces.values() if isinstance(space, Dict) else space.spaces
        return all(map(_is_vector, parts))
    return space.is_np_flattenable and len(space.shape or ()) < 2


def _average(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture (H, W, 3) uint8, averaged over size × size areas, (size, size, 3) uint8.

    Sums of whole numbers that their floats hold exactly: the same bytes on every machine.
    """
    height, width, _ = picture.shape
    rows = _overlaps(height, size).astype(np.float32) @ picture.reshape(height, -1).astype(np.float32)
    sums = _overlaps(width, size) @ rows.reshape(size, width, 3).astype(np.float64)
    return np.rint(sums / (height * width)).astype(np.uint8)


@functools.cache
def _overlaps(length: int, size: int) -> np.ndarray:
    """How much of each of `length` pixels lies in each of `size` equal parts, (size, length), in 1/size."""
    first, pixel = np.arange(size)[:, None] * length, np.arange(length) * size
    overlap = np.minimum(first + length, pixel + size) - np.maximum(first, pixel)
    return np.maximum(overlap, 0).astype(np.float64)


class Frames(gymnasium.Wrapper):
    """Any environment as one that shows frames (size, size, 3) uint8.

    A frame is the observation, where that is a picture, else what `render` draws; one of another size is
    averaged over areas, its sides each for itself. The info gets `observation` (n,), where the environment's
    own is numbers (a Dict's one after another, a discrete one as one-hot), and `state` and `qpos`, by the
    environment's methods, where it takes goals.
    """

    def __init__(self, env: gymnasium.Env, size: int):
        super().__init__(env)
        self.size = size
        self.observation_space = Box(0, 255, (size, size, 3), np.uint8)
        self._seen = env.observation_space
        self._shown, self._numbers = _is_picture(self._seen), _is_vector(self._seen)
        self._has_states = all(hasattr(env.unwrapped, name) for name in GOALS)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        seen, info = self.env.reset(seed=seed, options=options)
        return self._frame(seen), self._info(seen, info)

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        seen, reward, terminated, truncated, info = self.env.step(action)
        return self._frame(seen), reward, terminated, truncated, self._info(seen, info)

    def render(self) -> np.ndarray:
        """The present frame.

        Raises:
            UserError: the environment can't draw, as where a package that it draws with is missing.
        """
        try:
            return self.fit(self.env.render())
        except gymnasium.error.Error as error:
            raise UserError(f"env.id: {type(self.unwrapped).__name__}: {error}") from None

    def fit(self, picture: Any) -> np.ndarray:
        """A picture (H, W, 3) uint8 as a frame.

        Raises:
            UserError: it is not such a picture.
        """
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            found = getattr(picture, "shape", type(picture).__name__)
            name = type(self.unwrapped).__name__
            raise UserError(f"env.id: {name} shows or draws {found}, not pictures, uint8 (H, W, 3)")
        if picture.shape[:2] == (self.size, self.size):
            return picture
        return _average(picture, self.size)

    def _frame(self, seen: Any) -> np.ndarray:
        return self.fit(seen) if self._shown else self.render()

    def _info(self, seen: Any, info: dict[str, Any]) -> dict[str, Any]:
        added = {}
        if self._numbers:
            added["observation"] = gymnasium.spaces.flatten(self._seen, seen)
        if self._has_states:
            inner: Any = self.unwrapped
            added["state"] = inner.get_state()
            added["qpos"] = inner.qpos_of(added["state"])
        return info | added


class GoalFrames(Frames):
    """A user's environment, without wrappers that count steps, for planning to goals in its frames."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unwrapped, name)

    def set_goal(self, goal: np.ndarray, draw: bool = True) -> np.ndarray | None:
        """The goal's frame, where it is drawn."""
        picture = self.unwrapped.set_goal(goal, draw)  # type: ignore[attr-defined]
        return self.fit(picture) if draw else None


class OneHot(gymnasium.ActionWrapper):
    """n discrete actions as rows (n,) float32, of which the greatest number is carried out.

    What is stored, and what a model sees, is one-hot.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        assert isinstance(env.action_space, Discrete)
        self._first, self._count = int(env.action_space.start), int(env.action_space.n)
        self.action_space = Box(0, 1, (self._count,), np.float32)

    def action(self, action: np.ndarray) -> int:
        return self._first + int(np.argmax(action))

    def one_hot(self, actions: np.ndarray) -> np.ndarray:
        """Rows (..., n) to rows (..., n) float32 with a 1 where the greatest number is, else 0."""
        return np.eye(self._count, dtype=np.float32)[np.argmax(actions, -1)]

    def row(self, action: int) -> np.ndarray:
        """The environment's own action as its row (n,), of zeros where there is no such action."""
        return (np.arange(self._count) + self._first == action).astype(np.float32)
