"""Where a file comes from, and whether it is still what was written.

A file's attributes are `schema`, `about` (the options that it was collected with) and `versions` (of the
packages that made it), the last two JSON; a column's attribute `crc32` is the checksum of its bytes.
"""

import json
import zlib
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..documents import from_json

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


def said(file: h5py.File, name: str) -> dict[str, Any] | None:
    """The mapping that an attribute holds as JSON; what its `env`, with `variations`, and `collect` say are
    mappings too. None where there is no such attribute.

    Raises:
        ValueError: it holds something else.
    """
    if name not in file.attrs:
        return None
    tree = from_json(file.attrs[name])
    for group in (
        tree,
        *(_part(tree, part) for part in ("env", "collect")),
        _part(tree, "env", "variations"),
    ):
        if not isinstance(group, dict):
            raise ValueError(f"its attribute {name} says {tree!r:.100}")
    return tree


def _part(tree: Any, *names: str) -> Any:
    """What stands below these names; {} where nothing does."""
    for name in names:
        tree = tree.get(name, {}) if isinstance(tree, dict) else tree
    return tree


def whole_number(value: Any) -> int:
    """What an attribute says.

    Raises:
        ValueError: it is no whole number.
    """
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iu":
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def checksums(file: h5py.File, columns: Iterable[str]) -> dict[str, int]:
    """By name, of those columns that have one.

    Raises:
        ValueError: it is no whole number.
    """
    held = {name: file[name].attrs for name in columns}
    return {name: whole_number(about["crc32"]) for name, about in held.items() if "crc32" in about}


def checksum(values: np.ndarray, before: int = 0) -> np.uint32:
    """CRC-32 of a column's bytes, in the file's order, going on from that of the rows before."""
    if values.dtype.hasobject:
        texts = (v if isinstance(v, bytes) else str(v).encode() for v in values.ravel())
        return np.uint32(zlib.crc32(b"".join(text + b"\0" for text in texts), before))
    return np.uint32(zlib.crc32(np.ascontiguousarray(values).data, before))
