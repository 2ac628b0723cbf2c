"""Files that are there whole or not at all, whatever stops their writer."""

import glob
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path`, of the same suffix, to write a file to, which then takes the place of `path`;
    where writing fails, it is removed. Of two processes that write the same, the later one's stays. What a
    killed process left there the next one on its machine removes.

    Raises:
        OSError: of `path`; it is as it was.
    """
    mine = f".new-{platform.node()}-"
    for left in path.parent.glob(f"{mine}*-{glob.escape(path.name)}"):
        pid = left.name.removeprefix(mine).partition("-")[0]
        if pid.isdecimal() and not _runs(int(pid)):
            with suppress(OSError):
                left.unlink()
    temporary = path.with_name(f"{mine}{os.getpid()}-{path.name}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise


def _runs(pid: int) -> bool:
    """Whether there is such a process on this machine; where that can't be asked, as if there were."""
    try:
        # On Windows this would end it.
        if os.name == "posix":
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """UTF-8, whole or not at all. Raises OSError."""
    with whole(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """NumPy's .npz, compressed, whole or not at all; its folder is made if missing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def sync(path: Path) -> None:
    """Ask the operating system to put a file or folder on the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
