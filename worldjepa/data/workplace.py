"""Where data are written that are not whole yet: a folder apart, locked for as long as its maker lives."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

LIVE, MADE, LOCK = ".collect-", ".making-", "lock"
# For so long a folder that is being made has no lock yet.
SECONDS = 60


@contextlib.contextmanager
def workplace(folder: Path, option: str = "") -> Iterator[Path]:
    """A new folder inside a folder that data are written to, for one that writes; gone at its end.

    A killed collection leaves its folder, but not its lock, which the system takes back: what is found
    without a lock is removed here. Where the file system has no locks, nobody's folder is.

    Args:
        folder: made where it is missing.
        option: what named it, for the message; by default data.path.

    Raises:
        UserError: it can't be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left_overs(folder)
        place, lock = _make(folder)
    except OSError as error:
        raise UserError(f"{option or f'data.path={folder}'}: can't be written: {error.strerror}") from None
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)
        # Folders in which nothing came about: one that holds something stays, and those above it.
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


def _make(folder: Path) -> tuple[Path, int]:
    # Under a name that nobody looks for, until it is locked.
    made = Path(tempfile.mkdtemp(prefix=MADE, dir=folder))
    lock = os.open(made / LOCK, os.O_CREAT | os.O_RDWR)
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    return made.rename(folder / (LIVE + made.name.removeprefix(MADE))), lock


def remove_left_overs(folder: Path) -> None:
    """Remove the folders of collections that are dead."""
    for place in folder.glob(f"{MADE}*"):
        with contextlib.suppress(OSError):
            if time.time() - place.stat().st_mtime > SECONDS:
                shutil.rmtree(place, ignore_errors=True)
    for place in folder.glob(f"{LIVE}*"):
        # A lock that is held, or no locks at all: not ours to judge.
        with contextlib.suppress(OSError), open(place / LOCK, "rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(place, ignore_errors=True)
