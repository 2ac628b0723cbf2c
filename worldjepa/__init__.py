"""JEPA world models from pixels: trained with SIGReg, used by planning in latent space."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .image_jepa import ImageJEPA
    from .world_model import WorldModel

__all__ = ["load"]


def load(run: "str | Path", device: str = "cpu") -> "WorldModel | ImageJEPA":
    """The model of a run folder at its newest checkpoint, in evaluation mode: what its `mode` says.

    Args:
        run: the folder.
        device: where to put it.

    Raises:
        worldjepa.errors.UserError: the folder holds no whole run.
    """
    from .run import Run

    return Run(run).load_model(device)
