"""A run folder, which is all that using a run needs: configuration, metrics, checkpoints, evaluation."""

import io
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from .config import Config
from .data.paths import only
from .distributed import rank
from .documents import Unreadable, from_json
from .errors import UserError
from .files import sync, whole, write_text
from .image_baselines import build_image_model
from .image_jepa import ImageJEPA
from .metric_log import NoWriter, read_metrics
from .notation import data_name, paths
from .options import differences, leaves
from .recipes import load_config, to_yaml
from .tensor_files import Damaged, checksum_of, load_into, read_saved, read_tensors, write_checkpoint
from .world_baselines import build_world_model
from .world_model import WorldModel

# Options that may change when a run goes on: they change neither the weights nor what the data are.
FREE_OPTIONS = (
    "name", "run", "checkpoint", "collect.", "store.", "plan.", "probe.", "surprise.", "decode.", "geometry.",
    "convert.", "export.", "monitor.", "env.protocol", "data.path", "images.root", "train.log_every",
    "train.evaluate", "train.checkpoint", "train.device", "train.threads", "train.prefetch",
    "train.keep", "train.compile", "train.fused", "train.channels_last", "train.recompute", "train.profile",
)  # fmt: skip


class Run:
    """A run folder that exists. Of several ranks the first alone writes; the others' writing does nothing.

    Args:
        path: the folder.
        checkpoint: which one is chosen, newest, best or a step.
        data: the data set that it is looked at with; of a run on several each has a folder in evaluation/.

    Attributes:
        latest: the scalars logged last, by name.

    Raises:
        UserError: it is no run folder, or `data` is several data sets.
    """

    def __init__(self, path: str | Path, checkpoint: str = "newest", data: str = ""):
        self.path, self.choice = Path(path), checkpoint
        if not self.path.is_dir():
            raise UserError(f"{path}: no run there; `worldjepa train` makes one")
        self.config = load_config(f"{self.path}/")
        self.evaluation, self._events = self.path / "evaluation", self.path
        # What is found on one of its data sets must not pass for what is found on another.
        if data and len(paths(self.config.data.path)) > 1:
            self.evaluation = self._events = self.evaluation / data_name(only(data))
        self.latest: dict[str, float] = {}
        self._writer: SummaryWriter | None = None

    @classmethod
    def create_or_open(cls, config: Config) -> "Run":
        """The run that `config.run` names, made if it is not there, begun anew if it has no checkpoint.

        Raises:
            UserError: it has been trained with other options; or it can't be written.
        """
        path = Path(config.run)
        if rank() > 0:
            return cls(path)
        if (path / "config.yaml").exists():
            run = cls(path)
            changed = [d for d in differences(run.config, config) if not d.startswith(FREE_OPTIONS)]
            if not changed:
                return run
            if run.checkpoints():
                raise UserError(
                    f"{path}: was begun with other options ({'; '.join(changed)}); name another run="
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / "config.yaml", to_yaml(config))
        except OSError as error:
            raise UserError(f"run={path}: can't be written: {error.strerror}") from None
        return cls(path)

    # Metrics

    @property
    def writer(self) -> SummaryWriter:
        """TensorBoard's writer; the first use makes a new events file."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self._events)) if rank() == 0 else NoWriter()
        return self._writer

    def log(self, step: int, scalars: dict[str, float]) -> None:
        """One line of metrics.jsonl, and the same numbers to TensorBoard."""
        if rank() > 0:
            return
        self.latest |= scalars
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, as of `read_metrics`."""
        return read_metrics(self.path / "metrics.jsonl")

    def forget_after(self, step: int) -> None:
        """Drop what was logged after `step`: a resumed run logs it again."""
        if rank() > 0:
            return
        kept = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(kept))
        self.close()
        self._writer = SummaryWriter(str(self.path), purge_step=step + 1)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # Checkpoints

    def checkpoints(self) -> list[Path]:
        """Folders of whole checkpoints, oldest first; the name is the step."""
        folders = (self.path / "checkpoints").glob("[0-9]*")
        return sorted(p for p in folders if p.is_dir() and p.name.isdecimal())

    def save_checkpoint(self, model: nn.Module, state: dict[str, Any], keep: int = 0, name: str = "") -> Path:
        """Write weights and trainer state, whole or not at all; UserError where they can't be written.

        Args:
            state: the trainer's; holds "step"; tensors, numbers, strings and containers of them only.
            keep: of the checkpoints that are called after their step the newest so many stay; 0: all.
            name: what it is called in place of the step.
        """
        folder = self.path / "checkpoints"
        final = folder / (name or f"{state['step']:08d}")
        if rank() > 0:
            return final
        for left_over in folder.glob(".*.tmp"):
            shutil.rmtree(left_over)
        temporary = folder / f".{final.name}.tmp"
        write_checkpoint(temporary, model.state_dict(), state)
        for file in temporary.iterdir():
            sync(file)
        if final.exists():
            _remove(final)
        os.replace(temporary, final)
        sync(folder)
        for old in self.checkpoints()[:-keep] if keep else []:
            _remove(old)
        return final

    def save_failure(self, name: str, values: dict[str, Any]) -> Path:
        """Write what a step that failed had, on any rank, for `torch.load`: failures/`name`.pt."""
        path = self.path / "failures" / f"{name}.pt"
        path.parent.mkdir(exist_ok=True)
        written = io.BytesIO()
        torch.save(values, written)
        with whole(path) as temporary:
            temporary.write_bytes(written.getbuffer())
        return path

    def load_weights(self, checkpoint: Path) -> dict[str, torch.Tensor]:
        """Raises UserError where the file is damaged."""
        try:
            return read_tensors(checkpoint / "model.safetensors")[0]
        except Damaged as error:
            raise UserError(f"{checkpoint}: damaged ({error}); remove it, and an older one serves") from None

    def load_trainer_state(self, checkpoint: Path) -> dict[str, Any]:
        """Raises UserError where the file is damaged; nothing in it is executed."""
        try:
            state = read_saved(checkpoint / "trainer.pt")
            if not isinstance(state, dict) or not isinstance(state.get("step"), int):
                raise Damaged("holds no trainer's state")
        except Damaged as error:
            raise UserError(f"{checkpoint}: damaged ({error}); remove it, and an older one serves") from None
        return state

    def newest_checkpoint(self) -> Path:
        """Raises UserError where there is none yet."""
        checkpoints = self.checkpoints()
        if not checkpoints:
            raise UserError(f"{self.path}: has no checkpoint yet; `worldjepa train {self.path}` makes one")
        return checkpoints[-1]

    def chosen_checkpoint(self) -> Path:
        """Raises UserError where it is not there."""
        if self.choice == "newest":
            return self.newest_checkpoint()
        name = self.choice if self.choice == "best" else f"{int(self.choice):08d}"
        checkpoint = self.path / "checkpoints" / name
        if not checkpoint.is_dir():
            there = ", ".join(str(int(path.name)) for path in self.checkpoints()) or "none"
            raise UserError(f"checkpoint={self.choice}: {self.path} has no such one; by steps it has {there}")
        return checkpoint

    def chosen_step(self) -> int:
        """After which step the chosen checkpoint was saved."""
        checkpoint = self.chosen_checkpoint()
        if checkpoint.name.isdecimal():
            return int(checkpoint.name)
        return int(self.load_trainer_state(checkpoint)["step"])

    def load_model(self, device: str | torch.device = "cpu") -> WorldModel | ImageJEPA:
        """The model at the chosen checkpoint, of the kind that `mode` says, in evaluation mode.

        Raises:
            UserError: there is no checkpoint, or it is damaged or of another model.
        """
        images = self.config.mode == "images"
        return self.load_image_model(device) if images else self.load_world_model(device)

    def load_world_model(self, device: str | torch.device = "cpu") -> WorldModel:
        """As `load_model`, where nothing but a world model will do."""
        checkpoint = self.chosen_checkpoint()
        weights = self.load_weights(checkpoint)
        if "action_encoder.mean" not in weights:
            raise UserError(f"{checkpoint}: holds no world model")
        model = build_world_model(self.config, action_dim=len(weights["action_encoder.mean"]))
        load_into(model, weights, checkpoint)
        return model.to(device).eval()

    def load_image_model(self, device: str | torch.device = "cpu") -> ImageJEPA:
        """As `load_model`, where nothing but an image encoder will do."""
        checkpoint = self.chosen_checkpoint()
        if self.config.mode != "images":
            raise UserError(f"{checkpoint}: of mode={self.config.mode}, not images")
        weights = self.load_weights(checkpoint)
        # The last bias of the projector: of a supervised model one for each class.
        classes = max((len(w) for name, w in weights.items() if name == "projector.0.bias"), default=0)
        model = build_image_model(self.config, classes)
        load_into(model, weights, checkpoint)
        return model.to(device).eval()

    def encoder_weights(self) -> dict[str, torch.Tensor]:
        """Weights of the encoder at the newest checkpoint, for another model that begins with them.

        Raises:
            UserError: there is no checkpoint, or it is damaged.
        """
        weights = self.load_weights(self.newest_checkpoint())
        prefix = "encoder."
        return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}

    def result(self, name: str, about: dict[str, Any]) -> dict[str, Any] | None:
        """evaluation/`name`.json, if it is there and says of itself what `about` says."""
        try:
            values = from_json((self.evaluation / f"{name}.json").read_bytes())
        except (OSError, Unreadable):
            return None
        same = isinstance(values, dict) and all(values.get(key) == value for key, value in about.items())
        return values if same else None

    def about(self, config: Config, options: Any) -> dict[str, Any]:
        """What a command's result says of itself, `options` its part of `config`; of others it is another."""
        images, trained_on = self.config.mode == "images", _looked_at(self.config)
        return {
            "options": asdict(options),
            "data_path": config.images.data if images else config.data.path,
            **({"test": config.images.test} if images else {}),
            "checkpoint": self.chosen_step(),
            # A run that was trained anew may have the same steps.
            "weights": checksum_of(self.chosen_checkpoint() / "model.safetensors"),
            # Options of what is looked at that are not the training's.
            "otherwise": {name: v for name, v in _looked_at(config).items() if v != trained_on[name]},
        }

    def write_json(self, name: str, values: Any) -> Path:
        """evaluation/`name`.json, whole or not at all."""
        self.evaluation.mkdir(parents=True, exist_ok=True)
        path = self.evaluation / f"{name}.json"
        write_text(path, json.dumps(values, indent=1) + "\n")
        return path


def _looked_at(config: Config) -> dict[str, Any]:
    # But for the goals' protocol, which is one of the command's options.
    data = {name: getattr(config.data, name) for name in ("held_out", "split_seed", "frameskip", "context")}
    values = leaves({"env": asdict(config.env), "data": data})
    del values["env.protocol"]
    return values


def _remove(checkpoint: Path) -> None:
    """Renamed first: a kill half-way leaves nothing that looks like a checkpoint."""
    shutil.rmtree(checkpoint.rename(checkpoint.with_name(f".{checkpoint.name}.old.tmp")))
