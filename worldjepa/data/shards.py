"""The store: a folder of HDF5 shards in the columns that LeWM and stable-worldmodel publish.

A shard holds whole episodes, one after another: per frame `pixels` (N, H, W, 3) uint8, `action` (N, A), what
else the environment tells (`observation`, `qpos`, `qvel`, `state`), `step_idx` (N,); per episode `ep_len`,
`ep_offset` (E,). Row t holds frame t and the action taken there, which leads to frame t+1. A shard is written
under a temporary name, synced and renamed: whatever carries the name `shard-*.h5` is whole.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5o

from ..errors import UserError
from ..files import sync
from .columns import DAMAGED, Column, FileMap, allow_open_files, column
from .compression import filters
from .hdf5 import new_hdf5
from .provenance import SCHEMA, Origin, checksum, checksums, describe, made_here, said, whole_number

PER_EPISODE = ("ep_len", "ep_offset")
# Mapped pages count as this process's memory once they are read. Of data larger than this they are let go
# each time that so many may have been mapped; read again they cost a fault, and no access to the disk.
LARGE_BYTES, MAPPED_BYTES = 1 << 30, 1 << 28
# What the system maps around a page that is read, where it lies in the page cache.
AROUND_BYTES = 1 << 16


def write_shard(
    path: Path,
    episodes: Sequence[dict[str, np.ndarray]],
    about: dict[str, Any],
    origin: Origin | None = None,
    compression: str = "none",
) -> None:
    """Write one shard, whole or not at all.

    Args:
        path: where; its folder exists.
        episodes: of each, its columns, all (T, ...) with one T.
        about: what is needed to collect it again, JSON; kept in the attribute `about`.
        origin: of data that were collected earlier, in place of `about`.
        compression: of the frames (`worldjepa.data.compression`).

    Raises:
        UserError: the package that compresses is not installed.
    """
    lengths = np.array([len(episode["action"]) for episode in episodes], np.int64)
    columns = {name: np.concatenate([episode[name] for episode in episodes]) for name in episodes[0]}
    columns["step_idx"] = np.concatenate([np.arange(n) for n in lengths])
    columns["ep_len"] = lengths
    columns["ep_offset"] = np.cumsum(lengths) - lengths
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with new_hdf5(temporary, ("v108", "v108")) as file:
        describe(file, origin or made_here(about))
        for name, values in columns.items():
            how = filters(compression, name, values.shape[1:])
            stored = file.create_dataset(name, data=values, dtype=stored_dtype(values.dtype), **how)
            stored.attrs["crc32"] = checksum(values)
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """The same in HDF5's words: of Python's objects, only texts are kept."""
    return h5py.string_dtype() if dtype.hasobject else dtype


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}.h5"


def shard_files(path: Path) -> list[Path]:
    """The shards of a folder, or one file, in order.

    Raises:
        UserError: nothing is there.
    """
    if not path.exists():
        raise UserError(f"data.path={path}: no such folder or file; `worldjepa collect` makes one")
    files = sorted(path.glob("shard-*.h5")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"data.path={path}: holds no shard-*.h5; `worldjepa collect` makes them")
    return files


class Shard:
    """One HDF5 file, its columns read from its memory map where that is possible.

    Attributes:
        lengths, offsets: frames and first row of each episode, (E,) int64.
        columns: the columns of frames, by name.
        about, versions: how it was collected, and with which versions, or None.
        checksums: CRC-32 of each column that has one.

    Raises:
        UserError: the file is missing, damaged, compressed in a way that can't be read, or has other columns
            than the layout's.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            # Locks keep writers away, whom a finished file has no more; some network storage has no locks.
            file = h5py.File(path, "r", locking="best-effort")
            self.about, self.versions = (said(file, name) for name in ("about", "versions"))
            schema = whole_number(file.attrs.get("schema", SCHEMA))
            # The low level: ten thousand columns of a large data set are opened in a second.
            found = {name: h5o.open(file.id, name.encode()) for name in file}
        except DAMAGED as error:
            raise UserError(_why(path, error)) from None
        datasets = {name: item for name, item in found.items() if isinstance(item, h5py.h5d.DatasetID)}
        if schema > SCHEMA:
            raise UserError(
                f"{path}: written by a newer worldjepa (schema {schema}, this one reads {SCHEMA})"
            )
        missing = [name for name in ("pixels", "action", *PER_EPISODE) if name not in datasets]
        if missing:
            raise UserError(f"{path}: has no column {missing[0]}; the layout is in worldjepa/data/shards.py")
        self._file = file
        try:
            self._map = FileMap(path)
            every = {name: column(file, name, item, self._map) for name, item in datasets.items()}
            self.lengths, self.offsets = (np.array(every.pop(name)[...]) for name in PER_EPISODE)
        except DAMAGED as error:
            raise UserError(_why(path, error)) from None
        self.columns: dict[str, Column] = every
        self._check()

    @property
    def checksums(self) -> dict[str, int]:
        """Raises UserError where one is no number."""
        try:
            return checksums(self._file, (*self.columns, *PER_EPISODE))
        except DAMAGED as error:
            raise UserError(_why(self.path, error)) from None

    def stored(self, name: str) -> Column:
        """A column of frames or of episodes, as it is in the file."""
        return self.columns[name] if name in self.columns else self._file[name]

    def release(self) -> None:
        """Let go of the mapped pages."""
        self._map.release()

    def _check(self) -> None:
        pixels, action = self.columns["pixels"], self.columns["action"]
        if len(pixels.shape) != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise UserError(f"{self.path}: pixels are {pixels.dtype} {pixels.shape}, not uint8 (N, H, W, 3)")
        if len(action.shape) != 2 or action.dtype.kind not in "fiu" or not action.shape[1]:
            raise UserError(f"{self.path}: action is {action.dtype} {action.shape}, not numbers (N, A)")
        for name, values in zip(PER_EPISODE, (self.lengths, self.offsets), strict=True):
            if values.ndim != 1 or values.dtype.kind not in "iu":
                raise UserError(
                    f"{self.path}: {name} is {values.dtype} {values.shape}, not whole numbers (E,)"
                )
        self.lengths, self.offsets = self.lengths.astype(np.int64), self.offsets.astype(np.int64)
        rows = action.shape[0]
        if not len(self.lengths) or self.lengths.shape != self.offsets.shape or self.lengths.min() < 1:
            raise UserError(f"{self.path}: holds no whole episode")
        # Their sum may be more than 64 bits hold.
        if self.offsets.min() < 0 or (self.lengths > rows - self.offsets).any():
            raise UserError(f"{self.path}: an episode reaches past the {rows} rows")
        order = np.argsort(self.offsets)
        if (np.diff(self.offsets[order]) < self.lengths[order][:-1]).any():
            raise UserError(f"{self.path}: an episode reaches into the next (ep_len, ep_offset)")
        for name, found in self.columns.items():
            if not found.shape or found.shape[0] != rows:
                raise UserError(f"{self.path}: column {name} has shape {found.shape}, action has {rows} rows")


