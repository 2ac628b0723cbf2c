"""Models that come with the package: a folder each, with its configuration, its weights and its card."""

import os
import shutil
from importlib.resources import as_file, files
from pathlib import Path

SUFFIX = "-pretrained"


def pretrained() -> list[str]:
    """What commands call them: the recipe that each was trained by, and the suffix."""
    folders = files(__name__).iterdir()
    return sorted(f"{f.name}{SUFFIX}" for f in folders if f.is_dir() and (f / "config.yaml").is_file())


def configuration(name: str) -> str:
    """The text of its config.yaml: how it was trained, and on which new data it is evaluated."""
    return (files(__name__) / name.removesuffix(SUFFIX) / "config.yaml").read_text("utf-8")


def unpack(name: str, run: Path) -> None:
    """Make the run folder of a model, whole or not at all; one that is there stays as it is.

    Raises:
        OSError: it can't be written, or is a folder that holds something else.
    """
    if (run / "config.yaml").exists():
        return
    # "." has no name.
    run = run.resolve()
    with as_file(files(__name__) / name.removesuffix(SUFFIX)) as source:
        step = (source / "step").read_text("utf-8").strip()
        temporary = run.with_name(f".{run.name}.{os.getpid()}.tmp")
        checkpoint = temporary / "checkpoints" / step
        try:
            checkpoint.mkdir(parents=True)
            shutil.copyfile(source / "model.safetensors", checkpoint / "model.safetensors")
            for file in ("config.yaml", "card.md"):
                shutil.copyfile(source / file, temporary / file)
            os.replace(temporary, run)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            # Another process may have been quicker.
            if not (run / "config.yaml").exists():
                raise OSError(error.errno, error.strerror, str(run)) from None
