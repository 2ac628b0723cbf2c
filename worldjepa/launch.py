"""What a launcher (torchrun) tells each process in its environment."""

import os

from .errors import UserError


def launched(name: str, alone: int) -> int:
    """The whole number in an environment variable as RANK, WORLD_SIZE or MASTER_PORT.

    Args:
        alone: what it is where nothing set it: of one process on its own.

    Raises:
        UserError: it is set to no whole number of at least 0.
    """
    text = os.environ.get(name, str(alone))
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{name}={text}: no whole number; start with torchrun, or unset {name}")
    return int(text)
