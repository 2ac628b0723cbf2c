"""Columns of an HDF5 file, read from the file's memory map wherever their bytes lie plainly in it.

A contiguous column is an array over the map: reading it is a copy from the page cache. In a column of
uncompressed chunks (stable-worldmodel's writer makes one of each frame), rows are found by a list of where
the chunks are, made once and kept in the user's cache folder. Any other column is read through h5py.
"""

import hashlib
import math
import mmap
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from h5py import h5d, h5f, h5z

from ..errors import UserError

# Of fewer chunks than this the list is made faster than a file is found.
CACHED_CHUNKS = 10_000
# Rows below this are copied together, larger ones each for itself.
SMALL_ROW = 512
# Chunk offsets that are not known: the chunk was never written.
NOWHERE = -1
# No column is so many times as large as its file, even of frames that are all black.
LARGEST_RATIO = 10_000


# What h5py raises where a file is damaged.
DAMAGED = (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)


class Column(Protocol):
    """Rows of one shape and dtype, N of them; indexed by a slice, `...` or whole numbers of any shape."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, rows: Any) -> Any: ...


class FileMap:
    """A file's bytes as an array (size,) uint8 that is paged in as it is read, and never written."""

    def __init__(self, path: Path):
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes = np.frombuffer(self._map, np.uint8)
        # HDF5's signature stands first, unless a block of the user's shifts every offset.
        self.shifted = self._map[:4] != b"\x89HDF"

    def release(self) -> None:
        """Stop counting its pages as this process's own; they stay in the page cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Bytes from `offset` on as an array.

        Raises:
            ValueError: the file ends before it does.
        """
        size = math.prod(shape) * dtype.itemsize
        if offset + size > len(self.bytes):
            raise ValueError(f"a column of {size} bytes at {offset} reaches past the end of the file")
        return self.bytes[offset : offset + size].view(dtype).reshape(shape)


def allow_open_files(count: int) -> None:
    """A memory map holds its file open: raise the process's own limit where it is too low."""
    try:
        import resource
    except ImportError:
        return  # no such limit on this system
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 256
    if soft < needed and (hard == resource.RLIM_INFINITY or needed <= hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def column(file: h5py.File, name: str, dataset: h5d.DatasetID, mapped: FileMap) -> Column:
    """The fastest way to read a dataset of `file`, whose bytes are `mapped`.

    Raises:
        UserError: it is compressed by a method that h5py lacks here.
        ValueError: its bytes are not all in the file, or can't be.
    """
    offset, dtype, shape = dataset.get_offset(), dataset.dtype, dataset.shape
    size = math.prod(shape or ()) * dtype.itemsize
    if size > LARGEST_RATIO * len(mapped.bytes):
        raise ValueError(f"column {name} says that it has {size} bytes, the file has {len(mapped.bytes)}")
    # A link may lead into another file.
    elsewhere = h5f.get_name(dataset) != h5f.get_name(file.id)
    # Text of free length lies elsewhere in the file: its rows here are only pointers.
    if dtype.hasobject or not size or mapped.shifted or elsewhere:
        return ThroughHDF5(file[name])
    if offset is not None:
        return mapped.array(offset, shape, dtype)
    properties = dataset.get_create_plist()
    filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    if filters:
        _need_filters(file.filename, name, filters)
    plain = properties.get_layout() == h5d.CHUNKED and not filters
    if plain and properties.get_chunk()[1:] == dataset.shape[1:]:
        return ChunkedRows(file[name], mapped)
    return ThroughHDF5(file[name])


def _need_filters(path: str, name: str, filters: list[Any]) -> None:
    """Blosc and its like are plug-ins, which the package hdf5plugin registers when it is imported."""
    for number, _, _, label in filters:
        if not h5z.filter_avail(number):
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401
        if not h5z.filter_avail(number):
            raise UserError(
                f"{path}: column {name} is compressed with filter {number} ({label.decode() or 'unnamed'}), "
                "which h5py lacks here; `pip install hdf5plugin` brings it"
            )


@contextmanager
def told(dataset: h5py.Dataset) -> Iterator[None]:
    """Whatever reading a damaged file raises as one UserError that names file and column."""
    try:
        yield
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        name = dataset.name.removeprefix("/")
        raise UserError(f"{dataset.file.filename}: column {name} can't be read ({reason})") from None


class ThroughHDF5:
    """A column that only the HDF5 library can read: compressed, or in chunks of part rows.

    Reading it raises UserError where the file is damaged.
    """

    def __init__(self, dataset: h5py.Dataset):
        self._dataset = dataset
        # A dataset of nothing at all has no shape.
        self.shape, self.dtype = dataset.shape or (), dataset.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        with told(self._dataset):
            if isinstance(rows, slice) or rows is Ellipsis:
                return self._dataset[rows]
            # h5py wants increasing row numbers, each once.
            unique, where = np.unique(rows, return_inverse=True)
            return self._dataset[unique][where.reshape(np.shape(rows))]


class ChunkedRows:
    """A column of uncompressed chunks, each of one or more whole rows.

    Reading it raises UserError where the file is damaged.
    """

    def __init__(self, dataset: h5py.Dataset, mapped: FileMap):
        self.shape, self.dtype = dataset.shape, dataset.dtype
        self._dataset, self._map = dataset, mapped
        self._row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        self._chunk_rows = dataset.chunks[0]
        self._chunks: np.ndarray | None = None

    def __getitem__(self, rows: Any) -> np.ndarray:
        if rows is Ellipsis:
            rows = slice(None)
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(self.shape[0]))
        shape = (*np.shape(rows), *self.shape[1:])
        if self._chunks is None:
            # Only now: a column that nobody reads is never listed.
            with told(self._dataset):
                self._chunks = chunk_offsets(self._dataset, len(self._map.bytes))
        chunk, within = np.divmod(np.ravel(rows), self._chunk_rows)
        starts = self._chunks[chunk]
        if (starts == NOWHERE).any():
            return ThroughHDF5(self._dataset)[rows]
        starts = starts + within * self._row_bytes
        source, size = self._map.bytes, self._row_bytes
        if size < SMALL_ROW:
            flat = source[starts[:, None] + np.arange(size)]
        else:
            flat = np.empty((len(starts), size), np.uint8)
            for row, start in zip(flat, starts.tolist(), strict=True):
                row[:] = source[start : start + size]
        return flat.view(self.dtype).reshape(shape)


