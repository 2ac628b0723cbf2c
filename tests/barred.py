"""Where nothing can be written: a disk that is full, folders that may only be read."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """To who writes it, a file that may grow to no more than `size` bytes is on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """The folder and all in it, where nobody may write; where that bars nobody, the test is skipped."""
    modes = [(path, path.stat().st_mode) for path in (folder, *folder.rglob("*"))]
    for path, mode in modes:
        path.chmod(mode & ~0o222)
    try:
        if bound("-c", f"open({str(folder / 'new')!r}, 'w')").returncode == 0:
            pytest.skip("permissions do not apply here")
        yield folder
    finally:
        for path, mode in modes:
            path.chmod(mode)


def bound(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python, as somebody to whom the permissions of files apply, as they do not to root."""
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root without setpriv")
        prefix = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    return subprocess.run([*prefix, sys.executable, *arguments], capture_output=True, text=True)
