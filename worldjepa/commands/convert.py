"""`worldjepa convert`: published LeWorldModel weights into a run folder, to be planned with or trained on."""

from pathlib import Path

import numpy as np
from torch import Tensor

from ..config import Config
from ..errors import UserError
from ..lewm_weights import from_lewm
from ..run import Run
from ..tensor_files import Damaged, load_into, read_saved, read_tensors
from ..trainer import initial_state
from ..world_model import WorldModel
from .train import parameters


def run(config: Config) -> int:
    if not config.convert.weights:
        raise UserError("convert.weights: name the file with the weights, as in convert.weights=lewm.pt")
    path = Path(config.convert.weights)
    weights = _ours(path, read_state(path))
    width, frameskip = weights["action_encoder.mlp.0.weight"].shape[1], config.data.frameskip
    if width % frameskip or not width:
        raise UserError(
            f"{path}: takes action blocks of {width} numbers; data.frameskip={frameskip} does not divide that"
        )
    model = WorldModel(config, action_dim=width // frameskip)
    mean, std = (_numbers(config, name, model.action_dim) for name in ("action_mean", "action_std"))
    model.set_action_statistics(mean, std)
    load_into(model, model.state_dict() | weights, path)
    target = Run.create_or_open(config)
    if target.checkpoints():
        raise UserError(f"{target.path}: has checkpoints already; name another run=")
    target.save_checkpoint(model, initial_state(model, config.train), keep=1)
    print(f"{target.path}: {parameters(model)} parameters from {path}")
    return 0


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, or one that torch.save wrote; nothing in it is executed.

    Raises:
        UserError: it is not there, damaged, or holds more than a state dict.
    """
    if not path.is_file():
        raise UserError(f"convert.weights={path}: no such file")
    try:
        state = read_tensors(path)[0] if path.suffix == ".safetensors" else read_saved(path)
    except Damaged as error:
        raise UserError(
            f"convert.weights={path}: damaged, or holds more than tensors, which is not loaded ({error}); "
            "what is wanted is torch.save(model.state_dict(), ...)"
        ) from None
    if isinstance(state, dict):
        # As Lightning writes it, beside the optimizer's.
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"convert.weights={path}: holds no state dict, tensors by name")
    return state


def _ours(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`from_lewm`; UserError where tensors have other names or shapes than LeWM's."""
    try:
        return from_lewm(state)
    except UserError as error:
        raise UserError(f"convert.weights={path}: {error}") from None
    except (RuntimeError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"convert.weights={path}: no LeWM weights: of other shapes ({reason})") from None


def _numbers(config: Config, name: str, count: int) -> np.ndarray:
    """`count` numbers from an option that gives one for all, or one for each with commas between."""
    text = getattr(config.convert, name)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if (
        len(numbers) not in (1, count)
        or not np.isfinite(numbers).all()
        or (name == "action_std" and min(numbers) <= 0)
    ):
        raise UserError(f"convert.{name}={text}: is one number, or {count} with commas between")
    return np.full(count, numbers, np.float32)
