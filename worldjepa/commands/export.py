"""`worldjepa export`: a trained model as programs that need torch, or an ONNX runtime, and nothing else."""

import io
import json
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim
from tqdm import tqdm

from ..config import Config, PlanConfig
from ..data.environments import is_bounded, make_env
from ..documents import Unreadable, from_json
from ..errors import UserError
from ..files import sync, write_text
from ..image_jepa import ImageJEPA
from ..planning.costs import COSTS
from ..run import Run
from ..tensor_files import checksum_of
from ..world_model import WorldModel

# How far outputs may be from the model's; where the largest of these is above 1, as a share of it.
TOLERANCE = 1e-5
ABOUT = "export.json"


class FrameEncoder(nn.Module):
    """Frames (B, H, W, 3) uint8 to latents (B, D), of an image model to features (B, F)."""

    def __init__(self, model: WorldModel | ImageJEPA):
        super().__init__()
        self.encoder = model.encoder
        self.projector = model.projector if isinstance(model, WorldModel) else nn.Identity()

    def forward(self, frames: Tensor) -> Tensor:
        return self.projector(self.encoder(frames))


class PlannerStep(nn.Module):
    """What a planner asks: where plans lead, and how far from the goal that is."""

    def __init__(self, model: WorldModel, cost: str):
        super().__init__()
        self.action_encoder, self.predictor, self.cost = model.action_encoder, model.predictor, COSTS[cost]

    def forward(self, seen: Tensor, past: Tensor, plans: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, T, D) seen, the action blocks (B, T-1, k·A) between them, S plans (B, S, H, k·A) and
        the goals' latents (B, D) to costs (B, S) and predicted latents (B, S, H, D)."""
        ahead = self.predictor.rollout(seen, self.action_encoder(past), self.action_encoder(plans))
        return self.cost((ahead - goal[:, None, None]).square().mean(-1)), ahead


# Sizes of the axes by name; a letter may be any number from 1.
Shapes = dict[str, tuple[int | str, ...]]


class Program(NamedTuple):
    """What becomes a file: a module, and the shapes of its inputs and outputs."""

    name: str
    module: nn.Module
    inputs: Shapes
    outputs: Shapes

    def example(self, sizes: dict[str, int]) -> tuple[Tensor, ...]:
        """Inputs in which the letters are these numbers, the same at every call."""
        draw = torch.Generator().manual_seed(0)
        shapes = {name: [sizes[n] if isinstance(n, str) else n for n in s] for name, s in self.inputs.items()}
        return tuple(
            torch.randint(256, shape, generator=draw, dtype=torch.uint8)
            if name == "frames"
            else torch.randn(shape, generator=draw)
            for name, shape in shapes.items()
        )


def run(config: Config) -> int:
    target, options = Run(config.run, config.checkpoint), config.export
    if options.onnx:
        _require_onnx()
    if config.plan.distance != "plain":
        raise UserError(f"plan.distance={config.plan.distance}: export writes plain distances alone")
    model = target.load_model().requires_grad_(False)
    for tensor in [*model.parameters(), *model.buffers()]:
        # Kernels may be channels-last, which is written with a warning.
        tensor.data = tensor.data.contiguous()
    about = _about(config, target, model)
    folder = Path(options.to) if options.to else target.path / "export" / target.chosen_checkpoint().name
    if not _is_there(folder, about):
        _write(folder, about, _programs(model, config.plan), options.onnx)
    print(*(folder / name for name in about["files"]), folder / ABOUT, sep="\n")
    return 0


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(f'export.onnx=true: {missing[0]} is missing; pip install "worldjepa[onnx]"')


def _programs(model: WorldModel | ImageJEPA, plan: PlanConfig) -> list[Program]:
    """The encoder; of a world model a planner's step for every number of frames that it may have seen."""
    frames: Shapes = {"frames": ("B", model.image_size, model.image_size, 3)}
    if isinstance(model, ImageJEPA):
        return [Program("encoder", FrameEncoder(model), frames, {"features": ("B", model.num_features)})]
    programs = [Program("encoder", FrameEncoder(model), frames, {"latent": ("B", model.latent)})]
    block, step = model.frameskip * model.action_dim, PlannerStep(model, plan.cost)
    for seen in range(1, model.context + 1):
        inputs: Shapes = {
            "seen": ("B", seen, model.latent),
            "past": ("B", seen - 1, block),
            "plans": ("B", "S", plan.horizon, block),
            "goal": ("B", model.latent),
        }
        outputs: Shapes = {"costs": ("B", "S"), "ahead": ("B", "S", plan.horizon, model.latent)}
        programs.append(Program(f"planner_{seen}", step, inputs, outputs))
    return programs


