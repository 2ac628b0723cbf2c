"""What probes have in common: latents of windows, and the physical quantities that frames show."""

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..data.windows import Windows
from ..errors import UserError
from ..world_model import WorldModel


@torch.inference_mode()
def embed(model: WorldModel, windows: Windows, indices: np.ndarray, label: str) -> np.ndarray:
    """Latents of windows, (n, T, D) float32."""
    device = next(model.parameters()).device
    parts = [
        model.encode(windows.batch(part)["pixels"].to(device)).float().cpu().numpy()
        for part in tqdm(np.array_split(indices, max(1, len(indices) // 128)), desc=label, leave=False)
    ]
    return np.concatenate(parts)


def targets(
    env: Any, windows: Windows, indices: np.ndarray, frame: int = -1
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a frame of each window, by default the last, shows: its coordinates, and its velocities, by name,
    (n,) each.

    Coordinates are those that the environment names, or, where it names none, the entries of `qpos`, else of
    `observation`, else of `state`. Velocities are the entries of `qvel`; without that column there are none.

    Raises:
        UserError: the data have none of these columns, or a qpos of fewer numbers than the environment's.
    """
    store = windows.store
    steps = windows.starts[indices] + range(windows.frames)[frame] * windows.frameskip

    def entries(column: str) -> np.ndarray:
        return store.gather(column, windows.episodes[indices], steps[:, None])[:, 0]

    def named(label: str, values: np.ndarray) -> dict[str, np.ndarray]:
        return {f"{label} {i}": column for i, column in enumerate(values.reshape(len(values), -1).T)}

    velocities = named("velocity", entries("qvel")) if store.has("qvel") else {}
    if hasattr(env, "coordinates") and store.has("qpos"):
        qpos = entries("qpos")
        try:
            return env.coordinates(qpos), velocities
        except IndexError:
            raise UserError(
                f"{store.path}: its qpos has {qpos.shape[-1]} numbers, too few for the coordinates of "
                f"{type(env).__name__}; env.id has to be the data's"
            ) from None
    column = next((name for name in ("qpos", "observation", "state") if store.has(name)), None)
    if column is None:
        raise UserError(f"{store.path}: has no column qpos, observation or state, which probes read")
    return named(column, entries(column)), velocities
