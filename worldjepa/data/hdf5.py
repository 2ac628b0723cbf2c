"""New HDF5 files, where there may be no space for them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


@contextmanager
def new_hdf5(path: Path, libver: str | tuple[str, str]) -> Iterator[h5py.File]:
    """An HDF5 file, to be written from the beginning.

    Args:
        libver: of h5py.File, the format's version or its bounds.

    Raises:
        OSError: the disk is full, or what else the operating system says.
    """
    with _Patient(path, "w+") as raw:
        try:
            with h5py.File(raw, "w", libver=libver) as file:
                yield file
        finally:
            # What HDF5 makes of bytes that it finds no more comes second.
            if raw.error is not None:
                raise raw.error from None


class _Patient(io.FileIO):
    """A file that takes whatever is written after its first error, and keeps that error: HDF5 (1.14) crashes
    the process where it can't write what it has left at closing."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and self.error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0
