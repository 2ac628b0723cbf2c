"""Tensors on disk: written with a checksum, refused where damaged; nothing in such a file is executed."""

import errno
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import UserError

CHECKSUM = "crc32"


class Damaged(Exception):
    """Why a file can't be read, in a line."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """A safetensors file of tensors by name, with their checksum, and texts by name, among its metadata.

    Raises:
        OSError: it can't be written.
    """
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, {**(about or {}), CHECKSUM: _checksum(plain)})
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from None


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """A new folder with model.safetensors and trainer.pt, or none.

    Raises:
        UserError: it can't be written; a full disk is an error of another type to each library.
    """
    try:
        folder.mkdir(parents=True)
        write_tensors(folder / "model.safetensors", tensors)
        torch.save(state, folder / "trainer.pt")
    except (OSError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"{folder}: can't be written: {' '.join(str(error).split())[:200]}") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and the texts among its metadata.

    Raises:
        Damaged: it is not there or can't be read, or its tensors are not those that were written.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            about = file.metadata() or {}
        # Files of other programs have none.
        if about.get(CHECKSUM, same := _checksum(tensors)) != same:
            raise Damaged("not what was written (checksum)")
    except Damaged:
        raise
    except Exception as error:  # safetensors raises many kinds on damaged input
        raise Damaged(_line(error)) from None
    return tensors, about


def checksum_of(path: Path) -> str:
    """The checksum that a safetensors file says of itself; none where it says none or can't be read."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(CHECKSUM, "")
    except Exception:  # safetensors raises many kinds on damaged input
        return ""


def read_saved(path: Path) -> Any:
    """What torch.save wrote: tensors, numbers, texts and containers of them.

    Raises:
        Damaged: it is not there, can't be read, is not what was written, or holds more than that.
    """
    try:
        if zipfile.is_zipfile(path):
            # torch does not look at the checksums that it writes.
            with zipfile.ZipFile(path) as file:
                if part := file.testzip():
                    raise Damaged(f"{part} is not what was written (checksum)")
        with warnings.catch_warnings(action="ignore"):
            # Of kinds of tensor that no state here holds.
            return torch.load(path, map_location="cpu", weights_only=True)
    except Damaged:
        raise
    except Exception as error:  # torch.load raises many kinds on damaged input
        raise Damaged(_line(error)) from None


def load_into(model: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Load weights that must fit exactly and be finite; UserError names the first that does not."""
    for name, own in model.state_dict().items():
        if name in weights and weights[name].is_floating_point() != own.is_floating_point():
            raise UserError(f"{source}: of another model: {name} is {weights[name].dtype}, not {own.dtype}")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{source}: of another model: {str(error).splitlines()[-1].strip()}") from None
    for name, own in model.state_dict().items():
        if not own.isfinite().all():
            raise UserError(f"{source}: damaged: {name} has a number that is not finite")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of their bytes in the order of their names."""
    crc = 0
    for name in sorted(tensors):
        data = tensors[name].detach().cpu().contiguous().flatten()
        crc = zlib.crc32(data.view(torch.uint8).numpy().data, crc)
    return str(crc)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
