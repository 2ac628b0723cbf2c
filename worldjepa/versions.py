"""Which versions of what a run, or a report of a bug, depends on."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "worldjepa",
    "torch",
    "numpy",
    "gymnasium",
    "mujoco",
    "dm-control",
    "timm",
    "h5py",
    "tensorboard",
    "omegaconf",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed, by name."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
