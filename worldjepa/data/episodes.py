"""One episode of a data set: who acts, what is seen, and what of it becomes columns."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from ..config import CollectConfig
from .behaviours import actor, choose, parts

# What may stand in a column.
NUMBERS = (int, float, np.generic, np.ndarray)
# Columns that are not the environment's to fill.
OURS = ("pixels", "action", "behaviour", "step_idx", "ep_len", "ep_offset")


def collect_episode(
    env: gymnasium.Env, config: CollectConfig, index: int, count: Callable[[], None] | None = None
) -> dict[str, np.ndarray]:
    """Episode `index` of a data set; depends on (config.seed, index) alone.

    Args:
        env: shows frames and takes a bounded box's actions, as `make_env` gives it.
        count: called after each frame.

    Returns:
        Columns, each (T, ...): `pixels`, `action`, every number and vector that the environment's info holds
        at each frame, and, of a mixture, `behaviour` uint8, the number from 0 of the part that acted.
    """
    seeds = np.random.SeedSequence([config.seed, index])
    each, number = parts(config.behaviour), choose(config, index)
    act = actor(each[number][0], env, config, np.random.default_rng(seeds))
    frame, info = env.reset(seed=int(seeds.generate_state(1)[0]))
    pixels = np.empty((config.episode_length, *frame.shape), np.uint8)
    actions: list[np.ndarray] = []
    told: dict[str, list[np.ndarray | None]] = {name: [] for name in info if _may_be_column(name)}
    ended = False
    while True:
        # Copied: what an environment hands out it may change at the next step.
        pixels[len(actions)] = frame
        for name, values in told.items():
            values.append(_number_or_vector(info.get(name)))
        actions.append(act(frame, info))
        if count is not None:
            count()
        if ended or len(actions) == config.episode_length:
            break
        frame, _, terminated, truncated, info = env.step(actions[-1])
        ended = terminated or truncated
    columns = {"pixels": pixels[: len(actions)], "action": np.stack(actions)}
    columns |= {name: rows for name, values in sorted(told.items()) if (rows := _rows(values)) is not None}
    if len(each) > 1:
        columns["behaviour"] = np.full(len(actions), number, np.uint8)
    return columns


def _may_be_column(name: Any) -> bool:
    """HDF5 takes a slash for a folder."""
    return isinstance(name, str) and name not in OURS and "/" not in name


def _number_or_vector(value: Any) -> np.ndarray | None:
    """A copy of it, or None where it is neither."""
    if not isinstance(value, NUMBERS):
        return None
    array = np.array(value)
    return array if array.ndim < 2 and array.dtype.kind in "biuf" else None


def _rows(values: list[np.ndarray | None]) -> np.ndarray | None:
    """One row for each frame, or None where a frame lacks it or has another shape."""
    shapes = {None if value is None else value.shape for value in values}
    return None if None in shapes or len(shapes) > 1 else np.stack(values)  # type: ignore[arg-type]


def common(episodes: Sequence[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The same episodes with the columns that each of them has, in one shape of rows."""
    shapes = [{name: rows.shape[1:] for name, rows in episode.items()} for episode in episodes]
    kept = [name for name in shapes[0] if all(s.get(name) == shapes[0][name] for s in shapes)]
    return [{name: episode[name] for name in kept} for episode in episodes]
