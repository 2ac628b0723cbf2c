"""Episodes into new files: shards, one file, or stable-worldmodel's own layout; all of it, or nothing."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import UserError
from ..files import sync
from .compression import filters
from .hdf5 import new_hdf5
from .provenance import Origin, checksum, describe
from .shards import PER_EPISODE, Store, shard_path, stored_dtype, write_shard
from .workplace import workplace

# Made anew wherever episodes are written.
COUNTED = ("step_idx", *PER_EPISODE)
# The types of stable-worldmodel's writer.
THEIR_TYPES = {"ep_len": np.int32, "ep_offset": np.int64}

Episode = dict[str, np.ndarray]


@contextmanager
def new_paths(*targets: Path) -> Iterator[list[Path]]:
    """Temporary paths beside the targets, in one folder, for files or folders that get the targets' names,
    once all are whole (a kill between two of these renames leaves the first target alone). What else a killed
    process left, the next one that writes there removes.

    Raises:
        UserError: a target is there already, or can't be written.
    """
    for target in targets:
        refuse_existing(target)
    folder = targets[0].parent
    try:
        with workplace(folder, f"store.to={targets[0]}") as place:
            written = [place / f"new-{target.name}" for target in targets]
            yield written
            for path in written:
                sync(path)
            for target in targets:
                refuse_existing(target)
            for path, target in zip(written, targets, strict=True):
                path.rename(target)
            sync(folder)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{targets[0]}: can't be written: {' '.join(str(error).split())}") from None


def refuse_existing(target: Path) -> None:
    """Raises UserError where something is there."""
    if target.exists() or target.is_symlink():
        raise UserError(f"store.to={target}: is there already, and is not overwritten; name another")


def common_columns(stores: Sequence[Store]) -> dict[str, np.dtype]:
    """The columns of frames that every file has, each with a type that holds what all hold.

    Raises:
        UserError: frames, actions or other columns are not alike.
    """
    shards = [shard for store in stores for shard in store.shards]
    first, result = shards[0], {}
    for name, column in first.columns.items():
        if name in COUNTED or not all(name in shard.columns for shard in shards):
            continue
        for shard in shards:
            if shard.columns[name].shape[1:] != column.shape[1:]:
                raise UserError(
                    f"{shard.path}: {name} is {shard.columns[name].shape[1:]} a frame, "
                    f"in {first.path} it is {column.shape[1:]}"
                )
        types = [shard.columns[name].dtype for shard in shards]
        if any(t.hasobject for t in types):
            # Lists of free length are no column of the layout; texts are.
            if all(h5py.check_string_dtype(t) is not None for t in types):
                result[name] = np.dtype(object)
        elif len(set(types)) == 1 or any(all(t.kind in kinds for t in types) for kinds in ("biuf", "S")):
            result[name] = np.result_type(*types)
    return result


def episodes_of(store: Store, which: Iterable[int], columns: dict[str, np.dtype]) -> Iterator[Episode]:
    """Whole episodes, one after another: of each, its columns (T, ...)."""
    for episode in which:
        steps = np.arange(store.lengths[episode])[None]
        yield {
            name: store.read(name, np.array([episode]), steps)[0].astype(dtype, copy=False)
            for name, dtype in columns.items()
        }


def write_shards(
    folder: Path, episodes: Iterable[Episode], origin: Origin, shard_episodes: int, compression: str = "none"
) -> int:
    """Shards of so many episodes into a new folder; how many episodes there were.

    Args:
        compression: of the frames (`worldjepa.data.compression`).

    Raises:
        UserError: the folder is there already, or can't be written.
    """
    with new_paths(folder) as (temporary,):
        return fill(temporary, episodes, origin, shard_episodes, compression)


def fill(
    folder: Path, episodes: Iterable[Episode], origin: Origin, shard_episodes: int, compression: str
) -> int:
    """The same into a folder of `new_paths`."""
    folder.mkdir()
    remaining, count, index = iter(episodes), 0, 0
    while some := list(islice(remaining, shard_episodes)):
        write_shard(shard_path(folder, index), some, origin.about, origin, compression)
        count, index = count + len(some), index + 1
    return count


def write_file(
    path: Path,
    episodes: Iterable[Episode],
    origin: Origin | None,
    rows: int | None,
    compression: str = "none",
) -> int:
    """One HDF5 file in the published columns; how many episodes there were.

    Args:
        origin: kept in the file, with checksums; None: left away, as stable-worldmodel has none.
        rows: frames of all episodes together: columns are contiguous, which is read fastest. None: columns
            grow by one row a chunk, as stable-worldmodel's writer makes and extends them.
        compression: of the frames (`worldjepa.data.compression`).

    Raises:
        UserError: the file is there already, or can't be written.
    """
    with new_paths(path) as (temporary,), new_hdf5(temporary, "latest") as file:
        if origin is not None:
            describe(file, origin)
        lengths: list[int] = []
        sums: dict[str, int] = {}
        for episode in episodes:
            first = sum(lengths)
            lengths.append(len(episode["action"]))
            for name, values in {**episode, "step_idx": np.arange(lengths[-1])}.items():
                if name not in sums:
                    _create(file, name, values, rows, filters(compression, name, values.shape[1:]))
                if rows is None:
                    file[name].resize(first + len(values), axis=0)
                file[name][first : first + len(values)] = values
                sums[name] = int(checksum(values, sums.get(name, 0)))
        offsets = np.cumsum(lengths) - np.array(lengths)
        for name, values in zip(PER_EPISODE, (np.array(lengths), offsets), strict=True):
            values = values.astype(THEIR_TYPES[name] if rows is None else np.int64)
            file.create_dataset(name, data=values, maxshape=(None,) if rows is None else None)
            sums[name] = int(checksum(values))
        if origin is not None:
            for name, crc in sums.items():
                file[name].attrs["crc32"] = np.uint32(crc)
    return len(lengths)


def _create(file: h5py.File, name: str, values: np.ndarray, rows: int | None, how: dict[str, Any]) -> None:
    row, dtype = values.shape[1:], stored_dtype(values.dtype)
    if rows is None:
        file.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), **how | {"chunks": (1, *row)})
    else:
        file.create_dataset(name, (rows, *row), dtype, **how)


def joint_origin(stores: Sequence[Store]) -> Origin:
    """How data from several files were collected: the one way, or all the ways; versions where they agree."""
    shards = [shard for store in stores for shard in store.shards]
    ways: list[Any] = []
    for shard in shards:
        if shard.about not in ways:
            ways.append(shard.about)
    about = ways[0] if len(ways) == 1 and ways[0] is not None else {"merged": ways}
    versions = shards[0].versions
    return Origin(about, versions if all(s.versions == versions for s in shards) and versions else {})
