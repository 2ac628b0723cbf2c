"""A folder that one process at a time works in."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keeps a second training out of a run folder, which is made where it is missing.

    The lock is the system's, on the folder itself: no file is left, and a killed process holds nothing. Where
    the file system has no locks nobody is kept out.

    Raises:
        UserError: another process works in it, or it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"run={folder}: can't be written: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            raise UserError(
                f"run={folder}: another `worldjepa train` is at work there; name another"
            ) from None
    try:
        yield
    finally:
        os.close(handle)
