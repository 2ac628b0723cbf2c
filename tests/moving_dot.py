"""A world made on the spot: a bright dot on a torus, moved by its actions. No simulator, no OpenGL."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.data.shards import Store, write_shard
from worldjepa.data.windows import Windows
from worldjepa.sigreg import EppsPulley, SIGReg

SPEED = 0.1


def dot_frames(qpos: np.ndarray, image_size: int = 32) -> np.ndarray:
    """Positions (T, 2) in [0, 1) to frames (T, H, W, 3) uint8."""
    axis = np.arange(image_size) / image_size
    # Distance on the circle, along rows and along columns.
    off = np.abs((qpos[:, :, None] - axis + 0.5) % 1 - 0.5)
    bump = np.exp(-np.square(off / 0.12) / 2)
    light = 255 * bump[:, 0, :, None] * bump[:, 1, None, :]
    return np.repeat(light[..., None], 3, -1).astype(np.uint8)


def dot_episode(action: np.ndarray, start: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the episode that actions (T, 2) make of a start (2,); `qvel` is the last movement."""
    moved = np.concatenate([np.zeros((1, 2)), SPEED * action[:-1].astype(np.float64)])
    qpos = (start + np.cumsum(moved, 0)) % 1
    return {"pixels": dot_frames(qpos), "action": action, "qpos": qpos, "qvel": moved, "state": qpos}


def write_dots(folder: Path, episodes: int = 6, length: int = 40, seed: int = 0) -> Path:
    """A data folder of one shard: episodes of uniform random actions."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (episodes, length, 2)).astype(np.float32)
    starts = rng.uniform(0, 1, (episodes, 2))
    return write_episodes(folder, [dot_episode(a, s) for a, s in zip(actions, starts, strict=True)])


def write_episodes(folder: Path, episodes: list[dict[str, np.ndarray]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / "shard-00000.h5", episodes, {})
    return folder


def dot_windows(folder: Path, frames: int, frameskip: int) -> Windows:
    """All windows of all its episodes."""
    store = Store(folder)
    return Windows(store, np.arange(len(store.lengths)), frames, frameskip)


class DotWorld(gymnasium.Env):
    """The dot as an environment with goals: its state is its position, to come within 0.02 of the goal's."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    observation_space = gymnasium.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    tolerance = 0.02

    def __init__(self) -> None:
        self.state, self.goal, self.steps = np.zeros(2), np.zeros(2), 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        # No number is near this one: there is no goal.
        self.state, self.goal = self.np_random.uniform(size=2), np.full(2, np.nan)
        return self.render(), {}

    def get_state(self) -> np.ndarray:
        return self.state.copy()

    def set_state(self, state: np.ndarray) -> None:
        self.state = np.asarray(state, np.float64) % 1

    def set_goal(self, goal: np.ndarray, draw: bool = True) -> np.ndarray | None:
        self.goal = goal
        return dot_frames(goal[None])[0] if draw else None

    def render(self) -> np.ndarray:
        return dot_frames(self.state[None])[0]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.set_state(self.state + SPEED * np.clip(action, -1, 1))
        reached = bool((self.goal_error(self.state, self.goal) < 1).all())
        return (
            self.render(),
            float(reached),
            reached,
            False,
            {"state": self.get_state(), "qpos": self.get_state()},
        )

    def qpos_of(self, states: np.ndarray) -> np.ndarray:
        return states

    def goal_error(self, qpos: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return np.abs((qpos - goal + 0.5) % 1 - 0.5) / self.tolerance

    def coordinates(self, qpos: np.ndarray) -> dict[str, np.ndarray]:
        return {
            f"{function.__name__} {axis}": function(2 * np.pi * qpos[..., axis])
            for function in (np.sin, np.cos)
            for axis in (0, 1)
        }


class DotKeys(DotWorld):
    """Moved by four keys: left, right, up, down."""

    action_space = gymnasium.spaces.Discrete(4)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return super().step(np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])[action])


gymnasium.register("Dot-v0", entry_point=DotWorld)
gymnasium.register("DotKeys-v0", entry_point=DotKeys)


class DotModel(nn.Module):
    """A perfect world model of it: its latent (..., 4) is the cosine and sine of both coordinates, as angles.

    Args:
        moves: 1 to imagine what actions do, 0 to believe that nothing moves.
    """

    context, latent, action_dim = 3, 4, 2

    def __init__(self, moves: float = 1.0):
        super().__init__()
        self.moves = nn.Parameter(torch.tensor(moves))
        self.sigreg = SIGReg(EppsPulley(), num_slices=4)

    def encode(self, frames: Tensor) -> Tensor:
        light = frames.double()[..., 0]
        wave = torch.exp(2j * torch.pi * torch.arange(frames.shape[-2]) / frames.shape[-2])
        angle = torch.stack([(light.sum(axis) * wave).sum(-1).angle() for axis in (-1, -2)], -1)
        return torch.cat([angle.cos(), angle.sin()], -1).float()

    def rollout(self, z: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        if actions.ndim == 3:
            return self.rollout(z, past, actions[:, None])[:, 0]
        now = torch.atan2(z[:, -1, 2:], z[:, -1, :2])[:, None, None]
        moved = actions.unflatten(-1, (-1, 2)).sum(-2).cumsum(2)
        angle = now + self.moves * 2 * torch.pi * SPEED * moved
        return torch.cat([angle.cos(), angle.sin()], -1)
