"""Every option by its dotted name: what there is, what it means, in which two configurations differ."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from .config import Config


def describe() -> list[tuple[str, str, str]]:
    """(dotted name, default, meaning) of every option, in the order of `worldjepa.config`."""
    rows = []
    for name, option in options().items():
        default = option.default if isinstance(option.default, str) else json.dumps(option.default)
        rows.append((name, default, option.metadata["meaning"]))
    return rows


def differences(one: Config, other: Config) -> list[str]:
    """Each option in which two configurations differ, as "name: a, now b"."""
    left, right = (leaves(dataclasses.asdict(c)) for c in (one, other))
    return [f"{key}: {left[key]}, now {right[key]}" for key in left if left[key] != right[key]]


@functools.cache
def options() -> Mapping[str, dataclasses.Field]:
    """Every option by its dotted name."""
    return _fields(Config)


def _fields(group: Any, prefix: str = "") -> dict[str, dataclasses.Field]:
    rows: dict[str, dataclasses.Field] = {}
    for f in dataclasses.fields(group):
        name = prefix + f.name
        rows |= _fields(f.type, f"{name}.") if dataclasses.is_dataclass(f.type) else {name: f}
    return rows


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of options as one level of dotted names."""
    rows: dict[str, Any] = {}
    for key, value in values.items():
        rows |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return rows
