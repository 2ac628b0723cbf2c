"""`worldjepa train`: pretrain a world model on collected rollouts; goes on where it was."""

from typing import Any

import torch

from ..config import Config
from ..data.collect import make_env
from ..data.shards import Store
from ..data.windows import Windows, split_episodes
from ..errors import UserError
from ..evaluation.goals import require_goals
from ..evaluation.watch import callbacks
from ..run import Run
from ..trainer import choose_device, train
from ..world_model import WorldModel


def run(config: Config) -> int:
    store = open_store(config)
    training, held_out = split_episodes(len(store.lengths), config.data.held_out, config.data.split_seed)
    windows = Windows(store, training, config.data.context + 1, config.data.frameskip)
    torch.manual_seed(config.train.seed)
    model = WorldModel(config, store.action_dim)
    model.set_action_statistics(*windows.action_statistics())
    env = goal_env(config, store) if config.train.evaluate_goals else None

    # Named before the run folder is made, if it is wrong.
    choose_device(config.train)
    target = Run.create_or_open(config)
    size = f"{parameters(model)} parameters, {len(windows)} windows"
    print(f"{target.path}: {size}; `worldjepa monitor` shows the run")
    try:
        ended = train(model, windows, config.train, target, callbacks(target, config, env, store, held_out))
    finally:
        target.close()
    step = int(target.checkpoints()[-1].name)
    if not ended:
        print(f"{target.path}: stopped at step {step}; the same command goes on from there")
        return 130
    print(f"{target.path}: trained, {step} steps")
    return 0


def open_store(config: Config) -> Store:
    """The data, with frames of the size that the configuration says."""
    store = Store(config.data.path)
    size = (config.env.image_size, config.env.image_size, 3)
    if store.image_shape != size:
        height, width, _ = store.image_shape
        raise UserError(
            f"{store.path}: frames are {height} × {width}, env.image_size={config.env.image_size}"
        )
    return store


def goal_env(config: Config, store: Store) -> Any:
    """The environment that the data come from, with goals; its actions must be the data's."""
    env = require_goals(make_env(config.env))
    dim = env.action_space.shape[0]
    if dim != store.action_dim:
        raise UserError(
            f"env.id={config.env.id}: an action has {dim} numbers, in {store.path} it has {store.action_dim}"
        )
    return env


def parameters(model: torch.nn.Module) -> str:
    """How many, for people: "1.59M"."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M"
