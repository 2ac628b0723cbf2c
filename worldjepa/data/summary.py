"""What a data set holds, in numbers: size, columns, actions, and how much of its range a coordinate fills."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import UserError
from .columns import Column
from .shards import PER_EPISODE, Shard, Store

BINS = 40
# Rows of a column that are looked at together.
PIECE_BYTES = 1 << 26

# qpos (N, nq) to the named coordinates that a picture shows, each (N,), as our environments offer it.
Coordinates = Callable[[np.ndarray], dict[str, np.ndarray]]


def summary(store: Store, coordinates: Coordinates | None = None) -> dict[str, Any]:
    """Everything that `worldjepa data info` tells, as JSON takes it.

    Args:
        coordinates: names what qpos holds; without it the entries are numbered.

    Raises:
        UserError: a column can't be read.
    """
    first, lengths = store.shards[0], store.lengths
    names = [name for name in first.columns if store.has(name)]
    actions = np.concatenate([_leading(shard, "action") for shard in store.shards]).astype(np.float64)
    actions = actions[np.isfinite(actions).all(1)]
    if not len(actions):
        raise UserError(f"{store.path}: no frame but an episode's last has an action of finite numbers")
    return {
        "path": str(store.path),
        "files": len(store.shards),
        "bytes": sum(shard.path.stat().st_size for shard in store.shards),
        "episodes": len(lengths),
        "frames": int(lengths.sum()),
        "lengths": {"min": int(lengths.min()), "mean": float(lengths.mean()), "max": int(lengths.max())},
        "image": list(store.image_shape),
        "columns": {
            name: {
                "shape": list(first.columns[name].shape[1:]),
                "dtype": "text" if first.columns[name].dtype.hasobject else str(first.columns[name].dtype),
                "not_finite": sum(not_finite(shard, name) for shard in store.shards),
            }
            for name in names
        },
        "left_out": sorted({n for shard in store.shards for n in shard.columns} - set(names)),
        "action": {
            "mean": actions.mean(0).tolist(),
            "std": actions.std(0).tolist(),
            "min": actions.min(0).tolist(),
            "max": actions.max(0).tolist(),
        },
        "coverage": {
            name: cover(values, angle) for name, values, angle in _quantities(store, actions, coordinates)
        },
        "about": _alike([shard.about for shard in store.shards]),
        "versions": _alike([shard.versions for shard in store.shards]),
        "checksums": sum(set(shard.checksums) >= {*shard.columns, *PER_EPISODE} for shard in store.shards),
    }


def cover(values: np.ndarray, angle: bool = False) -> dict[str, Any]:
    """How values (N,) lie over their range: that of the data, or the circle where they are an angle.

    `filled` is exp(entropy) of the histogram over its bins: 1 where every part of the range is as frequent as
    every other, 1 over the number of bins where all values are one.
    """
    values = values[np.isfinite(values)]
    if angle:
        low, high = -np.pi, np.pi
    else:
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    # What varies by rounding alone has no bins that floats could tell apart.
    varies = high - low > 1e-12 * max(1.0, abs(low), abs(high))
    counts, _ = np.histogram(values, BINS, (low, high) if varies else (low - 0.5, low + 0.5))
    share = counts[counts > 0] / max(1, counts.sum())
    filled = float(np.exp(-(share * np.log(share)).sum())) / BINS if len(share) else 0.0
    return {"low": low, "high": high, "angle": angle, "counts": counts.tolist(), "filled": filled}


def not_finite(shard: Shard, name: str) -> int:
    """Rows with a number that is not finite; an episode's last action, NaN in published files, may be so."""
    column = shard.columns[name]
    if column.dtype.kind != "f":
        return 0
    bad = np.concatenate(
        [~np.isfinite(piece).reshape(len(piece), -1).all(1) for piece in pieces(column)]
        or [np.zeros(0, bool)]
    )
    if name == "action":
        bad[shard.offsets + shard.lengths - 1] = False
    return int(bad.sum())


def pieces(column: Column) -> Iterator[np.ndarray]:
    """A column's rows in order, so many at once as memory bears."""
    row = max(1, int(np.prod(column.shape[1:])) * column.dtype.itemsize)
    step = max(1, PIECE_BYTES // row)
    return (np.asarray(column[i : i + step]) for i in range(0, column.shape[0], step))


def _leading(shard: Shard, name: str) -> np.ndarray:
    """Rows of a shard that lead to a frame: all but each episode's last."""
    ends = shard.offsets + shard.lengths - 1
    rows = [np.asarray(shard.columns[name][a:b]) for a, b in zip(shard.offsets, ends, strict=True)]
    return np.concatenate(rows)


def _quantities(
    store: Store, actions: np.ndarray, coordinates: Coordinates | None
) -> Iterator[tuple[str, np.ndarray, bool]]:
    """What coverage is shown of: name, values (N,), whether they are an angle."""
    for name in ("qpos", "qvel"):
        first = store.shards[0].columns.get(name)
        if first is None or not store.has(name) or len(first.shape) != 2 or first.dtype.kind not in "biuf":
            continue
        rows = np.concatenate([np.asarray(shard.columns[name][:], np.float64) for shard in store.shards])
        if name == "qpos" and coordinates is not None:
            yield from _named(coordinates(rows[np.isfinite(rows).all(1)]))
        else:
            yield from ((f"{name} {i}", values, False) for i, values in enumerate(rows.T))
    yield from ((f"action {i}", values, False) for i, values in enumerate(actions.T))


def _named(values: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Coordinates; where a sine and a cosine stand for an angle, the angle."""
    for name, value in values.items():
        kind, _, joint = name.partition(" ")
        if kind == "sin" and f"cos {joint}" in values:
            yield joint, np.arctan2(value, values[f"cos {joint}"]), True
        elif not (kind == "cos" and f"sin {joint}" in values):
            yield name, value, False


def _alike(values: list[Any]) -> Any:
    """What all agree on, or None."""
    return values[0] if all(value == values[0] for value in values) else None
