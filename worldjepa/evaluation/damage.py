"""Results that are on disk and not as this version writes them."""

import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from numpy.exceptions import ComplexWarning

from ..documents import OTHER_FORM
from ..errors import UserError

# What reading an npz raises beside these.
NO_ARRAYS = (EOFError, zipfile.BadZipFile, zlib.error)


@contextmanager
def told_from(path: Path) -> Iterator[None]:
    """Whatever telling and drawing a result raises because of what stands in it, as one UserError.

    Args:
        path: the result, evaluation/NAME.json; a NAME.npz beside it is of it, too.
    """
    try:
        with warnings.catch_warnings():
            # Of complex numbers the real half would be drawn.
            warnings.simplefilter("error", ComplexWarning)
            yield
    except (*OTHER_FORM, *NO_ARRAYS, ComplexWarning) as error:
        reason = " ".join(str(error).split())[:100]
        files = " or ".join(str(file) for file in (path, path.with_suffix(".npz")) if file.exists())
        raise UserError(
            f"{files}: damaged, or of another version ({type(error).__name__}: {reason}); "
            "move it away, and the same command makes it anew"
        ) from None