def _why(path: Path, error: Exception) -> str:
    """Why a file can't be opened, in a line."""
    reason = " ".join(str(error).split())
    if getattr(error, "errno", None) == errno.EMFILE:
        return f"{path}: too many open files; raise `ulimit -n`, or merge shards (`worldjepa data merge`)"
    return f"{path}: not a whole HDF5 file ({reason}); collect it again"


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
        files = shard_files(self.path)
        allow_open_files(2 * len(files))
        self.shards = [Shard(file) for file in files]
        first = self.shards[0]
        for shard in self.shards[1:]:
            for name in first.columns.keys() & shard.columns.keys():
                here, there = shard.columns[name].shape[1:], first.columns[name].shape[1:]
                if here != there:
                    raise UserError(
                        f"{shard.path}: {name} is {here} a frame, in {first.path.name} it is {there}"
                    )
                kinds = [each.columns[name].dtype for each in (shard, first)]
                if len({kind.kind in "biuf" or kind.kind for kind in kinds}) > 1:
                    raise UserError(
                        f"{shard.path}: {name} holds {kinds[0]}, in {first.path.name} it holds {kinds[1]}"
                    )
        self.about = first.about
        self.image_shape = tuple(first.columns["pixels"].shape[1:])
        self.action_dim = int(first.columns["action"].shape[1])
        self.lengths = np.concatenate([shard.lengths for shard in self.shards])
        self._shard_of = np.repeat(np.arange(len(self.shards)), [len(s.lengths) for s in self.shards])
        self._offset_of = np.concatenate([shard.offsets for shard in self.shards])
        self._large = sum(file.stat().st_size for file in files) > LARGE_BYTES
        self._mapped_bytes = 0

    def gather(self, column: str, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Rows of a column, all of whose numbers are finite.

        Args:
            column: its name.
            episodes: (n,) episode of each request, n at least 1.
            steps: (n, T) steps within that episode.

        Returns:
            (n, T, ...), a copy.

        Raises:
            UserError: the data have no such column, it can't be read or holds no numbers, or one that is
                asked for is not finite.
        """
        result = self.read(column, episodes, steps)
        if result.dtype.kind not in "biuf":
            raise UserError(f"{self.path}: column {column} holds {result.dtype}, not numbers")
        if result.dtype.kind == "f" and not np.isfinite(result).all():
            bad = episodes[~np.isfinite(result).reshape(len(episodes), -1).all(1)][0]
            raise UserError(
                f"{self.path}: episode {bad} has a number in {column} that is not finite; remove or mend it"
            )
        return result

    def read(self, column: str, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """As `gather`, finite or not.

        Raises:
            UserError: the data have no such column, or it can't be read.
        """
        shards = self._shard_of[episodes].tolist()
        rows = self._offset_of[episodes][:, None] + steps
        columns = {}
        for index in sorted(set(shards)):
            if column not in self.shards[index].columns:
                raise UserError(f"{self.shards[index].path}: has no column {column}")
            columns[index] = self.shards[index].columns[column]
        first = columns[shards[0]]
        dtype = first.dtype
        if len(columns) > 1 and not dtype.hasobject:
            dtype = np.result_type(*(each.dtype for each in columns.values()))
        result = np.empty((*rows.shape, *first.shape[1:]), dtype)
        for index, out, wanted in zip(shards, result, _slices(rows), strict=True):
            out[...] = columns[index][wanted]
        self._mapped_bytes += result.nbytes + rows.size * AROUND_BYTES
        if self._large and self._mapped_bytes > MAPPED_BYTES:
            self._mapped_bytes = 0
            for shard in self.shards:
                shard.release()
        return result

    def has(self, column: str) -> bool:
        """Whether every shard has the column."""
        return all(column in shard.columns for shard in self.shards)


def _slices(rows: np.ndarray) -> list[Any]:
    """Row numbers (n, T), as slices where requests go up by one and the same step: a slice is read faster."""
    if not rows.shape[1]:
        return [slice(0, 0)] * len(rows)
    steps = np.diff(rows, axis=1)
    step = int(steps.flat[0]) if steps.size else 1
    if step < 1 or (steps != step).any():
        return list(rows)
    return [slice(a, b, step) for a, b in zip(rows[:, 0].tolist(), (rows[:, -1] + 1).tolist(), strict=True)]
