"""Where a file comes from, and whether it is still what was written.

A file's attributes are `schema`, `about` (the options that it was collected with) and `versions` (of the
packages that made it), the last two JSON; a column's attribute `crc32` is the checksum of its bytes.
"""

import json
import zlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import h5py
import numpy as np

SCHEMA = 1
# Whose version may change what is collected.
MAKERS = ("worldjepa", "mujoco", "dm-control", "gymnasium", "numpy")


class Origin(NamedTuple):
    """Where data come from: the options that they were collected with, and versions of the packages."""

    about: dict[str, Any]
    versions: dict[str, str]


def made_here(about: dict[str, Any]) -> Origin:
    """Of data made now, with the packages that are installed."""
    versions = {}
    for package in MAKERS:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return Origin(about, versions)


def describe(file: h5py.File, origin: Origin) -> None:
    """The attributes of a file that is written here."""
    file.attrs["schema"] = SCHEMA
    file.attrs["about"] = json.dumps(origin.about, sort_keys=True)
    file.attrs["versions"] = json.dumps(origin.versions)


def checksum(values: np.ndarray, before: int = 0) -> np.uint32:
    """CRC-32 of a column's bytes, in the file's order, going on from that of the rows before."""
    if values.dtype.hasobject:
        texts = (v if isinstance(v, bytes) else str(v).encode() for v in values.ravel())
        return np.uint32(zlib.crc32(b"".join(text + b"\0" for text in texts), before))
    return np.uint32(zlib.crc32(np.ascontiguousarray(values).data, before))
