"""`worldjepa train`: pretrain a world model on rollouts, or an encoder on images; goes on where it was."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import torch

from ..config import Config
from ..data.environments import make_env, variations
from ..data.image_sources import load_images
from ..data.images import Images
from ..data.mixture import together
from ..data.paths import only
from ..data.shards import Store
from ..data.views import MultiCrop
from ..data.windows import Windows, split_episodes
from ..distributed import in_turn, process_group, rank, world_size
from ..errors import UserError
from ..evaluation.dashboard import conclude
from ..evaluation.goals import require_goals, why_no_goals
from ..evaluation.image_watch import image_callbacks
from ..evaluation.watch import callbacks
from ..exclusive import exclusive
from ..files import write_text
from ..image_baselines import build_image_model
from ..image_jepa import ImageJEPA
from ..notation import paths
from ..run import Run
from ..tensor_files import load_into
from ..trainer import Batches, Callback, choose_device, choose_precision, train
from ..versions import versions
from ..world_baselines import build_world_model
from ..world_model import WorldModel


class Job(NamedTuple):
    """What is trained, on what, how much that is, and what is watched in the run folder that it gets."""

    model: WorldModel | ImageJEPA
    data: Batches
    size: str
    watch: Callable[[Run], list[Callback]]


def run(config: Config) -> int:
    with process_group():
        return _train(config)


def _train(config: Config) -> int:
    job = _image_job(config) if config.mode == "images" else _world_model_job(config)
    # What goes on has its weights, and needs the other run no more.
    if config.model.encoder.init and not any(Path(config.run, "checkpoints").glob("[0-9]*")):
        source, teacher = Run(config.model.encoder.init), getattr(job.model, "teacher", None)
        for encoder in (job.model.encoder, *(teacher.copies[:1] if teacher else ())):
            load_into(encoder, source.encoder_weights(), source.newest_checkpoint())

    # Named before the run folder is made, if it is wrong.
    choose_device(config.train)
    with exclusive(Path(config.run)) if rank() == 0 else nullcontext():
        return _train_in(in_turn(lambda: Run.create_or_open(config)), config, job)


def _train_in(target: Run, config: Config, job: Job) -> int:
    say = print if rank() == 0 else _nothing
    if rank() == 0 and not target.checkpoints():
        write_text(target.path / "about.json", json.dumps(_about(config, job), indent=1) + "\n")
    size = f"{parameters(job.model)} parameters, {job.size}"
    processes = f", {world_size()} processes" if world_size() > 1 else ""
    say(f"{target.path}: {size}{processes}; `worldjepa monitor` shows the run")
    try:
        stopped = train(job.model, job.data, config.train, target, job.watch(target))
    finally:
        told = conclude(target)
        target.close()
    if told and rank() == 0:
        print(f"{target.path}: {told}", file=sys.stderr)
    # Rank 0 may still be writing it, where another is.
    step = in_turn(lambda: int(target.newest_checkpoint().name))
    if stopped:
        say(f"{target.path}: stopped at step {step}; the same command goes on from there")
        # As a shell says it of a program that a signal ended: 130 after Ctrl-C, 143 after SIGTERM.
        return 128 + stopped
    say(f"{target.path}: trained, {step} steps")
    return 0


def _about(config: Config, job: Job) -> dict[str, Any]:
    """What a run begins with and its configuration does not say."""
    device = choose_device(config.train)
    return {
        "parameters": parameters(job.model),
        "data": job.size,
        "device": device.type,
        "precision": str(choose_precision(config.train, device)).removeprefix("torch."),
        "processes": world_size(),
        "versions": versions(),
    }


def _world_model_job(config: Config) -> Job:
    stores = [_open(config, path) for path in paths(config.data.path)]
    sides = [split_episodes(len(s.lengths), config.data.held_out, config.data.split_seed) for s in stores]
    action_dim = max(store.action_dim for store in stores)
    frames, frameskip = config.data.context + 1, config.data.frameskip
    parts = [Windows(store, side[0], frames, frameskip) for store, side in zip(stores, sides, strict=True)]
    windows = together(parts, action_dim)
    torch.manual_seed(config.train.seed)
    model = build_world_model(config, action_dim)
    model.set_action_statistics(*windows.action_statistics())
    # Goals are tried in the first data set's environment.
    env = _watched_env(config, stores[0])
    first, *others = ((store, side[1]) for store, side in zip(stores, sides, strict=True))
    size = f"{len(windows)} windows" + (f" of {len(stores)} data sets" if others else "")
    return Job(model, windows, size, lambda target: callbacks(target, config, env, *first, others))


def _image_job(config: Config) -> Job:
    images, others = open_images(config)
    torch.manual_seed(config.train.seed)
    if config.model.objective == "supervised" and images.labels is None:
        raise UserError(f"{images.source}: its images have no labels; model.objective=supervised needs them")
    model = build_image_model(config, images.num_classes)
    data = MultiCrop(images, config.images, choose_device(config.train))
    size = f"{len(images)} images"
    return Job(model, data, size, lambda target: image_callbacks(target, config, data, images, others))


def open_images(config: Config) -> tuple[Images, Images]:
    """Training images, and those that `images.test` names."""
    options, data = config.images, config.data
    split = data.held_out, data.split_seed
    train, test = load_images(options.data, options.root, options.size, *split)
    if options.test == "own":
        return train, test
    kept, others = (train.part(numbers) for numbers in split_episodes(len(train), *split))
    return kept, others


def open_store(config: Config) -> Store:
    """The one data set that is looked at, with frames of the size that the configuration says."""
    return _open(config, only(config.data.path))


def _open(config: Config, path: str) -> Store:
    store = Store(path)
    size = (config.env.image_size, config.env.image_size, 3)
    if store.image_shape != size:
        height, width, _ = store.image_shape
        raise UserError(
            f"{store.path}: frames are {height} × {width}, env.image_size={config.env.image_size}"
        )
    return store


def require_actions(model: WorldModel, store: Store, target: Run) -> None:
    """Raises UserError where the model does not take the data's actions."""
    if not model.takes(store.action_dim):
        raise UserError(
            f"{store.path}: an action has {store.action_dim} numbers, "
            f"the model of {target.path} takes {model.action_dim}"
        )