def chunk_offsets(dataset: h5py.Dataset, file_size: int) -> np.ndarray:
    """Where in the file each chunk of rows begins, (chunks,) int64; NOWHERE for one that was never written.

    The list of many chunks takes seconds to make. It is kept in the user's cache folder, under the file's
    path, size and time of change, with its checksum as the last number.
    """
    rows = dataset.chunks[0]
    count = -(-dataset.shape[0] // rows)
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    kept = None
    if count >= CACHED_CHUNKS:
        # Nobody's home folder, or no such file any more: then nothing is kept.
        with suppress(OSError, RuntimeError):
            kept = _cache_file(Path(dataset.file.filename), dataset.name)
    if kept is not None:
        with suppress(OSError, ValueError, EOFError), open(kept, "rb") as opened:
            held = np.lib.format.read_array(opened, allow_pickle=False)
            offsets = held[:-1]
            whole = (
                held.shape == (count + 1,) and held.dtype == np.int64 and held[-1] == zlib.crc32(offsets.data)
            )
            if whole and _inside(offsets, size, file_size):
                return offsets
    offsets = np.full(count, NOWHERE, np.int64)

    def note(chunk: h5d.StoreInfo) -> None:
        offsets[chunk.chunk_offset[0] // rows] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    if not _inside(offsets, size, file_size):
        raise OSError(f"chunks of {dataset.name} lie past the end of the file")
    if kept is not None:
        # A cache folder that can't be written costs time, nothing else.
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
            with open(temporary, "wb") as file:
                np.save(file, np.append(offsets, zlib.crc32(offsets.data)))
            temporary.replace(kept)
    return offsets


def _inside(offsets: np.ndarray, size: int, file_size: int) -> bool:
    return bool(offsets.min() >= NOWHERE and offsets.max() + size <= file_size)


def _cache_file(path: Path, name: str) -> Path:
    about = path.stat()
    key = f"{path.resolve()}|{about.st_size}|{about.st_mtime_ns}|{name}"
    return cache_folder() / "chunks" / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.npy"


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again; XDG_CACHE_HOME, or the system's custom."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "worldjepa"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "worldjepa"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "worldjepa" / "cache"
    return Path.home() / ".cache" / "worldjepa"
