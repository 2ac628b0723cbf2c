"""Which data set is meant, where `data.path` may name several."""

from ..errors import UserError
from ..notation import paths


def only(path: str) -> str:
    """The one data set that `data.path` names.

    Raises:
        UserError: it names several.
    """
    found = paths(path)
    if len(found) > 1:
        raise UserError(
            f"data.path={path}: {len(found)} data sets, of which one is needed here, as data.path={found[0]}"
        )
    return found[0]