def data_env(config: Config, store: Store) -> gymnasium.Env:
    """The environment that the data come from; it, its actions, and what varies in it, must be the data's."""
    said = (store.about or {}).get("env", {})
    ids = str(said.get("id")), config.env.id
    if ids[0] != ids[1] and all(name.startswith("worldjepa.envs:") for name in ids):
        raise UserError(f"{store.path}: is of env.id={ids[0]}, here it is {ids[1]}; give the same")
    env = make_env(config.env)
    if said.get("id") == config.env.id and said.get("variations", {}) != variations(config.env):
        theirs, ours = (_told(v) for v in (said.get("variations", {}), variations(config.env)))
        raise UserError(f"{store.path}: was collected with {theirs}, here with {ours}; give the same")
    shape = env.action_space.shape
    if shape != (store.action_dim,):
        raise UserError(
            f"env.id={config.env.id}: an action has {shape[0] if shape else 0} numbers, "
            f"in {store.path} it has {store.action_dim}"
        )
    return env


def _told(varied: dict[str, str]) -> str:
    """Variations as they are written in a command."""
    return " ".join(f"env.variations.{kind}={text}" for kind, text in varied.items()) or "no env.variations"


def goal_env(config: Config, store: Store) -> Any:
    """The same with goals."""
    return require_goals(data_env(config, store))


def _watched_env(config: Config, store: Store) -> Any | None:
    """Where goals are tried while a model trains; None where that is not asked for, or can't be."""
    if not config.train.evaluate_goals:
        return None
    env = data_env(config, store)
    reason = why_no_goals(env) or ("" if store.has("state") else f"{store.path} has no column state")
    if not reason:
        return require_goals(env)
    print(f"no goals are tried while it trains: {reason}", file=sys.stderr)
    env.close()
    return None


def _nothing(text: str) -> None: ...


def parameters(model: torch.nn.Module) -> str:
    """How many, for people: "1.59M"."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M"
