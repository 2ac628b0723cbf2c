"""The store: a folder of HDF5 shards in the columns that LeWM and stable-worldmodel publish.

A shard holds whole episodes, one after another: per frame `pixels` (N, H, W, 3) uint8, `action` (N, A), what
else the environment tells (`observation`, `qpos`, `qvel`, `state`), `step_idx` (N,); per episode `ep_len`,
`ep_offset` (E,). Row t holds frame t and the action taken there, which leads to frame t+1. A shard is written
under a temporary name, synced and renamed: whatever carries the name `shard-*.h5` is whole.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import UserError

SCHEMA = 1
PER_EPISODE = ("ep_len", "ep_offset")


def write_shard(path: Path, episodes: Sequence[dict[str, np.ndarray]], about: dict[str, Any]) -> None:
    """Write one shard, whole or not at all.

    Args:
        path: where; its folder exists.
        episodes: of each, its columns, all (T, ...) with one T.
        about: what is needed to collect it again, JSON; kept in the attribute `about`.
    """
    lengths = np.array([len(episode["action"]) for episode in episodes], np.int64)
    columns = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    columns["step_idx"] = np.concatenate([np.arange(n) for n in lengths])
    columns["ep_len"] = lengths
    columns["ep_offset"] = np.cumsum(lengths) - lengths
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with h5py.File(temporary, "w", libver=("v108", "v108")) as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["about"] = json.dumps(about, sort_keys=True)
        for name, values in columns.items():
            file.create_dataset(name, data=values)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Ask the operating system to put a file or folder on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}.h5"


class Shard:
    """One HDF5 file, its contiguous columns mapped into memory, others read through h5py.

    Raises:
        UserError: the file is missing, damaged, or has other columns than the layout's.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            file = h5py.File(path, "r")
            self.about = json.loads(file.attrs["about"]) if "about" in file.attrs else None
            schema = int(file.attrs.get("schema", SCHEMA))
            datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}: not a whole HDF5 file ({' '.join(str(error).split())}); collect it again"
            ) from None
        if schema > SCHEMA:
            raise UserError(
                f"{path}: written by a newer worldjepa (schema {schema}, this one reads {SCHEMA})"
            )
        missing = [name for name in ("pixels", "action", *PER_EPISODE) if name not in datasets]
        if missing:
            raise UserError(f"{path}: has no column {missing[0]}; the layout is in worldjepa/data/shards.py")
        self._file = file
        try:
            self.lengths, self.offsets = (datasets[name][:] for name in PER_EPISODE)
            self.columns = {
                name: _map(path, item) for name, item in datasets.items() if name not in PER_EPISODE
            }
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: damaged ({' '.join(str(error).split())}); collect it again") from None
        self._check()

    def _check(self) -> None:
        pixels, action = self.columns["pixels"], self.columns["action"]
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise UserError(f"{self.path}: pixels are {pixels.dtype} {pixels.shape}, not uint8 (N, H, W, 3)")
        if action.ndim != 2 or action.dtype.kind not in "fiu":
            raise UserError(f"{self.path}: action is {action.dtype} {action.shape}, not numbers (N, A)")
        for name, values in zip(PER_EPISODE, (self.lengths, self.offsets), strict=True):
            if values.ndim != 1 or values.dtype.kind not in "iu":
                raise UserError(
                    f"{self.path}: {name} is {values.dtype} {values.shape}, not whole numbers (E,)"
                )
        self.lengths, self.offsets = self.lengths.astype(np.int64), self.offsets.astype(np.int64)
        rows = len(action)
        if not len(self.lengths) or self.lengths.shape != self.offsets.shape or self.lengths.min() < 1:
            raise UserError(f"{self.path}: holds no whole episode")
        if self.offsets.min() < 0 or (self.offsets + self.lengths).max() > rows:
            raise UserError(f"{self.path}: an episode reaches past the {rows} rows")
        for name, column in self.columns.items():
            if not column.ndim or len(column) != rows:
                raise UserError(
                    f"{self.path}: column {name} has shape {column.shape}, action has {rows} rows"
                )


def _map(path: Path, dataset: h5py.Dataset) -> np.ndarray | h5py.Dataset:
    """A contiguous column as a memory map (a read is then a copy from the page cache), any other as it is."""
    offset = dataset.id.get_offset()
    # Text of free length lies elsewhere in the file: its rows here are only pointers.
    if offset is None or not dataset.size or dataset.dtype.hasobject:
        return dataset
    return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)


class Store:
    """All shards of a folder, or one file, as one sequence of episodes.

    Args:
        path: the folder of `shard-*.h5`, or an `.h5` file.

    Attributes:
        lengths: frames of each episode, (E,) int64.
        image_shape: (H, W, 3). action_dim: A.
        about: what the first shard says of its collection, or None.

    Raises:
        UserError: nothing is there, or the shards do not belong together.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.exists():
            raise UserError(f"data.path={path}: no such folder or file; `worldjepa collect` makes one")
        files = sorted(self.path.glob("shard-*.h5")) if self.path.is_dir() else [self.path]
        if not files:
            raise UserError(f"data.path={path}: holds no shard-*.h5; `worldjepa collect` makes them")
        self.shards = [Shard(file) for file in files]
        first = self.shards[0]
        for shard in self.shards[1:]:
            for name in ("pixels", "action"):
                here, there = shard.columns[name].shape[1:], first.columns[name].shape[1:]
                if here != there:
                    raise UserError(
                        f"{shard.path}: {name} is {here} a frame, in {first.path.name} it is {there}"
                    )
        self.about = first.about
        self.image_shape = tuple(first.columns["pixels"].shape[1:])
        self.action_dim = int(first.columns["action"].shape[1])
        self.lengths = np.concatenate([shard.lengths for shard in self.shards])
        self._shard_of = np.repeat(np.arange(len(self.shards)), [len(s.lengths) for s in self.shards])
        self._offset_of = np.concatenate([shard.offsets for shard in self.shards])

    def gather(self, column: str, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Rows of a column.

        Args:
            column: its name.
            episodes: (n,) episode of each request.
            steps: (n, T) steps within that episode.

        Returns:
            (n, T, ...), a copy.

        Raises:
            UserError: the data have no such column, it can't be read, or a number asked for is not finite.
        """
        shards = self._shard_of[episodes]
        rows = self._offset_of[episodes][:, None] + steps
        result: np.ndarray | None = None
        for index in np.unique(shards):
            shard = self.shards[index]
            if column not in shard.columns:
                raise UserError(f"{shard.path}: has no column {column}")
            here = shards == index
            values = _rows(shard.columns[column], rows[here])
            if result is None:
                result = np.empty((*rows.shape, *values.shape[2:]), values.dtype)
            result[here] = values
        assert result is not None, "gather needs at least one request"
        if result.dtype.kind == "f" and not np.isfinite(result).all():
            bad = episodes[~np.isfinite(result).reshape(len(episodes), -1).all(1)][0]
            raise UserError(
                f"{self.path}: episode {bad} has a number in {column} that is not finite; remove or mend it"
            )
        return result

    def has(self, column: str) -> bool:
        """Whether every shard has the column."""
        return all(column in shard.columns for shard in self.shards)


def _rows(column: np.ndarray | h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return column[rows]
    # h5py wants increasing row numbers, each once.
    unique, where = np.unique(rows, return_inverse=True)
    try:
        return column[unique][where.reshape(rows.shape)]
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{column.file.filename}: column {column.name[1:]} can't be read ({reason})"
        ) from None