def _about(config: Config, target: Run, model: WorldModel | ImageJEPA) -> dict[str, Any]:
    """What ABOUT says: all that whoever runs the programs has to know."""
    kinds = ("pt2", "onnx") if config.export.onnx else ("pt2",)
    programs = _programs(model, config.plan)
    about: dict[str, Any] = {
        "run": config.name,
        "checkpoint": target.chosen_step(),
        "weights": checksum_of(target.chosen_checkpoint() / "model.safetensors"),
        "torch": torch.__version__,
        "files": [f"{program.name}.{kind}" for program in programs for kind in kinds],
        "programs": {
            program.name: {
                "inputs": {name: list(shape) for name, shape in program.inputs.items()},
                "outputs": {name: list(shape) for name, shape in program.outputs.items()},
            }
            for program in programs
        },
        "dtypes": {"frames": "uint8", "all others": "float32"},
        "latent": model.latent,
        "image_size": model.image_size,
    }
    if isinstance(model, WorldModel):
        low, high = _bounds(config, model.action_dim)
        about |= {
            "context": model.context,
            "horizon": config.plan.horizon,
            "cost": config.plan.cost,
            "frameskip": model.frameskip,
            "action_dim": model.action_dim,
            "actions": "a block is frameskip actions one after another, in the environment's units",
            "action_mean": model.action_encoder.mean.tolist(),
            "action_std": model.action_encoder.std.tolist(),
            "action_low": low,
            "action_high": high,
        }
    return about


def _bounds(config: Config, action_dim: int) -> tuple[list[float] | None, list[float] | None]:
    """Of an action, from the environment where it is here and its actions are the model's."""
    try:
        env = make_env(config.env)
    # A machine that can't draw raises a RuntimeError.
    except (UserError, RuntimeError) as error:
        print(f"{ABOUT} says no bounds of the actions: {error}")
        return None, None
    space = env.action_space
    env.close()
    if not is_bounded(space) or space.shape != (action_dim,):
        return None, None
    return space.low.tolist(), space.high.tolist()  # type: ignore[attr-defined]


def _is_there(folder: Path, about: dict[str, Any]) -> bool:
    """Whether the same has been exported already.

    Raises:
        UserError: the folder holds something else.
    """
    if not folder.exists():
        return False
    try:
        if from_json((folder / ABOUT).read_bytes()) == about:
            return True
    except (OSError, Unreadable):
        pass
    raise UserError(f"{folder}: is there already, and not this model's export; name another export.to=")


def _write(folder: Path, about: dict[str, Any], programs: list[Program], onnx: bool) -> None:
    """The folder, whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for program in tqdm(programs, desc="export", leave=False):
            path = temporary / f"{program.name}.pt2"
            exported = _exported(program)
            # By way of memory: where torch itself finds no space for it, it ends the process.
            written = io.BytesIO()
            torch.export.save(exported, written)
            path.write_bytes(written.getbuffer())
            _compare(program, path, torch.export.load(path).module())
            if onnx:
                path = path.with_suffix(".onnx")
                _write_onnx(exported, program, path)
                _compare(program, path, _onnx_runner(path))
        write_text(temporary / ABOUT, json.dumps(about, indent=1) + "\n")
        for file in temporary.iterdir():
            sync(file)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(folder.parent)


# Sizes that a program is made with, and others at which its outputs are compared.
MADE_WITH, COMPARED_AT = {"B": 2, "S": 3}, ({"B": 1, "S": 1}, {"B": 5, "S": 7})


def _exported(program: Program) -> torch.export.ExportedProgram:
    letters = {letter: Dim(letter) for letter in MADE_WITH}
    dynamic = {
        name: {axis: letters[str(size)] for axis, size in enumerate(shape) if size in letters}
        for name, shape in program.inputs.items()
    }
    with torch.no_grad():
        return torch.export.export(program.module, program.example(MADE_WITH), dynamic_shapes=dynamic)


def _write_onnx(exported: torch.export.ExportedProgram, program: Program, path: Path) -> None:
    # With a program torch wants neither example inputs nor shapes a second time.
    outputs = list(program.outputs)
    converted = torch.onnx.export(exported, dynamo=True, verbose=False, output_names=outputs)  # type: ignore[arg-type]
    assert converted is not None
    converted.save(path)


def _onnx_runner(path: Path) -> Callable[..., tuple[Tensor, ...]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(None, given))

    return run


@torch.no_grad()
def _compare(program: Program, path: Path, written: Callable[..., Any]) -> None:
    """What is on the disk gives what the model gives.

    Raises:
        UserError: it does not.
    """
    for sizes in COMPARED_AT:
        inputs = program.example(sizes)
        for ours, its in zip(*(_as_tuple(run(*inputs)) for run in (program.module, written)), strict=True):
            apart = (its - ours).abs().max() if its.shape == ours.shape else torch.inf
            if not apart <= TOLERANCE * max(1.0, ours.abs().max().item()):
                raise UserError(f"{path.name}: its outputs are not the model's; nothing is exported")


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
