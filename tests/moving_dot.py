"""A data set made on the spot: a bright dot on a torus, moved by its actions. No simulator, no OpenGL."""

from pathlib import Path

import numpy as np

from worldjepa.data.shards import Store, write_shard
from worldjepa.data.windows import Windows


def dot_episode(length: int, image_size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns of an episode: a dot at `qpos` (T, 2), in [0, 1), which action t (2,) moves by action / 10."""
    action = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
    moved = np.cumsum(action[:-1] / 10, 0, dtype=np.float64)
    qpos = (rng.uniform(0, 1, 2) + np.concatenate([np.zeros((1, 2)), moved])) % 1
    return {
        "pixels": dot_frames(qpos, image_size),
        "action": action,
        "qpos": qpos,
        "qvel": action / 10,
        "state": qpos,
    }


def dot_frames(qpos: np.ndarray, image_size: int) -> np.ndarray:
    """Positions (T, 2) in [0, 1) to frames (T, H, W, 3) uint8."""
    axis = np.arange(image_size) / image_size
    # Distance on the circle, along rows and along columns.
    off = np.abs((qpos[:, :, None] - axis + 0.5) % 1 - 0.5)
    bump = np.exp(-np.square(off / 0.12) / 2)
    light = 255 * bump[:, 0, :, None] * bump[:, 1, None, :]
    return np.repeat(light[..., None], 3, -1).astype(np.uint8)


def write_dots(
    folder: Path, episodes: int = 6, length: int = 40, image_size: int = 32, seed: int = 0
) -> Path:
    """A data folder of one shard."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(
        folder / "shard-00000.h5", [dot_episode(length, image_size, rng) for _ in range(episodes)], {}
    )
    return folder


def dot_windows(folder: Path, frames: int, frameskip: int) -> Windows:
    """All windows of all its episodes."""
    store = Store(folder)
    return Windows(store, np.arange(len(store.lengths)), frames, frameskip)
