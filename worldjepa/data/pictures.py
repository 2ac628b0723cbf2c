"""Picture files that others may have made: which are opened, and what a damaged one raises."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

# What PIL raises, of which its documentation names the first.
DAMAGED_PICTURE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError,
    RuntimeError, MemoryError, struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


@contextmanager
def opened(file: Path | BytesIO) -> Iterator[Image.Image]:
    """A picture, not yet decoded. Of one whose header says that it is enormous, no memory is taken.

    Raises:
        DAMAGED_PICTURE: it is none, or is damaged; decoding it may raise them, too.
    """
    with (
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
        Image.open(file) as image,
    ):
        yield image
